"""Check a data set before training: broken pictures, copies, contradictions, names, small classes.

product-cls check data=folder data.root=PICTURES

Looks at every picture once and writes a page, tables, and folds that keep copies together. Words
are those of `product-cls train`. The exit status is 1 if there are errors.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from product_cls.config.command_line import read_command_line
from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError

if TYPE_CHECKING:
    from product_cls.audit.report import Audit

OWN = ("fold", "experiment", "sweep", "name")  # words of train that mean nothing here


@dataclass
class Arguments:
    """Check a data set before training: broken pictures, copies, contradictions, names, classes.

    check data=folder data.root=PICTURES looks at every picture once and writes report.html,
    findings.csv, groups.csv and folds.csv to multirun/check. It takes the words of train.
    The exit status is 1 if it finds errors, 0 if not.
    """


def main() -> None:
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        parse_arguments(Arguments, ["--help"], prog="python -m product_cls.audit")
    if not words:
        raise UserError("check needs your pictures: check data=folder data.root=PICTURES.")
    check_words(words)
    read_command_line(words)  # refuses what no run can have
    # Imported here, so that --help and errors appear at once.
    from product_cls.audit.report import SHOWN, write_audit
    from product_cls.display.tables import print_table

    audit = audit_data(words)
    out = Path("multirun") / "check" / audit.name
    files = write_audit(audit, out)
    print(f"{audit.headline()}.")
    if len(counts := audit.counts()):
        print_table(counts.drop(columns="what to do"), title="findings")
    for line in audit.examples(SHOWN):
        print(line)
    for note in audit.notes:
        print(f"NOTE: {note}")
    print("Written: " + ", ".join(map(str, files)))
    if audit.errors():
        raise SystemExit(1)


def check_words(words: Sequence[str]) -> None:
    """Refuse words that have no meaning without training.

    Raises:
        UserError: naming the word.
    """
    for word in words:
        key = word.partition("=")[0].lstrip("+")
        if word in ("-m", "--multirun") or key in OWN:
            raise UserError(
                f"check looks at the data alone and takes no {word}; `product-cls train` takes it."
            )


def audit_data(words: Sequence[str]) -> "Audit":
    """Look at all pictures of a data set.

    Args:
        words: of ``product-cls train``.

    Raises:
        UserError: the words are refused, or the data cannot be read as a table of samples.
    """
    from product_cls import api
    from product_cls.audit.copies import near_copies
    from product_cls.audit.facts import examine
    from product_cls.audit.report import Audit
    from product_cls.config.border import keys_for_node
    from product_cls.core.files import digest
    from product_cls.core.progress import progress_bar
    from product_cls.data.samples import combined_labels, strata_columns
    from product_cls.training.data_source import build_samples

    config = api.compose(*words)
    samples, task = build_samples(config)
    with keys_for_node(config.task):
        columns = task.stratify_by(samples)
    known = samples[strata_columns(columns)].notna().any(axis=1)
    if isinstance(columns, list):
        texts = samples[columns].map(str).agg(" ".join, axis=1)
    else:
        texts = combined_labels(samples, columns)
    labels = [str(text) if is_known else None for text, is_known in zip(texts, known, strict=True)]
    paths, most = samples["path"].tolist(), int(config.data.max_pixels)
    with progress_bar(total=len(paths), desc="pictures", unit=" pictures") as bar:
        facts = examine(paths, max_pixels=most, progress=lambda n: bar.update(n - bar.n))
    with progress_bar(desc="alike pairs", unit=" pairs") as bar:

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        near = near_copies(paths, facts, max_pixels=most, progress=told)
    return Audit(
        name=f"{config.data.name}-{digest(sorted(words))[:8]}",
        samples=samples,
        labels=labels,
        columns=columns,
        facts=facts,
        near=near,
        folds=int(config.folds.n_splits),
        seed=int(config.folds.seed),
        least=config.folds.min_per_class,
    )


if __name__ == "__main__":
    guard(main)
