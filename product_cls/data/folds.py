"""Cross-validation folds: which fold holds out each sample.

Fold -1 means "always learned from": no fold holds the sample out.
"""

import warnings
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from product_cls.data.class_sizes import (
    check_class_sizes,
    check_groups,
    check_label_sizes,
    small_classes,
)
from product_cls.data.fold_names import ALL, views_of
from product_cls.data.samples import (
    GIVEN_FOLD,
    Strata,
    combined_labels,
    strata_columns,
)
from product_cls.data.spread import classes_in_one_fold, spread_classes
from product_cls.data.stratify import iterative_folds

Strategy = Literal["stratified", "stratified_group", "view", "own", "column"]
STRATIFIED = ("stratified", "stratified_group")
SEEDS_TRIED = 10  # of a split by groups that puts every picture of a class into one fold


def make_folds(
    samples: pd.DataFrame,
    strategy: Strategy,
    *,
    n_splits: int = 5,
    seed: int = 0,
    label: Strata,
    min_per_class: int | None = None,
) -> "pd.Series[int]":
    """Assign each sample to the fold that holds it out.

    Args:
        samples: the sample table; its ``test`` rows are ignored.
        strategy: ``stratified`` (each fold has the classes in proportion), ``stratified_group``
            (also keeps each ``group`` in one fold), ``view`` (each fold holds out a view, in
            sorted order, which estimates accuracy under the shift between views), ``own`` (fold 0
            holds out the data set's own validation part), ``column`` (the folds of the samples'
            column ``given_fold``, as they are).
        n_splits: number of folds of the stratified strategies; the others determine theirs.
        seed: seed of the shuffle before a stratified split.
        label: what to stratify by.
        min_per_class: classes with fewer pictures are always learned from; see ``small_classes``.

    Returns:
        int64, index ``id``: the number of the fold, 0 or more; -1 for none.

    Raises:
        ValueError: an unknown strategy or one that the table does not suit, or more folds than
            groups or than pictures of a class.
        UserError: a class with a single picture, or with pictures in a single group.
    """
    check_strategy(strategy)
    if strategy in STRATIFIED and n_splits < 2:
        raise ValueError(f"n_splits={n_splits}; allowed: 2 or more.")
    rows = samples[samples["split"] != "test"]
    folds = pd.Series(-1, index=pd.Index(rows["id"], name="id"), name="fold", dtype=np.int64)
    kept = ~small_classes(rows, label, min_per_class, whole_groups=strategy == "stratified_group")[
        0
    ]
    if not kept.any():
        raise ValueError(
            f"min_per_class={min_per_class} leaves no picture to hold out, because every class has "
            f"fewer; lower it."
        )
    folds[kept] = _numbers(rows[kept], strategy, n_splits, seed, label)
    return folds


def check_strategy(strategy: str) -> None:
    """Refuse an unknown strategy.

    Raises:
        ValueError: naming those that are known.
    """
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy={strategy}; allowed: {', '.join(get_args(Strategy))}.")


def _numbers(
    rows: pd.DataFrame, strategy: Strategy, n_splits: int, seed: int, label: Strata
) -> np.ndarray:
    """The fold of each row, int64 ``[N]``; see ``make_folds``."""
    match strategy:
        case "view":
            return _view_folds(rows)
        case "own":
            held_out = (rows["split"] == "val").to_numpy()
            if not held_out.any():
                raise ValueError(
                    "strategy=own needs a validation part in the data set (val.txt, or rows with "
                    "split=val); use stratified instead."
                )
            return np.where(held_out, 0, -1)
        case "column":
            if GIVEN_FOLD not in rows:
                raise ValueError(
                    "strategy=column needs a column of folds in the data set, "
                    "data.fold_column=NAME of data=csv."
                )
            given = rows[GIVEN_FOLD].to_numpy(np.int64)
            if not (given >= 0).any():
                raise ValueError("strategy=column: no training picture has a fold of 0 or more.")
            return given
    if isinstance(label, list):
        if strategy == "stratified_group":
            raise ValueError(
                "strategy=stratified_group needs one label per picture; allowed with several: "
                "stratified, view, own, column."
            )
        targets = rows[label].astype(float).to_numpy()
        check_label_sizes(targets, n_splits, label)
        return iterative_folds(targets, n_splits, seed)
    labels = combined_labels(rows, label)
    if strategy == "stratified":
        check_class_sizes(rows, n_splits, label)
        folds = stratified_folds(labels.to_numpy(), n_splits, seed)
        if isinstance(label, str):
            return folds  # each class has a picture in every fold
        return spread_classes(folds, np.arange(len(rows)), _codes(rows, label), n_splits)
    check_groups(rows, n_splits, label)
    groups, classes = pd.factorize(rows["group"])[0], _codes(rows, label)
    tries = []
    for attempt in range(SEEDS_TRIED):
        folds = _stratified_group_folds(labels, rows["group"], n_splits, (seed + attempt) % 2**32)
        folds = spread_classes(folds, groups, classes, n_splits)
        lost = len(classes_in_one_fold(folds, groups, classes))
        tries.append((lost, attempt, folds))
        if lost == 0:
            break
    return min(tries, key=lambda attempt: attempt[:2])[2]


def _stratified_group_folds(
    labels: "pd.Series[str]", groups: "pd.Series[Any]", n_splits: int, seed: int
) -> np.ndarray:
    """The folds of scikit-learn's ``StratifiedGroupKFold``, int64 ``[N]``."""
    # Imported here because most jobs read their folds from the file.
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    folds = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        # Label combinations of fewer than n_splits pictures are spread over some of the folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = splitter.split(np.zeros(len(labels)), labels, groups)
        for k, (_, held_out) in enumerate(parts):
            folds[held_out] = k
    return folds


def _codes(rows: pd.DataFrame, label: str | tuple[str, ...]) -> np.ndarray:
    """The classes of each row, int64 ``[N, columns]``, numbered over all columns; -1 for none."""
    columns, count = [], 0
    for column in strata_columns(label):
        codes, classes = pd.factorize(
            rows[column].where(rows[column].isna(), rows[column].astype(str))
        )
        columns.append(np.where(codes >= 0, codes + count, -1))
        count += len(classes)
    return np.stack(columns, axis=1)


def _view_folds(rows: pd.DataFrame) -> np.ndarray:
    views, has_view = views_of(rows)
    if len(views) < 2:
        raise ValueError(f"strategy=view needs at least 2 views; there is {len(views)}.")
    if ALL in views:
        raise ValueError("strategy=view: a view cannot be called 'all', which holds out nothing.")
    numbers = rows["view"].map({view: k for k, view in enumerate(views)})
    return numbers.where(has_view, -1).to_numpy(np.int64)


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


def groups_in_several_folds(samples: pd.DataFrame, folds: "pd.Series[int]") -> int:
    """Number of groups that span several folds; 0 if the samples have no column ``group``."""
    if "group" not in samples:
        return 0
    group = samples.set_index("id")["group"].reindex(folds.index)
    return int((folds.groupby(group).nunique() > 1).sum())


def split_rows(folds: "pd.Series[int]", fold: int | str) -> tuple[np.ndarray, np.ndarray]:
    """Split the ids into those to train on and those to hold out.

    Args:
        folds: the fold of each sample, index ``id``.
        fold: the fold to hold out, or ``all`` to hold out nothing; from ``fold_number``.

    Returns:
        Ids to train on, str ``[N]``, and held-out ids, str ``[M]``, both in the order of ``folds``.
    """
    ids = folds.index.to_numpy()
    held_out = np.zeros(len(ids), dtype=bool) if fold == ALL else folds.to_numpy() == fold
    return ids[~held_out], ids[held_out]
