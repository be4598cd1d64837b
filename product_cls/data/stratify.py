"""Folds and subsets that keep the share of each of several 0/1 labels."""

import numpy as np

POOL = 64  # candidates for each place in a subset; enough to balance 26 labels
CANDIDATES = 192  # pictures of each of two folds considered for an exchange


def iterative_folds(targets: np.ndarray, n_splits: int, seed: int) -> np.ndarray:
    """Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), followed by exchanges.

    The rarest remaining label is dealt first. Each of its pictures goes to the fold that lacks the
    label most; ties go to the fold with the most room, then to a random fold. That suits rare
    labels, but leaves little room for common labels, which are dealt last. So pairs of folds then
    exchange pictures until every label is within one picture of its share or no exchange helps.

    Args:
        targets: int or float ``[N, L]``, 0 or 1.
        n_splits: number of folds, 2 or more.
        seed: seed of the order and of ties, 0 or more.

    Returns:
        Fold of each picture, int64 ``[N]``; fold sizes differ by at most 1.
    """
    rng = np.random.default_rng((seed, 4))
    count = len(targets)
    order = rng.permutation(count)
    has = targets[order] > 0
    # Free places in each fold, so that sizes are even whatever the labels need.
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

    undealt = np.ones(count, dtype=bool)
    while True:
        remaining = has[undealt].sum(axis=0)
        if not remaining.any():
            break
        label = int(np.where(remaining > 0, remaining, count + 1).argmin())
        for row in np.flatnonzero(undealt & has[:, label]):
            deal(int(row), lacks[:, label].round(6))
            undealt[row] = False
    for row in np.flatnonzero(undealt):
        deal(int(row), np.zeros(n_splits))
    _exchange(has, folds, n_splits, rng)
    return folds[np.argsort(order)]


def _exchange(has: np.ndarray, folds: np.ndarray, n_splits: int, rng: np.random.Generator) -> None:
    """Swap pictures between pairs of folds, in place, while the surpluses of labels shrink.

    Args:
        has: bool ``[N, L]``.
        folds: int64 ``[N]``; modified.
    """
    labels = has.astype(np.float64)
    shares = np.bincount(folds, minlength=n_splits)[:, None] * labels.mean(axis=0)
    surplus = np.array([labels[folds == k].sum(axis=0) for k in range(n_splits)]) - shares
    failed = 0
    while failed < min(n_splits**2, surplus.size) and (np.abs(surplus) >= 1).any():
        # The fold with the largest surplus or deficit of a label (after failures, the next
        # largest), and the fold that deviates most in the opposite direction.
        worst = np.argsort(-np.abs(surplus), axis=None)[failed]
        fold, label = divmod(int(worst), surplus.shape[1])
        sign = np.sign(surplus[fold, label])
        opposite = int((sign * surplus[:, label]).argmin())
        rows, opposite_rows = (
            rng.permutation(np.flatnonzero(folds == k))[:CANDIDATES] for k in (fold, opposite)
        )
        # Swapping x and y changes the sum of squares by 2 d.(y - x) + 2 |y - x|^2, where d is the
        # difference of the two surpluses.
        x, y = labels[rows], labels[opposite_rows]
        difference = surplus[fold] - surplus[opposite]
        distance = x.sum(axis=1)[:, None] + y.sum(axis=1) - 2 * x @ y.T
        change = (y @ difference)[None, :] - (x @ difference)[:, None] + distance
        i, j = divmod(int(change.argmin()), len(opposite_rows))
        if change[i, j] >= -1e-9:
            failed += 1
            continue
        failed = 0
        folds[rows[i]], folds[opposite_rows[j]] = opposite, fold
        surplus[fold] += y[j] - x[i]
        surplus[opposite] += x[i] - y[j]


def even_order(targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Order pictures so that every prefix keeps the shares of the labels.

    The first pictures have each label at least twice present and twice absent. Each further place
    goes to the picture, of ``POOL`` random ones, that brings the labels closest to their shares. A
    shorter order is a prefix of a longer one.

    Args:
        targets: int or float ``[N, L]``, 0 or 1.
        count: places to fill, at most N.
        seed: 0 or more.

    Returns:
        Positions, int64 ``[count]``; more of them if the first pictures exceed ``count``.
    """
    rng = np.random.default_rng((seed, 5))
    waiting: list[int] = rng.permutation(len(targets)).tolist()
    has = (targets > 0).astype(np.float64)
    share = has.mean(axis=0)
    order: list[int] = []
    for label in np.argsort(np.minimum(share, 1 - share), kind="stable"):
        for value in (1.0, 0.0):
            placed = sum(has[k, label] == value for k in order)
            wanted = [k for k in waiting if has[k, label] == value][: max(2 - placed, 0)]
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
