"""The ensemble command as a function: from run folders to predictions, tables and files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from product_cls.core.device import pick_device
from product_cls.core.errors import UserError
from product_cls.core.files import check_place, write_text_whole
from product_cls.core.tables import formula_note, write_csv
from product_cls.display.outputs import results_in
from product_cls.display.tables import markdown
from product_cls.ensemble.class_totals import ClassTotals, with_class_totals
from product_cls.ensemble.label_thresholds import Decisions, tune_decisions
from product_cls.ensemble.members import Member, load_members
from product_cls.ensemble.system import Blended, blend_runs
from product_cls.ensemble.table import (
    default_answers,
    ensemble_table,
    group_votes,
    write_submission,
)
from product_cls.ensemble.tune_weights import check_numbers, find_weights
from product_cls.ensemble.verified import verify_blend
from product_cls.inference.class_totals import LEGITIMATE
from product_cls.inference.predictions import Predictions
from product_cls.inference.predictions_table import predictions_table
from product_cls.runs.folder import RunFolder


@dataclass(frozen=True)
class EnsembleResult:
    """Blended runs with their tables, thresholds and notes.

    Attributes:
        members: the finished runs.
        left_out: sentences about the other runs, without a full stop.
        blended: the runs as one system, before thresholds are tuned.
        splits: its predictions by split (``val`` out of fold, ``test``); for several labels a
            picture, their task has the tuned thresholds.
        weights: of the members in the vote; None for equal weights.
        tables: (measure, with test-time augmentation or not) -> table, see ``ensemble_table``.
        decisions: thresholds for several labels per picture; None for one label.
        notes: sentences about weights and a share tuned on held-out pictures, and about pictures
            that the submission answers by default.
        totals: the test under class totals; None unless they were asked for.
    """

    members: list[Member]
    left_out: list[str]
    blended: Blended
    splits: dict[str, Predictions]
    weights: list[float] | None
    tables: dict[tuple[str, bool], pd.DataFrame]
    decisions: Decisions | None
    notes: list[str]
    totals: ClassTotals | None = None

    @property
    def measures(self) -> list[str]:
        """Measures of the tables, the task's main measure first."""
        return list(dict.fromkeys(measure for measure, _ in self.tables))

    def table(self) -> pd.DataFrame:
        """All tables concatenated, with a column ``tta``, and ``measure`` if there are several."""
        several = len(self.measures) > 1
        return pd.concat(
            [
                table.assign(tta=tta, **({"measure": measure} if several else {}))
                for (measure, tta), table in self.tables.items()
            ]
        )

    @property
    def inputs(self) -> list[RunFolder]:
        """Folders of the runs that are in the vote, in the order of ``members``."""
        weights = self.weights or [1.0] * len(self.members)
        pairs = zip(self.members, weights, strict=True)
        return [run.folder for run, weight in pairs if weight > 0 and run.folder is not None]

    def formulas(self, csv: str) -> str | None:
        """A sentence about names in the tables that a spreadsheet would run; None without any.

        Args:
            csv: how tables are written.
        """
        names = [pd.Series(p.id) for p in self.splits.values()]
        names += [pd.Series(p.classes) for p in self.splits.values()]
        return formula_note([pd.concat(names).to_frame("name")], csv)

    @property
    def count(self) -> str:
        """How many runs were blended: ``2 of 3 runs``."""
        total = len(self.members) + len(self.left_out)
        return f"{len(self.members)} of {total} runs"

    def sentences(self) -> list[str]:
        """What readers of the tables must know: runs that are left out, and the notes."""
        left_out = [f"LEFT OUT: {reason}." for reason in self.left_out]
        blended = [f"Blended: {self.count}."] if left_out else []
        return [*left_out, *blended, *self.notes]

    def write(self, out: Path, *, csv: str = "plain") -> list[Path]:
        """Write predictions, tables, thresholds and a submission to ``out``.

        Args:
            out: the folder.
            csv: how tables are written, ``plain`` or ``excel``, see ``core.tables``.

        Returns:
            The tables, thresholds and submission, without the predictions files.

        Raises:
            UserError: a file cannot be written, for example because the disk is full.
        """
        with results_in(out):
            return self._write(out, csv)

    def _write(self, out: Path, csv: str) -> list[Path]:
        for split, predictions in self.splits.items():
            predictions.save(out / "predictions" / f"{split}.npz")
            table = predictions_table(predictions)
            write_csv(out / "predictions" / f"{split}.csv", table, style=csv)
        files = [out / "table.csv", out / "table.md"]
        write_csv(files[0], self.table().round(4), style=csv)
        pages = [
            f"{title[0].upper()}{title[1:]}:\n\n{markdown(table)}"
            for title, table in ((title_of(*key), table) for key, table in self.tables.items())
        ]
        notes = [f"{sentence}\n" for sentence in self.sentences()]
        write_text_whole(files[1], "\n".join([*pages, *notes]))
        if self.decisions is not None:
            files += self.decisions.write(out, csv=csv)
        if "test" in self.splits:
            files.append(out / "submission.csv")
            write_submission(self.splits["test"], files[-1])
        if self.totals is not None:
            self.totals.test.save(out / "predictions" / "test-class-totals.npz")
            files.append(out / "submission-class-totals.csv")
            write_submission(self.totals.test, files[-1])
        return files


def title_of(measure: str, tta: bool) -> str:
    """Title of the table of a measure."""
    return f"{measure} in %, {'with' if tta else 'without'} TTA"


def blend_folders(
    roots: Sequence[str | Path],
    *,
    method: str = "mean",
    weights: str | Sequence[float] | None = None,
    share: float | None = None,
    thresholds: str | None = None,
    goal: str = "accuracy",
    prior: str | None = None,
    verify: str | None = None,
    device: str = "auto",
    out: str | Path | None = None,
) -> EnsembleResult:
    """Blend the finished runs below some folders.

    Args:
        roots: folders of runs or sweeps.
        method: of the vote, see ``voting.blend``.
        weights: one per run, in the order of the folders and of the runs' names; ``greedy`` or
            ``optimised`` to tune them on held-out pictures; None for equal weights.
        share: weight of the retrieval runs against the softmax runs, 0 to 1; None tunes it out of
            fold.
        thresholds, goal: for several labels per picture, see ``tune_decisions``.
        prior: class totals of the test, see ``with_class_totals``; None for none.
        verify: ``sift`` joins the scores with matched points, see ``verify_blend``; None does not.
        device: where retrieval runs are searched: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>``.
        out: folder to write to; None writes nothing.

    Raises:
        UserError: no folders, no finished run in one of them, runs that cannot be blended, a
            setting that does not suit them, or a folder that cannot be written.
    """
    folders = [Path(root) for root in roots]
    if not folders:
        raise UserError("runs is empty; it needs the folder of a run or of a sweep.")
    if out is not None:
        check_place(Path(out))
    torch_device = pick_device(device)
    if verify not in (None, "sift"):
        raise UserError(f"verify={verify}; allowed: sift, null.")
    members, left_out = load_members(folders)
    tuned = find_weights(members, weights, method) if isinstance(weights, str) else None
    numbers = tuned.runs if tuned is not None else check_numbers(weights)
    blended = blend_runs(members, method, numbers, share, torch_device)
    votes = group_votes(members, method, torch_device)
    if tuned is not None:
        # In-sample weights would bias validation; use the cross-fitted scores.
        blended = replace(blended, splits=blended.splits | {"val": tuned.val})
    before, sentences = None, []
    if verify is not None:
        verified = verify_blend(blended.splits, members, folders[0])
        before, blended = blended, replace(blended, splits=verified.splits)
        sentences = [verified.sentence]
    decisions = tune_decisions(blended.splits, thresholds, goal)
    notes = [*sentences, *([] if tuned is None else tuned.sentences)]
    totals = None
    if prior is not None:
        totals = with_class_totals(prior, blended.splits, members)
        notes.append(LEGITIMATE)
    if "test" in blended.splits:
        answered = blended.splits["test"] if decisions is None else decisions.splits["test"]
        if (sentence := default_answers(answered)) is not None:
            notes.append(sentence)
    measures = next(iter(blended.splits.values())).make_task().measures
    result = EnsembleResult(
        members=members,
        left_out=left_out,
        blended=blended,
        splits=blended.splits if decisions is None else decisions.splits,
        weights=numbers,
        tables={
            (measure, tta): ensemble_table(
                members,
                blended,
                votes,
                method,
                tta=tta,
                measure=measure,
                weights=numbers,
                totals=totals,
                before=before,
            )
            for measure in measures
            for tta in (True, False)
        },
        decisions=decisions,
        totals=totals,
        notes=[*notes, *blended.notes],
    )
    if out is not None:
        result.write(Path(out))
    return result
