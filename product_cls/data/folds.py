"""Cross-validation folds: computed once, stored in a file, and read from it from then on.

``folds.csv`` has the columns ``id, fold``. A first line that starts with ``#`` records the
strategy, the number of splits, the seed and a fingerprint of the samples. Fold -1 means "never held
out".
"""

import warnings
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from filelock import FileLock

from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.core.tables import write_csv
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
    """Assign each sample to the fold that holds it out.

    Args:
        samples: the sample table; its ``test`` rows are ignored.
        strategy: ``stratified`` (each fold has the classes in proportion), ``stratified_group``
            (also keeps each ``group`` in one fold), ``view`` (fold k holds out the k-th of the
            sorted views, which estimates accuracy under the shift between views), ``own`` (fold 0
            holds out the data set's own validation part).
        n_splits: number of folds of the stratified strategies; the other two determine theirs.
        seed: seed of the shuffle before a stratified split.
        label: what to stratify by.

    Returns:
        int64, index ``id``, values from -1 to the number of folds - 1.

    Raises:
        ValueError: an unknown strategy or one that the table does not suit, or more folds than
            groups or than pictures of a class.
        UserError: a class with a single picture, or with pictures in a single group.
    """
    rows = samples[samples["split"] != "test"]
    folds = np.full(len(rows), -1, dtype=np.int64)
    if strategy in ("stratified", "stratified_group") and n_splits < 2:
        raise ValueError(f"n_splits={n_splits}; allowed: 2 or more.")
    if strategy == "stratified" and isinstance(label, list):
        targets = rows[label].astype(float).to_numpy()
        _check_label_sizes(targets, n_splits, label)
        folds = iterative_folds(targets, n_splits, seed)
    elif isinstance(label, list) and strategy == "stratified_group":
        raise ValueError(
            "strategy=stratified_group needs one label per picture; allowed with several: "
            "stratified, view, own."
        )
    elif strategy == "stratified":
        assert not isinstance(label, list)
        _check_class_sizes(rows, n_splits, label)
        folds = stratified_folds(combined_labels(rows, label).to_numpy(), n_splits, seed)
    elif strategy == "stratified_group":
        # Imported here because most jobs read their folds from the file.
        from sklearn.model_selection import StratifiedGroupKFold

        assert not isinstance(label, list)
        _check_groups(rows, n_splits, label)
        labels = combined_labels(rows, label)
        splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # Label combinations of fewer than n_splits pictures are spread over some of the folds.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            parts = splitter.split(np.zeros(len(rows)), labels, rows["group"])
            for k, (_, held_out) in enumerate(parts):
                folds[held_out] = k
    elif strategy == "view":
        if "view" not in rows or rows["view"].isna().any():
            raise ValueError("strategy=view needs a known view for every training picture.")
        views = sorted(rows["view"].unique())
        if len(views) < 2:
            raise ValueError(f"strategy=view needs at least 2 views; there is {len(views)}.")
        folds = rows["view"].map({view: k for k, view in enumerate(views)}).to_numpy(np.int64)
    elif strategy == "own":
        folds = np.where(rows["split"] == "val", 0, -1)
        if not (folds == 0).any():
            raise ValueError(
                "strategy=own needs a validation part in the data set (val.txt, or rows with "
                "split=val); use stratified instead."
            )
    else:
        raise ValueError(f"strategy={strategy}; allowed: {', '.join(get_args(Strategy))}.")
    return pd.Series(folds, index=pd.Index(rows["id"], name="id"), name="fold")


def stratified_folds(labels: np.ndarray, n_splits: int, seed: int) -> np.ndarray:
    """The folds of scikit-learn's ``StratifiedKFold(n_splits, shuffle=True, random_state=seed)``.

    The folds are identical for every picture. scikit-learn passes over all pictures for each class,
    which takes minutes for 500,000 pictures of 100,000 classes.

    Args:
        labels: ``[N]``, any dtype that sorts; a class with fewer pictures than folds is spread over
            some of them.
        n_splits: number of folds, 2 or more.
        seed: seed of the shuffle.

    Returns:
        int64 ``[N]``, 0 to ``n_splits`` - 1.
    """
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    appearance = np.argsort(np.argsort(first))  # number classes in their order in the table
    label = appearance[label]
    order = np.argsort(label, kind="stable")
    dealt = np.arange(len(order)) % n_splits  # round-robin over the pictures, class by class
    rng = np.random.RandomState(seed)  # as scikit-learn does
    folds = np.empty(len(order), dtype=np.int64)
    ends = np.cumsum(np.bincount(label))
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        class_folds = np.sort(dealt[start:end])
        rng.shuffle(class_folds)
        folds[order[start:end]] = class_folds
    return folds


def _check_label_sizes(targets: np.ndarray, n_splits: int, labels: list[str]) -> None:
    """Check that every 0/1 label has ``n_splits`` pictures with it and as many without it."""
    with_label = targets.sum(axis=0)
    fewest = np.minimum(with_label, len(targets) - with_label)
    rarest = int(fewest.argmin())
    if fewest[rarest] < n_splits:
        preposition = "with" if with_label[rarest] == fewest[rarest] else "without"
        raise ValueError(
            f"n_splits={n_splits} exceeds the {int(fewest[rarest])} pictures {preposition} the "
            f"label '{labels[rarest]}'; lower it, add pictures, or leave the label out of the task."
        )


def _check_groups(rows: pd.DataFrame, n_splits: int, label: str | tuple[str, ...]) -> None:
    """Check that every fold gets a group, and that no class is in a single group."""
    if "group" not in rows or rows["group"].isna().any():
        raise ValueError("strategy=stratified_group needs a group for every picture.")
    if (groups := rows["group"].nunique()) < n_splits:
        raise ValueError(f"n_splits={n_splits} exceeds the {groups} groups; lower it.")
    for column in strata_columns(label):
        labels = rows[column][rows[column].notna()].astype(str)
        spread = rows["group"].groupby(labels).nunique()
        if spread.min() < 2:
            raise UserError(
                f"All pictures of the class '{spread.idxmin()}' ({column}) are in one group; "
                f"holding it out would leave none of the class to learn from."
            )
    _check_enough(rows, n_splits, label)


def _check_class_sizes(rows: pd.DataFrame, n_splits: int, label: str | tuple[str, ...]) -> None:
    """Check that every class has pictures to learn from and to hold out."""
    if not isinstance(label, str):
        for column in label:
            counts = rows[column][rows[column].notna()].astype(str).value_counts()
            if counts.min() < 2:
                raise UserError(
                    f"The class '{counts.idxmin()}' ({column}) has a single picture; at least 2 "
                    f"are needed, one to learn from and one to hold out."
                )
    _check_enough(rows, n_splits, label)


def _check_enough(rows: pd.DataFrame, n_splits: int, label: str | tuple[str, ...]) -> None:
    """Check that each class, or the largest combination of labels, has ``n_splits`` pictures.

    Rare combinations of labels need not be in every fold.
    """
    counts = combined_labels(rows, label).value_counts()
    if (limit := counts.min() if isinstance(label, str) else counts.max()) < n_splits:
        small = sorted(counts.index[counts < n_splits], key=natural_key)
        raise ValueError(
            f"n_splits={n_splits} exceeds the pictures of {len(small)} classes, the smallest is "
            f"'{counts.idxmin()}' with {counts.min()}; lower it to at most {limit} or add pictures."
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
    """Read the folds from ``file``; if it does not exist, make and write them first.

    Args:
        file: the CSV file.
        samples, strategy, n_splits, seed, label: as for ``make_folds``.

    Raises:
        ValueError: the file was made for other samples or with another strategy, cannot be read or
            cannot be written; or what ``make_folds`` refuses.
        UserError: what ``make_folds`` refuses.
    """
    rows = samples[samples["split"] != "test"]
    # The fingerprint covers the columns that the strategy reads, because the folds depend on them:
    # a relabelled picture changes the stratification.
    strategy_columns = {
        "stratified": strata_columns(label),
        "stratified_group": [*strata_columns(label), "group"],
        "view": ["view"],
        "own": ["split"],
    }.get(strategy, [])
    columns = ["id", *(column for column in strategy_columns if column in rows)]
    fingerprint = digest(rows[columns].astype(str).to_numpy().tolist())
    header = f"# strategy={strategy} n_splits={n_splits} seed={seed} samples={fingerprint}"
    try:
        if not file.is_file():  # written atomically, so reading needs no lock and no permission
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{file.name}.lock")):
                if not file.is_file():
                    folds = make_folds(samples, strategy, n_splits=n_splits, seed=seed, label=label)
                    write_csv(file, folds.reset_index(), comment=header)
    except OSError as error:
        raise ValueError(
            f"file={file}: the folds file cannot be written: {error.strerror or error}; name "
            f"another."
        ) from None
    first_line = file.read_text(errors="replace").partition("\n")[0].strip()
    # A file without the header is the user's own; its ids are still checked below.
    if first_line.startswith("#") and first_line != header:
        settings, _, _ = first_line.strip("# ").rpartition(" samples=")
        same_settings = header.startswith(f"# {settings} ")
        difference = (
            "for other samples" if same_settings else f"with '{settings or first_line[:60]}'"
        )
        raise ValueError(
            f"file={file}: this folds file was made {difference}, not for these {len(rows)} "
            f"training pictures with strategy={strategy} n_splits={n_splits} seed={seed}; delete "
            f"it or name another."
        )
    try:
        # Ids are text, even if they look like numbers, and may contain a '#'.
        table = pd.read_csv(
            file,
            skiprows=1 if first_line.startswith("#") else 0,
            dtype={"id": str, "fold": np.int64},
            keep_default_na=False,
        ).set_index("id")["fold"]
    except (ValueError, KeyError):  # pandas' parser errors are ValueErrors
        raise ValueError(
            f"file={file}: the folds file cannot be read; it needs 'id,fold' rows."
        ) from None
    if table.index.has_duplicates or set(table.index) != set(rows["id"]):
        raise ValueError(
            f"file={file}: the folds file holds other ids than the samples; delete it."
        )
    return table.reindex(rows["id"])


def groups_in_several_folds(samples: pd.DataFrame, folds: "pd.Series[int]") -> int:
    """Number of groups that span several folds; 0 if the samples have no column ``group``."""
    if "group" not in samples:
        return 0
    group = samples.set_index("id")["group"].reindex(folds.index)
    return int((folds.groupby(group).nunique() > 1).sum())


def split_rows(folds: "pd.Series[int]", fold: int | str) -> tuple[np.ndarray, np.ndarray]:
    """Split the ids into those to train on and those to hold out.

    Args:
        folds: from ``load_or_make_folds``.
        fold: the fold to hold out, or ``all`` to hold out nothing.

    Returns:
        Ids to train on, str ``[N]``, and held-out ids, str ``[M]``, both in the order of ``folds``.

    Raises:
        ValueError: there is no such fold.
    """
    ids = folds.index.to_numpy()
    if fold == "all":
        return ids, ids[:0]
    numbers = sorted(int(k) for k in folds.unique() if k >= 0)
    if fold not in numbers:
        raise ValueError(
            f"fold={fold} does not exist; allowed: {', '.join(map(str, numbers))}, all."
        )
    held_out = folds.to_numpy() == fold
    return ids[~held_out], ids[held_out]
