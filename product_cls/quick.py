"""A first answer about own pictures: accuracy, confused products and doubtful labels.

product-cls quick data=folder data.root=PICTURES

Fits a probe to features of a pretrained network, fold by fold, and writes a page about the pictures
that were held out. Folds are held-out views or groups where the data name them, else random. Words
are those of `product-cls train`; typed again, finished folds are taken over.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from product_cls.config.command_line import read_command_line
from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from product_cls.report.held_out import HeldOutStudy

# Words of train unless the user types others.
DEFAULTS = {
    "task": "probe",
    "model": "lite0",
    "data.size": "160",  # larger pictures cost more time and give better features
    "data.fit": "pad",
    "tta": "[identity]",
    "name": "quick",
}
FOLDS = 5  # random ones; fewer where most classes have fewer pictures
SHOWN = 5  # pairs and pictures on the console


@dataclass
class Arguments:
    """A first answer about own pictures: accuracy, confused products and doubtful labels.

    quick data=folder data.root=PICTURES fits a probe to every fold and writes a page. It takes the
    words of train, and chooses folds by view or by group where the data name them.
    """


def main() -> None:
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        parse_arguments(Arguments, ["--help"], prog="python -m product_cls.quick")
    if not words:
        raise UserError("quick needs your pictures: quick data=folder data.root=PICTURES.")
    check_words(words)
    typed = {word.partition("=")[0] for word in words}
    defaults = [f"{key}={value}" for key, value in DEFAULTS.items() if key not in typed]
    read_command_line([*defaults, *words])  # refuses what no run can have
    # Imported here, so that --help and errors appear at once.
    from product_cls.display.tables import print_table
    from product_cls.report.held_out import pairs_table, pictures_table, views_table
    from product_cls.report.held_out_report import write_held_out_report

    root, study, folds = probe_folds([*defaults, *words])
    row = study.row(None)
    files, problems = write_held_out_report(study, row, root / "report")
    print(f"{study.headline()}.")
    print(row.interval())
    if (views := views_table(row)) is not None:
        print_table(views, title="by view")
    pairs = pairs_table(row).head(SHOWN)
    if len(pairs):
        print_table(pairs, title="most often confused")
    print_table(pictures_table(row).head(SHOWN), title="the most doubtful labels")
    for sentence in [*study.notes, *problems]:
        print(f"NOTE: {sentence}")
    print("Written: " + ", ".join(map(str, files)))
    print(f"Next, fine-tuning: product-cls train -m {shlex.join([*words, *folds])}")


def check_words(words: Sequence[str]) -> None:
    """Refuse words that this command sets itself.

    Raises:
        UserError: naming the word.
    """
    for word in words:
        key = word.partition("=")[0].lstrip("+")
        if word in ("-m", "--multirun") or key in ("fold", "experiment", "sweep", "task"):
            raise UserError(
                f"quick fits a probe to every fold by itself and takes no {word}; "
                f"`product-cls train` takes it."
            )


def probe_folds(words: Sequence[str]) -> "tuple[Path, HeldOutStudy, list[str]]":
    """Train a probe for each fold.

    Args:
        words: of ``product-cls train``, with ``DEFAULTS``.

    Returns:
        The folder of the runs, their results on the pictures that they held out, and the words by
        which a sweep trains the same folds.

    Raises:
        UserError: the words or the data are refused.
    """
    from product_cls import api
    from product_cls.core.files import digest
    from product_cls.report.held_out import read_held_out
    from product_cls.training.data_source import build_folds, build_samples

    words = list(words)
    config = api.compose(*words)
    samples, task = build_samples(config)
    chosen: list[str] = []
    if not any(word.lstrip("+").startswith("folds.") for word in words):
        chosen = fold_words(samples, str(task.label))
        words += chosen
        config = api.compose(*words)
        print(f"Folds: {' '.join(chosen)}")
    folds, _ = build_folds(config, samples, task)
    # Other words have another folder, so that a page never mixes the runs of two commands.
    root = Path("multirun") / str(config.name) / f"{config.data.name}-{digest(sorted(words))[:8]}"
    numbers = sorted(set(folds[folds >= 0].tolist()))
    for number in numbers:
        run = api.train(api.compose(*words, f"fold={number}"), folder=root / f"fold={number}")
        metrics = run.metrics
        accuracy = metrics["val"].get("accuracy")
        shown = "" if accuracy is None else f": {100 * accuracy:.1f} % of the held-out pictures"
        print(f"fold {number + 1} of {len(numbers)}{shown}", flush=True)
        if metrics["weights"]["fallback"] and number == numbers[0]:
            print("NOTE: the network has random weights, so expect little; see the log above.")
    return root, read_held_out(root), [*chosen, f"fold={','.join(map(str, numbers))}"]


def fold_words(samples: "pd.DataFrame", label: str) -> list[str]:
    """Words for folds that are as honest as the data allow.

    Args:
        samples: the sample table.
        label: column of the classes.

    Returns:
        Held-out views if the training pictures name two or more, else held-out groups if they name
        five or more, else random folds, with fewer folds where most classes are small.
    """
    rows = samples[samples["split"] != "test"]
    if "given_fold" in rows:
        return ["folds.strategy=column"]
    if "view" in rows and rows["view"].nunique() > 1:
        return ["folds.strategy=view"]
    counted = rows[label].value_counts()
    strategy = "stratified"
    if "group" in rows and rows["group"].nunique() >= FOLDS:
        counted = rows.groupby(label)["group"].nunique()
        strategy = "stratified_group"
    count = min(FOLDS, max(2, int(counted.median())))
    words = [f"folds.strategy={strategy}", f"folds.n_splits={count}"]
    return words + [f"folds.min_per_class={count}"] * bool((counted < count).any())


if __name__ == "__main__":
    guard(main)
