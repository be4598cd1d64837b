"""Rounds of self-training: teachers' answers, and the commands of their students."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from product_cls.config.compose import compose_run
from product_cls.core.errors import UserError
from product_cls.ensemble.members import Member, load_members
from product_cls.ensemble.system import blend_runs
from product_cls.inference.class_totals import fit_temperature, tempered
from product_cls.inference.predictions import Predictions
from product_cls.inference.soft_targets import SoftTargets
from product_cls.launchers.base import job_labels, quoted, train_command
from product_cls.launchers.job import Job
from product_cls.runs.folder import RunFolder, find_runs
from product_cls.selftrain.choose import choose
from product_cls.tasks import Task

MULTIRUN = Path("multirun")
# Keys that a round sets itself. A final model's epochs are those of the run that it goes on from.
OWN_KEYS = ("name", "teacher", "start", "rerun", "epochs_from", "trainer.max_epochs")
FELL = 2.0  # standard errors by which validation may fall before the rounds stop


@dataclass(frozen=True)
class Student:
    """One line of descent: a run, and its successors in the rounds.

    Attributes:
        place: folder of the run below its sweep's.
        label: the overrides that distinguish it from the others.
        words: its overrides, without those that a round sets.
        epochs: of the run.
        learned: number of its labelled training pictures.
        held_out: ids of its validation pictures.
    """

    place: Path
    label: str
    words: tuple[str, ...]
    epochs: int
    learned: int
    held_out: frozenset[str]


@dataclass(frozen=True)
class Lesson:
    """What a round teaches a student.

    Attributes:
        targets: the teachers' answers.
        shares: the share of each view's pictures that they are.
        teachers: how many runs voted.
        temperature: that calibrated the vote on held-out pictures, 1 or more; above 1 if it was
            too confident.
    """

    targets: SoftTargets
    shares: dict[str, float]
    teachers: int
    temperature: float

    def sentence(self) -> str:
        """What is taught, by view."""
        shares = ", ".join(f"{view} {100 * share:.0f} %" for view, share in self.shares.items())
        voters = "1 run names" if self.teachers == 1 else f"{self.teachers} runs name"
        return (
            f"{voters} {len(self.targets.id)} test pictures ({shares}; temperature "
            f"{self.temperature:.2f})."
        )


def load_students(root: Path) -> tuple[list[Student], list[Member]]:
    """The runs that self-training starts from, and what each of them becomes in the rounds.

    Raises:
        UserError: a run has not finished, has no test pictures, is of a task that cannot be
            taught, knows other classes, or does not hold its command.
    """
    members = load_round([folder.path for folder in find_runs(root)], f"runs={root}")
    first = members[0].splits["test"]
    for member in members:
        if member.splits["test"].classes.tolist() != first.classes.tolist():
            raise UserError(
                f"Runs '{members[0].name}' and '{member.name}' know other classes; a teacher has "
                f"the classes of its students."
            )
    students = [_student(member, root) for member in members]
    labels = job_labels([student.words for student in students])
    return [replace(s, label=label) for s, label in zip(students, labels, strict=True)], members


def load_round(folders: Sequence[Path], where: str) -> list[Member]:
    """The finished runs in some folders, all of which can teach.

    Args:
        folders: of single runs.
        where: what they are, for messages.

    Raises:
        UserError: see ``load_students``.
    """
    members, refused = [], []
    for folder in folders:
        if why := RunFolder(folder).shortcoming():
            refused.append(f"{folder.name} {why}")
            continue
        members += load_members([folder])[0]
    if refused:
        raise UserError(
            f"{where}: {len(refused)} of {len(folders)} runs cannot teach: {'; '.join(refused)}."
        )
    for member in members:
        if "test" not in member.splits:
            raise UserError(
                f"Run '{member.name}' has no test pictures, which self-training learns from; "
                f"data.test or data.root names them."
            )
        task = member.splits["test"].make_task()
        if not (isinstance(task, Task) and task.teachable):
            raise UserError(
                f"Run '{member.name}' is of task={member.splits['test'].task['name']}; allowed: "
                f"runs of task=single_label."
            )
    return members


def _student(member: Member, root: Path) -> Student:
    folder = member.folder
    assert folder is not None, "it was loaded from its folder"
    words = [word for word in folder.overrides() if _key(word) not in OWN_KEYS]
    config = folder.config()
    compose_run(words)  # a command that is no longer understood is refused before any training
    truth, held_out = member.truth, _held_out(member)
    asked = member.splits["test"].asked
    test = asked if asked is not None else member.splits["test"].id
    if truth is None:
        raise UserError(f"Run '{member.name}' does not hold its labels; train it again.")
    learned = len(truth.id) - len(held_out) - int(np.isin(truth.id, test).sum())
    place = folder.path.relative_to(root) if folder.path != root else Path(root.name)
    return Student(place, "", tuple(words), int(config["trainer"]["max_epochs"]), learned, held_out)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def base_name(root: Path) -> str:
    """The name that the rounds' names begin with: the sweep's."""
    return root.parent.name if RunFolder(root).status_file.is_file() else root.name


def lesson(student: Student, members: Sequence[Member], number: int, rounds: int) -> Lesson:
    """What a round teaches a student.

    Its teachers are the runs that held out at least the pictures that it holds out itself, so that
    no validation picture has been learned by any of them.

    Args:
        student: whom to teach.
        members: the runs of the round before.
        number, rounds: of the round, from 1, and of all.

    Raises:
        UserError: the runs cannot be blended.
    """
    teachers = [m for m in members if student.held_out <= _held_out(m)]
    blended = blend_runs(teachers, "mean").splits
    test, val = blended["test"], blended.get("val")
    # A vote is often too cautious in the held-out views, which are the seen ones. It is never made
    # more confident for that, because it is right less often in the others.
    temperature = 1.0 if val is None else max(1.0, fit_temperature(val.scores, val.target))
    calm = tempered(test.scores, temperature)
    rows, shares = choose(calm, test.view, number, rounds)
    targets = SoftTargets(
        id=test.id[rows],
        scores=calm[rows].astype(np.float32),
        weight=calm[rows].max(axis=1).astype(np.float32),
        classes=test.classes,
    )
    return Lesson(targets, shares, len(teachers), temperature)


def _held_out(member: Member) -> frozenset[str]:
    val = member.splits.get("val")
    return frozenset(val.id.tolist()) if val is not None else frozenset()


def student_job(
    student: Student, number: int, name: str, before: Member, epochs: int | None, teacher: Path
) -> Job:
    """The job of a round, which goes on from the student's own weights.

    Args:
        student: whom to train.
        number: of the job, from 0.
        name: of the round's sweep.
        before: the student's run in the round before.
        epochs: to train; None: half of the run's, rounded up.
        teacher: file of soft targets.
    """
    words = [f"teacher={quoted(str(teacher))}"]
    return _job(student, number, name, before, _epochs(student, epochs), words)


def control_job(
    student: Student, number: int, name: str, before: Member, epochs: int | None, taught: int
) -> Job:
    """A job without a teacher that takes as many steps as one with ``taught`` more pictures.

    Args:
        student, number, name, before, epochs: as for ``student_job``.
        taught: number of pictures that the round's teachers named.
    """
    share = (student.learned + taught) / student.learned
    equal = max(1, math.floor(_epochs(student, epochs) * share + 0.5))
    return _job(student, number, name, before, equal, [])


def _epochs(student: Student, epochs: int | None) -> int:
    return epochs if epochs is not None else -(-student.epochs // 2)


def _job(
    student: Student, number: int, name: str, before: Member, epochs: int, words: Sequence[str]
) -> Job:
    assert before.folder is not None, "it was loaded from its folder"
    path = MULTIRUN / name / student.place
    command = [
        *train_command(),
        *student.words,
        f"name={quoted(name)}",
        f"trainer.max_epochs={epochs}",
        f"start={quoted(str(before.folder.best_checkpoint))}",
        *words,
        f"hydra.run.dir={quoted(str(path))}",
        f"hydra.job.num={number}",
        "hydra.mode=RUN",
    ]
    return Job(number, f"{name}: {student.label}", RunFolder(path), command, None)


def fell(before: Sequence[Member], after: Sequence[Member]) -> str | None:
    """Whether validation fell by more than chance, over the pictures that the runs held out.

    Each picture is compared with itself (McNemar 1947), so that pictures which both name right or
    wrong do not count.

    Args:
        before, after: the same runs in two rounds.

    Returns:
        A sentence with both shares; None if it did not fall, or nothing was held out.
    """
    pairs = [
        (_right(first.splits["val"]), _right(second.splits["val"]))
        for first, second in zip(before, after, strict=True)
        if "val" in first.splits
    ]
    if not pairs:
        return None
    old, new = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    lost, gained = int((old & ~new).sum()), int((new & ~old).sum())
    if lost - gained <= FELL * math.sqrt(lost + gained):
        return None
    return (
        f"Validation fell from {100 * old.mean():.1f} to {100 * new.mean():.1f} % ({lost} of "
        f"{len(old)} held-out pictures are wrong now, and {gained} are right now)."
    )


def _right(part: Predictions) -> np.ndarray:
    """Whether each picture is named right, bool ``[N]``, in the order of the ids."""
    order = np.argsort(part.id)
    return np.asarray(part.scores[order].argmax(axis=1) == part.target[order])
