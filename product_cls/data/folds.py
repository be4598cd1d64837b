"""Which sample is held out when: computed once, kept in a file, read back ever after.

``folds.csv`` has the columns ``id, fold``; a first line that starts with ``#`` names the strategy,
the number of splits, the seed and the fingerprint of the samples it was made for. Fold -1 means
"never held out".
"""

import warnings
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from filelock import FileLock

from product_cls.core.errors import UserError
from product_cls.core.files import digest, write_text_whole
from product_cls.data.samples import Strata, combined_labels, natural_key, strata_columns
from product_cls.data.stratify import iterative_folds

Strategy = Literal["stratified", "stratified_group", "view", "own"]


def make_folds(
    samples: pd.DataFrame,
    strategy: Strategy,
    *,
    n_splits: int = 5,
    seed: int = 0,
    label: Strata,
) -> "pd.Series[int]":
    """The fold in which each sample is held out, by id.

    Args:
        samples: the sample table; its ``test`` rows are left out.
        strategy: ``stratified`` (each fold has the classes in proportion), ``stratified_group``
            (likewise, and a ``group`` never stands in two folds), ``view`` (fold k holds out the
            k-th of the sorted views: an honest estimate under the shift), ``own`` (fold 0 holds out
            the validation part that the data set itself names).
        n_splits: number of folds for the stratified strategies; the other two know their own.
        seed: of the shuffle before a stratified split.
        label: what to stratify by.

    Returns:
        int64, index ``id``, values in [-1, number of folds - 1].

    Raises:
        UserError: an unknown strategy, a column it needs is missing, a class or the groups are
            fewer than the folds (of several columns: a class has a single picture), or a class is
            in one group only.
    """
    rows = samples[samples["split"] != "test"]
    folds = np.full(len(rows), -1, dtype=np.int64)
    if strategy in ("stratified", "stratified_group") and n_splits < 2:
        raise UserError(f"folds.n_splits={n_splits}; at least 2 are needed.")
    if strategy == "stratified" and isinstance(label, list):
        targets = rows[label].astype(float).to_numpy()
        _check_label_sizes(targets, n_splits, label)
        folds = iterative_folds(targets, n_splits, seed)
    elif isinstance(label, list) and strategy == "stratified_group":
        raise UserError(
            "folds.strategy=stratified_group goes by a single label column; allowed for several: "
            "stratified, view, own."
        )
    elif strategy == "stratified":
        assert not isinstance(label, list)
        _check_sizes(rows, strategy, n_splits, label)
        folds = stratified_folds(combined_labels(rows, label).to_numpy(), n_splits, seed)
    elif strategy == "stratified_group":
        # Imported here: a job mostly finds its folds in their file.
        from sklearn.model_selection import StratifiedGroupKFold

        assert not isinstance(label, list)
        _check_sizes(rows, strategy, n_splits, label)
        labels = combined_labels(rows, label)
        splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # Combinations that are fewer than the folds are spread over some of them.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            parts = splitter.split(np.zeros(len(rows)), labels, rows["group"])
            for k, (_, held_out) in enumerate(parts):
                folds[held_out] = k
    elif strategy == "view":
        if "view" not in rows or rows["view"].isna().any():
            raise UserError("folds.strategy=view needs a known view for every training picture.")
        views = sorted(rows["view"].unique())
        if len(views) < 2:
            raise UserError(f"folds.strategy=view needs at least 2 views; there is {len(views)}.")
        folds = rows["view"].map({view: k for k, view in enumerate(views)}).to_numpy(np.int64)
    elif strategy == "own":
        folds = np.where(rows["split"] == "val", 0, -1)
        if not (folds == 0).any():
            raise UserError(
                "folds.strategy=own needs a validation part in the data set (val.txt, or rows "
                "with split=val); use folds.strategy=stratified."
            )
    else:
        raise UserError(
            f"Unknown folds.strategy '{strategy}'; allowed: {', '.join(get_args(Strategy))}."
        )
    return pd.Series(folds, index=pd.Index(rows["id"], name="id"), name="fold")


def stratified_folds(labels: np.ndarray, n_splits: int, seed: int) -> np.ndarray:
    """The folds of scikit-learn's ``StratifiedKFold(n_splits, shuffle=True, random_state=seed)``.

    The same to the last picture, but scikit-learn walks through all pictures for each class, which
    for 500,000 pictures of 100,000 classes takes minutes.

    Args:
        labels: ``[N]``; a class with fewer pictures than folds is spread over some of them.

    Returns:
        int64 ``[N]``, 0 to ``n_splits`` - 1.
    """
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    appearance = np.argsort(np.argsort(first))  # classes are numbered as they come in the table
    label = appearance[label]
    order = np.argsort(label, kind="stable")
    dealt = np.arange(len(order)) % n_splits  # in turns over the pictures, class by class
    draw = np.random.RandomState(seed)  # scikit-learn's
    folds = np.empty(len(order), dtype=np.int64)
    ends = np.cumsum(np.bincount(label))
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        shares = np.sort(dealt[start:end])
        draw.shuffle(shares)
        folds[order[start:end]] = shares
    return folds


def _check_label_sizes(targets: np.ndarray, n_splits: int, labels: list[str]) -> None:
    there = targets.sum(axis=0)
    fewest = np.minimum(there, len(targets) - there)
    rarest = int(fewest.argmin())
    if fewest[rarest] < n_splits:
        kind = "with" if there[rarest] == fewest[rarest] else "without"
        raise UserError(
            f"{int(fewest[rarest])} pictures are {kind} the label '{labels[rarest]}', fewer than "
            f"folds.n_splits={n_splits}; lower folds.n_splits, add pictures or leave the label out "
            f"of task.labels."
        )


def _check_sizes(
    rows: pd.DataFrame, strategy: str, n_splits: int, label: str | tuple[str, ...]
) -> None:
    if strategy == "stratified_group":
        if "group" not in rows or rows["group"].isna().any():
            raise UserError("folds.strategy=stratified_group needs a group for every picture.")
        if (groups := rows["group"].nunique()) < n_splits:
            raise UserError(f"{groups} groups are fewer than folds.n_splits={n_splits}.")
    for column in strata_columns(label):
        labels = rows[column][rows[column].notna()].astype(str)
        if strategy == "stratified_group":
            spread = rows["group"].groupby(labels).nunique()
            if spread.min() < 2:
                raise UserError(
                    f"All pictures of the class '{spread.idxmin()}' ({column}) are in one group; "
                    f"held out, it would leave nothing of the class to learn from."
                )
        elif not isinstance(label, str) and (counts := labels.value_counts()).min() < 2:
            raise UserError(
                f"The class '{counts.idxmin()}' ({column}) has a single picture; at least 2 are "
                f"needed, one to learn from and one to hold out."
            )
    counts = combined_labels(rows, label).value_counts()
    # Of several labels together rare combinations need not be in every fold.
    if (most := counts.min() if isinstance(label, str) else counts.max()) < n_splits:
        small = sorted(counts.index[counts < n_splits], key=natural_key)
        raise UserError(
            f"{len(small)} classes have fewer pictures than folds.n_splits={n_splits}, "
            f"the smallest is '{counts.idxmin()}' with {counts.min()}; "
            f"lower folds.n_splits to at most {most} or add pictures."
        )


def load_or_make_folds(
    file: Path,
    samples: pd.DataFrame,
    strategy: Strategy,
    *,
    n_splits: int = 5,
    seed: int = 0,
    label: Strata = "label",
) -> "pd.Series[int]":
    """Folds from ``file``, made and written first where there is none (arguments: ``make_folds``).

    Raises:
        UserError: the file was made for other samples or with another strategy, or cannot be read
            or written; what ``make_folds`` refuses.
    """
    rows = samples[samples["split"] != "test"]
    # What the strategy reads belongs to the fingerprint: a relabelled picture, say, makes another
    # stratification.
    read = {
        "stratified": strata_columns(label),
        "stratified_group": [*strata_columns(label), "group"],
        "view": ["view"],
        "own": ["split"],
    }.get(strategy, [])
    columns = ["id", *(column for column in read if column in rows)]
    marks = digest(rows[columns].astype(str).to_numpy().tolist())
    header = f"# strategy={strategy} n_splits={n_splits} seed={seed} samples={marks}"
    try:
        if not file.is_file():  # it is written whole, so reading needs neither lock nor rights
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{file.name}.lock")):
                if not file.is_file():
                    folds = make_folds(samples, strategy, n_splits=n_splits, seed=seed, label=label)
                    write_text_whole(file, header + "\n" + folds.to_csv())
    except OSError as error:
        raise UserError(
            f"The folds file {file} cannot be written: {error.strerror or error}; "
            f"name another with folds.file."
        ) from None
    found = file.read_text(errors="replace").partition("\n")[0].strip()
    # A file without the header is the user's own; its ids are checked below all the same.
    if found.startswith("#") and found != header:
        settings, _, _ = found.strip("# ").rpartition(" samples=")
        same = header.startswith(f"# {settings} ")
        reason = "for other samples" if same else f"with '{settings or found[:60]}'"
        raise UserError(
            f"The folds file {file} was made {reason}, not for these {len(rows)} training pictures "
            f"with strategy={strategy} n_splits={n_splits} seed={seed}; delete it, or name another "
            f"with folds.file."
        )
    try:
        # Ids are text, whatever they look like, and may hold a '#'.
        table = pd.read_csv(
            file,
            skiprows=1 if found.startswith("#") else 0,
            dtype={"id": str, "fold": np.int64},
            keep_default_na=False,
        ).set_index("id")["fold"]
    except (ValueError, KeyError):  # pandas' parser errors are ValueErrors
        raise UserError(f"The folds file {file} cannot be read: it needs 'id,fold' rows.") from None
    if table.index.has_duplicates or set(table.index) != set(rows["id"]):
        raise UserError(f"The folds file {file} holds other ids than the samples; delete it.")
    return table.reindex(rows["id"])


def groups_in_several_folds(samples: pd.DataFrame, folds: "pd.Series[int]") -> int:
    """How many groups do not stay together; 0 where the samples have no column ``group``."""
    if "group" not in samples:
        return 0
    group = samples.set_index("id")["group"].reindex(folds.index)
    return int((folds.groupby(group).nunique() > 1).sum())


def split_rows(folds: "pd.Series[int]", fold: int | str) -> tuple[np.ndarray, np.ndarray]:
    """Ids to learn from and ids to hold out.

    Args:
        folds: from ``load_or_make_folds``.
        fold: which fold to hold out, or ``all`` to hold out nothing.

    Raises:
        UserError: there is no such fold.
    """
    ids = folds.index.to_numpy()
    if fold == "all":
        return ids, ids[:0]
    known = sorted(int(k) for k in folds.unique() if k >= 0)
    if fold not in known:
        raise UserError(f"fold={fold} does not exist; allowed: {', '.join(map(str, known))}, all.")
    held_out = folds.to_numpy() == fold
    return ids[~held_out], ids[held_out]
