"""Folds and subsets in which each of several 0/1 labels keeps its share."""

import numpy as np

POOL = 64  # candidates for each place in a subset; enough to balance 26 labels
CANDIDATES = 192  # pictures of each of two folds considered for an exchange


def iterative_folds(targets: np.ndarray, n_splits: int, seed: int) -> np.ndarray:
    """Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), followed by exchanges.

    The rarest remaining label is dealt first, each of its pictures to the fold that lacks the label
    most; ties go to the fold with the most room, then to a random one. That suits rare labels, but
    the last labels dealt find little room if half of the pictures have them. So pairs of folds then
    exchange pictures, until every label is within one picture of its share or no exchange helps.

    Args:
        targets: 0 or 1, ``[N, L]``.
        n_splits: number of folds, 2 or more.
        seed: seed of the order and of ties, 0 or more.

    Returns:
        Fold of each picture, int64 ``[N]``; fold sizes differ by at most 1.
    """
    rng = np.random.default_rng((seed, 4))
    count = len(targets)
    order = rng.permutation(count)
    has = targets[order] > 0
    # Places in each fold, so that sizes are even whatever the labels ask for.
    room = np.full(n_splits, count // n_splits)
    room[rng.permutation(n_splits)[: count % n_splits]] += 1
    lacks = room[:, None] / count * has.sum(axis=0)
    folds = np.full(count, -1, dtype=np.int64)
    tie_break = rng.permutation(n_splits)

    def deal(row: int, priority: np.ndarray) -> None:
        open_folds = np.flatnonzero(room > 0)
        ranking = np.lexsort((tie_break[open_folds], room[open_folds], priority[open_folds]))
        fold = open_folds[ranking[-1]]
        folds[row] = fold
        room[fold] -= 1
        lacks[fold, has[row]] -= 1

    left = np.ones(count, dtype=bool)
    while True:
        remaining = has[left].sum(axis=0)
        if not remaining.any():
            break
        label = int(np.where(remaining > 0, remaining, count + 1).argmin())
        for row in np.flatnonzero(left & has[:, label]):
            deal(int(row), lacks[:, label].round(6))
            left[row] = False
    for row in np.flatnonzero(left):
        deal(int(row), np.zeros(n_splits))
    _exchange(has, folds, n_splits, rng)
    return folds[np.argsort(order)]


def _exchange(has: np.ndarray, folds: np.ndarray, n_splits: int, rng: np.random.Generator) -> None:
    """Swap pictures between two folds, in place, while the surpluses of the folds shrink.

    Args:
        has: bool ``[N, L]``.
        folds: int64 ``[N]``; modified.
    """
    labels = has.astype(np.float64)
    shares = np.bincount(folds, minlength=n_splits)[:, None] * labels.mean(axis=0)
    surplus = np.array([labels[folds == k].sum(axis=0) for k in range(n_splits)]) - shares
    failed = 0
    while failed < min(n_splits**2, surplus.size) and (np.abs(surplus) >= 1).any():
        # The fold with the largest surplus or deficit (after failures, the next largest) and the
        # fold with the most opposite one.
        worst = np.argsort(-np.abs(surplus), axis=None)[failed]
        fold, label = divmod(int(worst), surplus.shape[1])
        sign = np.sign(surplus[fold, label])
        other = int((sign * surplus[:, label]).argmin())
        ours, theirs = (
            rng.permutation(np.flatnonzero(folds == k))[:CANDIDATES] for k in (fold, other)
        )
        # Swapping x and y changes the sum of squares by 2 d.(y - x) + 2 |y - x|^2, where d is the
        # difference of the two surpluses.
        x, y = labels[ours], labels[theirs]
        difference = surplus[fold] - surplus[other]
        distance = x.sum(axis=1)[:, None] + y.sum(axis=1) - 2 * x @ y.T
        change = (y @ difference)[None, :] - (x @ difference)[:, None] + distance
        i, j = divmod(int(change.argmin()), len(theirs))
        if change[i, j] >= -1e-9:
            failed += 1
            continue
        failed = 0
        folds[ours[i]], folds[theirs[j]] = other, fold
        surplus[fold] += y[j] - x[i]
        surplus[other] += x[i] - y[j]


def even_order(targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Order pictures so that every prefix keeps the shares of the labels.

    The first places show each label twice present and twice absent. Each further place goes to the
    one of ``POOL`` random pictures that brings the labels closest to their shares. A shorter order
    is a prefix of a longer one.

    Args:
        targets: 0 or 1, ``[N, L]``.
        count: places to fill, at most N.
        seed: 0 or more.

    Returns:
        Positions, int64 ``[count]``, or more if the first places need more.
    """
    rng = np.random.default_rng((seed, 5))
    waiting: list[int] = rng.permutation(len(targets)).tolist()
    has = (targets > 0).astype(np.float64)
    share = has.mean(axis=0)
    order: list[int] = []
    for label in np.argsort(np.minimum(share, 1 - share), kind="stable"):
        for value in (1.0, 0.0):
            shown = sum(has[k, label] == value for k in order)
            wanted = [k for k in waiting if has[k, label] == value][: max(2 - shown, 0)]
            order += wanted
            waiting = [k for k in waiting if k not in wanted]
    total = has[order].sum(axis=0)
    while len(order) < count:
        pool = rng.integers(len(waiting), size=POOL)
        gaps = total + has[[waiting[k] for k in pool]] - share * (len(order) + 1)
        place = pool[np.square(gaps).sum(axis=1).argmin()]
        order.append(waiting[place])
        total += has[waiting[place]]
        waiting[place] = waiting[-1]
        waiting.pop()
    return np.array(order, dtype=np.int64)
