"""Files of folds: computed once and read back by every run, so all hold out the same pictures.

A file has the columns ``id, fold``; fold -1 means "always learned from". In files that this module
made, a first line that starts with ``#`` records the strategy, the number of splits, the seed and a
fingerprint of the samples.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from product_cls.core.errors import reason
from product_cls.core.files import digest
from product_cls.core.names import nfc, shown
from product_cls.core.tables import read_csv_rows, write_csv
from product_cls.data.fold_column import FOLD
from product_cls.data.folds import Strategy, make_folds
from product_cls.data.samples import GIVEN_FOLD, Strata, strata_columns

MAKE_ANEW = "delete it, and it is made anew"
NAME_ANOTHER = "name another, or null for folds that are made for these samples"


def automatic_file(
    prefix: Path,
    samples: pd.DataFrame,
    strategy: Strategy,
    *,
    label: Strata = "label",
    min_per_class: int | None = None,
) -> tuple[Path, Path | None]:
    """The file of the folds of these samples, whose name holds a fingerprint of them.

    Args:
        prefix: folder and beginning of the name, equal for the same settings.
        samples, strategy, label, min_per_class: as for ``make_folds``.

    Returns:
        The file, and the latest file with the same prefix for other samples if the file does not
        exist yet; None if there is none.
    """
    fingerprint = folds_fingerprint(samples, strategy, label, min_per_class)
    file = prefix.with_name(f"{prefix.name}-{fingerprint[:8]}.csv")
    if file.exists():
        return file, None
    ending = len("-12345678.csv")
    others = [f for f in prefix.parent.glob("*.csv") if f.name[:-ending] == prefix.name]
    return file, max(others, key=lambda f: f.stat().st_mtime_ns, default=None)


def folds_fingerprint(
    samples: pd.DataFrame, strategy: Strategy, label: Strata, min_per_class: int | None
) -> str:
    """Digest of the training rows' columns that the folds depend on.

    A relabelled picture changes the stratification, for example.
    """
    rows = samples[samples["split"] != "test"]
    strategy_columns = {
        "stratified": strata_columns(label),
        "stratified_group": [*strata_columns(label), "group"],
        "view": ["view"],
        "own": ["split"],
        "column": [GIVEN_FOLD],
    }.get(strategy, [])
    if min_per_class is not None:
        strategy_columns = list(dict.fromkeys([*strategy_columns, *strata_columns(label), "group"]))
    columns = ["id", *(column for column in strategy_columns if column in rows)]
    return digest(rows[columns].astype(str).to_numpy().tolist())


def load_or_make_folds(
    file: Path,
    samples: pd.DataFrame,
    strategy: Strategy,
    *,
    n_splits: int = 5,
    seed: int = 0,
    label: Strata = "label",
    min_per_class: int | None = None,
    automatic: bool = False,
) -> "pd.Series[int]":
    """Read the folds from ``file``; if it does not exist, make and write them first.

    Args:
        file: the CSV file.
        samples, strategy, n_splits, seed, label, min_per_class: as for ``make_folds``.
        automatic: whether the program chose the file, so that a message may say to delete it.

    Raises:
        ValueError: the file was made for other samples or with another strategy, cannot be read or
            cannot be written; or what ``make_folds`` refuses.
        UserError: what ``make_folds`` refuses.
    """
    rows = samples[samples["split"] != "test"]
    fingerprint = folds_fingerprint(samples, strategy, label, min_per_class)
    settings = f"strategy={strategy} n_splits={n_splits} seed={seed}"
    if min_per_class is not None:
        settings += f" min_per_class={min_per_class}"
    header = f"# {settings} samples={fingerprint}"
    remedy = MAKE_ANEW if automatic else NAME_ANOTHER
    try:
        if not file.is_file():  # written atomically, so reading needs no lock and no permission
            folds = make_folds(
                samples,
                strategy,
                n_splits=n_splits,
                seed=seed,
                label=label,
                min_per_class=min_per_class,
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{file.name}.lock")):
                if not file.is_file():
                    write_csv(file, folds.reset_index(), comment=header)
    except OSError as error:
        raise ValueError(
            f"file={file}: the folds file cannot be written: {error.strerror or error}; name "
            f"another."
        ) from None
    text = _read(file, remedy)
    first_line, _, rest = text.partition("\n")
    # A file without the header is the user's own; its ids are still checked below.
    if first_line.startswith("#"):
        text, first_line = rest, first_line.strip()
        if first_line != header:
            there, _, _ = first_line.strip("# ").rpartition(" samples=")
            difference = (
                "for other samples" if there == settings else f"with '{there or first_line[:60]}'"
            )
            raise ValueError(
                f"file={file}: this folds file was made {difference}, not for these {len(rows)} "
                f"training pictures with {settings}; {remedy}."
            )
    return _folds_of(rows["id"], _parse(text, file, remedy), file, remedy)


def read_folds(file: Path) -> "pd.Series[int]":
    """The folds in a file, whatever samples it is for: int64, index ``id``.

    Raises:
        ValueError: the file cannot be read.
    """
    text = _read(file, MAKE_ANEW)
    first_line, _, rest = text.partition("\n")
    return _parse(rest if first_line.startswith("#") else text, file, MAKE_ANEW)


def _read(file: Path, remedy: str) -> str:
    """The text of a folds file; a carriage return inside it stays one.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else reason(error)
        raise ValueError(
            f"file={file}: the folds file cannot be read ({why}); it needs 'id,fold' rows in "
            f"UTF-8; {remedy}."
        ) from None


def _parse(text: str, file: Path, remedy: str) -> "pd.Series[int]":
    """The folds in a file, int64, index ``id``.

    Raises:
        ValueError: the text has no such columns, or a fold that is no whole number, -1 or more.
    """

    def refusal(what: str) -> ValueError:
        return ValueError(
            f"file={file}: the folds file cannot be read: {what}; it needs 'id,fold' rows with "
            f"folds 0, 1, ..., or -1 for a picture that is always learned from; {remedy}."
        )

    try:
        header, *lines = [line for line in read_csv_rows(text) if line] or [[]]
    except ValueError as error:
        raise refusal(reason(error)) from None
    header = [name.strip() for name in header]
    if not {"id", "fold"} <= set(header):
        raise refusal(f"its first row is '{shown(','.join(header))[:60]}'")
    where: dict[str, int] = {name: header.index(name) for name in ("id", "fold")}
    ids: list[str] = []
    folds: list[int] = []
    for number, line in enumerate(lines, start=1):
        fold = line[where["fold"]].strip() if len(line) == len(header) else ""
        if not FOLD.fullmatch(fold):
            raise refusal(f"picture {number} has the fold '{shown(fold)}'")
        ids.append(line[where["id"]])
        folds.append(int(fold.partition(".")[0]))
    return pd.Series(folds, index=pd.Index(ids, name="id"), name="fold", dtype=np.int64)


def _folds_of(
    ids: "pd.Series[str]", table: "pd.Series[int]", file: Path, remedy: str
) -> "pd.Series[int]":
    """The folds of ``ids`` in their order; names are compared in one Unicode form.

    Raises:
        ValueError: the file names a picture twice, or lacks a picture, or names others.
    """
    table.index = table.index.map(nfc)
    wanted = ids.map(nfc)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise ValueError(f"file={file}: the folds file names '{shown(twice)}' twice; {remedy}.")
    missing, foreign = wanted[~wanted.isin(table.index)], table.index[~table.index.isin(wanted)]
    if len(missing) or len(foreign):
        parts = [
            f"it lacks {len(missing)} of {len(wanted)} training pictures, the first is "
            f"'{shown(missing.iloc[0])}'"
            if len(missing)
            else "",
            f"it names {len(foreign)} others, the first is '{shown(foreign[0])}'"
            if len(foreign)
            else "",
        ]
        fix = MAKE_ANEW if remedy == MAKE_ANEW else f"correct it, or {remedy}"
        raise ValueError(
            f"file={file}: the folds file holds other ids than the samples: "
            f"{', and '.join(filter(None, parts))}; {fix}."
        )
    folds = table.reindex(wanted)
    folds.index = pd.Index(ids, name="id")
    return folds
