"""Folds that leave some pictures of every class to learn from."""

import numpy as np
import pandas as pd


def spread_classes(
    folds: np.ndarray, groups: np.ndarray, classes: np.ndarray, n_splits: int
) -> np.ndarray:
    """Move groups between folds until no fold holds every picture of a class.

    Stratified splits balance the folds on average, so all groups of a small class may fall into one
    fold, which would then have nothing of the class to learn from. One group at a time goes to the
    fold in which it costs least. Folds without such a class are returned as they are.

    Args:
        folds: int ``[N]``, 0 to ``n_splits`` - 1; each group is in one of them.
        groups: of the pictures, int ``[N]``, 0 or more.
        classes: of the pictures, one or more each, int ``[N, K]``; -1 for none.
        n_splits: number of folds.

    Returns:
        int64 ``[N]``; classes whose groups cannot be told apart by folds stay in one fold.
    """
    table = _classes_of_groups(groups, classes)
    fold_of = _fold_of_groups(folds, groups)
    while len(lost := _in_one_fold(table, fold_of)):
        move = _best_move(table, fold_of, lost, np.bincount(groups), n_splits)
        if move is None:
            break
        fold_of[move[0]] = move[1]
    return fold_of[groups]


def classes_in_one_fold(folds: np.ndarray, groups: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The classes that have every picture in one fold, int64 ``[M]``; see ``spread_classes``."""
    return _in_one_fold(_classes_of_groups(groups, classes), _fold_of_groups(folds, groups))


def _classes_of_groups(groups: np.ndarray, classes: np.ndarray) -> pd.DataFrame:
    """A row for each class of each group."""
    table = pd.DataFrame({"class": classes.ravel(), "group": np.repeat(groups, classes.shape[1])})
    return table[table["class"] >= 0].drop_duplicates()


def _fold_of_groups(folds: np.ndarray, groups: np.ndarray) -> np.ndarray:
    fold_of = np.zeros(groups.max() + 1, dtype=np.int64)
    fold_of[groups] = folds
    return fold_of


def _in_one_fold(table: pd.DataFrame, fold_of: np.ndarray) -> np.ndarray:
    """Classes that have all their groups in one fold, int64 ``[M]``."""
    fold = pd.Series(fold_of[table["group"]], index=table["class"].to_numpy())
    by_class = fold.groupby(level=0)
    same = by_class.min() == by_class.max()
    return same.index[same].to_numpy()


def _best_move(
    table: pd.DataFrame,
    fold_of: np.ndarray,
    lost: np.ndarray,
    sizes: np.ndarray,
    n_splits: int,
) -> tuple[int, int] | None:
    """The group and its new fold that leave the fewest classes in one fold; None if none helps.

    Of equally good moves, it is the one into the fold with the fewest pictures.
    """
    filled = np.bincount(fold_of, weights=sizes, minlength=n_splits)
    candidates = table["group"][table["class"].isin(lost)].unique()
    touched = table[table["class"].isin(table["class"][table["group"].isin(candidates)])]
    classes_of = touched.groupby("group")["class"].unique()
    groups_of = touched.groupby("class")["group"].unique()
    best: tuple[int, float, int, int] | None = None
    for group in candidates.tolist():
        for fold in range(n_splits):
            if fold == fold_of[group]:
                continue
            change = 0
            for name in classes_of[group].tolist():
                others = groups_of[name][groups_of[name] != group]
                after = bool((fold_of[others] == fold).all())
                before = bool((fold_of[others] == fold_of[group]).all())
                change += after - before
            move = (change, float(filled[fold] + sizes[group]), group, fold)
            if change < 0 and (best is None or move < best):
                best = move
    return None if best is None else best[2:]
