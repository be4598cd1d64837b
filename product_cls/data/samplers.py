"""Samplers: the order of pictures, which depends only on ``(seed, epoch)``."""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

AHEAD = 2  # shards requested before they are needed


def derive_seed(*parts: int) -> int:
    """Hash integers into one seed in [0, 2**63); different parts give different seeds."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields ``(position, epoch)`` in a new order for each epoch.

    The order depends only on ``(seed, epoch)``, so a run resumed at epoch e sees the same pictures
    as an uninterrupted one. The epoch travels with the position because persistent workers hold a
    copy of the data set, which the main process cannot update.

    With several ranks, positions are dealt to the ranks in turns. So the k-th batches of all ranks
    together are the k-th batch of a single process whose batches are ``world_size`` times as large.
    With shuffling, all ranks get equally many positions, and the remainder (fewer than
    ``world_size``, different in each epoch) is left out. Without shuffling, the first ranks may get
    one more, so that every position comes exactly once.

    Args:
        count: number of positions.
        shuffle: draw a new order for each epoch, for training; otherwise positions come in order.
        seed: seed of the order.
        rank, world_size: rank of this process, and number of ranks that share the positions.
    """

    turn = 1  # positions dealt to a rank at a time

    def __init__(
        self, count: int, *, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.count, self.shuffle, self.seed = count, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; Lightning calls this before each training epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._share(np.arange(self.count)))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch  # bound now, not when the generator yields
        return ((int(position), epoch) for position in self._share(self._order()))

    def _order(self) -> np.ndarray:
        order = np.arange(self.count)
        if self.shuffle:
            order = np.random.default_rng(derive_seed(self.seed, self.epoch)).permutation(order)
        return order

    def _share(self, order: np.ndarray) -> np.ndarray:
        """This rank's part of the order."""
        if self.world_size == 1:
            return order
        if not self.shuffle:
            return order[self.rank :: self.world_size]
        rounds = len(order) // (self.world_size * self.turn)
        dealt = order[: rounds * self.world_size * self.turn]
        share: np.ndarray = dealt.reshape(rounds, self.world_size, self.turn)[:, self.rank]
        return share.reshape(-1)


class ClassSampler(EpochSampler):
    """Batches with K pictures of each of P classes, for losses that compare pictures.

    In each epoch every class is shuffled and cut into hands of K pictures. Hands are dealt to
    batches in rounds, with one hand of each class in a round. Pictures that do not fill a hand are
    left out of the epoch; a class with fewer than K pictures repeats some. A class appears twice in
    one batch only if too few other classes are left, at the end of an epoch
    with classes of very different sizes.

    Args:
        labels: int64 ``[N]``, class of each position.
        batch_size: pictures in a batch, a multiple of ``per_class``.
        per_class: K, 2 or more.
        seed: seed of the order.
        rank, world_size: as for ``EpochSampler``, but whole batches are dealt.

    Raises:
        ValueError: ``per_class`` is below 2 or does not divide the batch, a batch needs more
            classes than there are, or an epoch has fewer batches than ranks.
    """

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        per_class: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if per_class < 2:
            raise ValueError(f"per_class={per_class}; allowed: 2 or more.")
        starts = np.unique(np.sort(labels), return_index=True)[1]
        self.members = np.split(np.argsort(labels, kind="stable"), starts[1:])
        self.classes, rest = divmod(batch_size, per_class)
        if rest or not 2 <= self.classes <= len(self.members):
            raise ValueError(
                f"batch_size={batch_size} cannot hold pictures of 2 or more classes with "
                f"per_class={per_class}; allowed: a multiple of {per_class}, from "
                f"{2 * per_class} to {len(self.members) * per_class}."
            )
        self.per_class = per_class
        self.hands = [max(1, len(member) // per_class) for member in self.members]
        self.turn = batch_size
        count = sum(self.hands) * per_class
        if world_size > 1 and count < world_size * batch_size:
            raise ValueError(
                f"batch_size={batch_size} on {world_size} devices exceeds the {count} pictures of "
                f"an epoch; lower it."
            )
        super().__init__(count, shuffle=True, seed=seed, rank=rank, world_size=world_size)

    def _order(self) -> np.ndarray:
        rng = np.random.default_rng(derive_seed(self.seed, self.epoch))
        dealt = []
        for member, hands in zip(self.members, self.hands, strict=True):
            shuffled = np.resize(rng.permutation(member), hands * self.per_class)
            dealt.append(shuffled.reshape(hands, self.per_class))
        order: list[int] = []  # class of each hand
        for turn in range(max(self.hands)):
            holding = [c for c, hands in enumerate(self.hands) if hands > turn]
            unfinished = order[len(order) - len(order) % self.classes :]
            # Classes that are already in the unfinished batch come last.
            order += sorted(rng.permutation(holding).tolist(), key=lambda c: c in unfinished)
        turns = [0] * len(self.members)
        positions = []
        for label in order:
            positions.append(dealt[label][turns[label]])
            turns[label] += 1
        return np.concatenate(positions)


class ShardSampler(EpochSampler):
    """Yields positions of pictures in shards, in an order that needs few shards at a time.

    With shuffling, each epoch draws an order of the shards and of the pictures in each shard, then
    delays every picture by a random 0 to ``window`` places. So a batch is drawn from about
    ``window`` pictures, from shards that no other epoch brings together. A shard is in use while
    its own pictures and about ``window`` others pass. A window that covers all pictures gives the
    order of ``EpochSampler``. Without shuffling, pictures come in their order in the shards.

    Args:
        shards: int64 ``[N]``, shard of each position.
        offsets: int64 ``[N]``, byte offset of each picture in its shard.
        window: shuffling window in pictures, 1 or more.
        fetch: called with a shard's number some time before its first picture is due.
        shuffle, seed, rank, world_size: as for ``EpochSampler``.
    """

    def __init__(
        self,
        shards: np.ndarray,
        offsets: np.ndarray,
        *,
        window: int,
        fetch: Callable[[int], None],
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(len(shards), shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        self.shards, self.offsets, self.window, self.fetch = shards, offsets, window, fetch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self._with_fetches(self._share(self._order()), self.epoch)

    def _with_fetches(self, order: np.ndarray, epoch: int) -> Iterator[tuple[int, int]]:
        """The order, calling ``fetch`` for each shard ``AHEAD`` shards before it is due."""
        shards = self.shards[order]
        due = np.sort(np.unique(shards, return_index=True)[1])  # first picture of each shard
        requested = 0
        for k, position in enumerate(order):
            while requested < len(due) and due[max(requested - AHEAD, 0)] <= k:
                self.fetch(int(shards[due[requested]]))
                requested += 1
            yield int(position), epoch

    def _order(self) -> np.ndarray:
        if not self.shuffle:
            return np.lexsort((self.offsets, self.shards))
        if self.window >= self.count:
            return super()._order()
        rng = np.random.default_rng(derive_seed(self.seed, self.epoch))
        turn_of_shard = rng.permutation(int(self.shards.max()) + 1)
        order_in_shard = rng.random(self.count)
        in_turn = np.lexsort((order_in_shard, turn_of_shard[self.shards]))
        delayed = np.arange(self.count) + rng.uniform(0, self.window, self.count)
        return in_turn[np.argsort(delayed, kind="stable")]


def shards_in_use(shards: np.ndarray, window: int) -> int:
    """Number of shards that ``ShardSampler`` needs at a time, with those fetched ahead.

    Args:
        shards: int64 ``[N]``, shard of each picture.
        window: shuffling window in pictures.
    """
    count = len(np.unique(shards))
    return min(count, int(np.ceil(window * count / len(shards))) + 2 + AHEAD)
