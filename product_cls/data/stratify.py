"""Folds and subsets in which each of several labels keeps its share."""

import numpy as np

POOL = 64  # pictures drawn for each place in a subset; enough for 26 labels to stay even
TRADED = 192  # pictures of each of two folds that are looked at for an exchange


def iterative_folds(targets: np.ndarray, n_splits: int, seed: int) -> np.ndarray:
    """Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), and exchanges after it.

    The rarest label left is dealt out first, each of its pictures to the fold that lacks the label
    most; ties go to the fold with the most room, then by chance. That serves rare labels; of those
    that half of the pictures have, the last ones dealt find little room. So folds then exchange
    pictures, two by two, until every label is within one picture of its share or none helps.

    Args:
        targets: 0 or 1, ``[N, L]``.
        n_splits: number of folds, 2 or more.
        seed: of the order and of ties, 0 or more.

    Returns:
        The fold of each picture, int64 ``[N]``; sizes differ by 1 at most.
    """
    rng = np.random.default_rng((seed, 4))
    count = len(targets)
    order = rng.permutation(count)
    has = targets[order] > 0
    # Seats of each fold, so that sizes come out even whatever the labels ask for.
    room = np.full(n_splits, count // n_splits)
    room[rng.permutation(n_splits)[: count % n_splits]] += 1
    lacks = room[:, None] / count * has.sum(axis=0)
    folds = np.full(count, -1, dtype=np.int64)
    chance = rng.permutation(n_splits)

    def deal(row: int, first: np.ndarray) -> None:
        open_folds = np.flatnonzero(room > 0)
        fold = open_folds[np.lexsort((chance[open_folds], room[open_folds], first[open_folds]))[-1]]
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
    """Swap pictures of two folds, in ``folds``, as long as the folds' surpluses shrink."""
    labels = has.astype(np.float64)
    shares = np.bincount(folds, minlength=n_splits)[:, None] * labels.mean(axis=0)
    surplus = np.array([labels[folds == k].sum(axis=0) for k in range(n_splits)]) - shares
    failed = 0
    while failed < min(n_splits**2, surplus.size) and (np.abs(surplus) >= 1).any():
        # The fold with the largest surplus or want, and after failures others, with its opposite.
        worst = np.argsort(-np.abs(surplus), axis=None)[failed]
        fold, label = divmod(int(worst), surplus.shape[1])
        sign = np.sign(surplus[fold, label])
        other = int((sign * surplus[:, label]).argmin())
        ours, theirs = (rng.permutation(np.flatnonzero(folds == k))[:TRADED] for k in (fold, other))
        # Swapping x and y changes the sum of squares by 2 d.(y - x) + 2 |y - x|^2, d = a - b.
        x, y = labels[ours], labels[theirs]
        pull = surplus[fold] - surplus[other]
        apart = x.sum(axis=1)[:, None] + y.sum(axis=1) - 2 * x @ y.T
        change = (y @ pull)[None, :] - (x @ pull)[:, None] + apart
        i, j = divmod(int(change.argmin()), len(theirs))
        if change[i, j] >= -1e-9:
            failed += 1
            continue
        failed = 0
        folds[ours[i]], folds[theirs[j]] = other, fold
        surplus[fold] += y[j] - x[i]
        surplus[other] += x[i] - y[j]


def even_order(targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Pictures in an order whose beginnings respect the labels, whatever their length.

    The first places show each label twice, there and not; each further one goes to the picture, of
    ``POOL`` drawn by chance, that brings the labels nearest to their shares. A shorter order is the
    beginning of a longer one.

    Args:
        targets: 0 or 1, ``[N, L]``.
        count: how many places to fill, at most N.
        seed: 0 or more.

    Returns:
        Positions, int64 ``[count]``, or longer where the first places need more.
    """
    rng = np.random.default_rng((seed, 5))
    waiting: list[int] = rng.permutation(len(targets)).tolist()
    has = (targets > 0).astype(np.float64)
    share = has.mean(axis=0)
    chosen: list[int] = []
    for label in np.argsort(np.minimum(share, 1 - share), kind="stable"):
        for value in (1.0, 0.0):
            shown = sum(has[k, label] == value for k in chosen)
            wanted = [k for k in waiting if has[k, label] == value][: max(2 - shown, 0)]
            chosen += wanted
            waiting = [k for k in waiting if k not in wanted]
    total = has[chosen].sum(axis=0)
    while len(chosen) < count:
        pool = rng.integers(len(waiting), size=POOL)
        gaps = total + has[[waiting[k] for k in pool]] - share * (len(chosen) + 1)
        place = pool[np.square(gaps).sum(axis=1).argmin()]
        chosen.append(waiting[place])
        total += has[waiting[place]]
        waiting[place] = waiting[-1]
        waiting.pop()
    return np.array(chosen, dtype=np.int64)
