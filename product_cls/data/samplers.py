"""The order in which pictures are learned from, drawn from ``(seed, epoch)`` alone."""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from product_cls.core.errors import UserError

AHEAD = 2  # shards that are asked for before they are needed


def derive_seed(*parts: int) -> int:
    """A seed in [0, 2**63) that differs wherever one of the parts does."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Positions in an order drawn anew for each epoch, each with its epoch.

    The order and the epoch number come from ``(seed, epoch)`` alone, so a run resumed at epoch e
    sees what an uninterrupted one does. The epoch travels with the position because persistent
    workers hold a copy of the data set that the main process cannot tell anything.

    Args:
        count: of positions.
        shuffle: whether they are to learn from.
        seed: of the order.
        rank, ranks: of several processes that share the order, which they deal out in turns: their
            k-th batches together are the k-th batch of one process with batches ``ranks`` times as
            large. To learn from, all get as many, and the fewer than ``ranks`` left over (others in
            each epoch) are left out; else the first get one more, and no picture comes twice.
    """

    turn = 1  # positions dealt to a rank at a time

    def __init__(
        self, count: int, *, shuffle: bool, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self.count, self.shuffle, self.seed = count, shuffle, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each training epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._share(np.arange(self.count)))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch  # as it is now, not when the position is drawn
        return ((int(position), epoch) for position in self._share(self._order()))

    def _order(self) -> np.ndarray:
        order = np.arange(self.count)
        if self.shuffle:
            order = np.random.default_rng(derive_seed(self.seed, self.epoch)).permutation(order)
        return order

    def _share(self, order: np.ndarray) -> np.ndarray:
        if self.ranks == 1:
            return order
        if not self.shuffle:
            return order[self.rank :: self.ranks]
        rounds = len(order) // (self.ranks * self.turn)
        dealt = order[: rounds * self.ranks * self.turn].reshape(rounds, self.ranks, self.turn)
        share: np.ndarray = dealt[:, self.rank].reshape(-1)
        return share


class ClassSampler(EpochSampler):
    """Batches of P classes with K pictures of each, for losses that compare pictures.

    Each epoch deals every class's pictures, shuffled, into hands of K, and the hands to batches in
    rounds, a hand of each class a round. What does not fill a hand waits for another epoch's
    shuffle; a class with fewer than K pictures repeats some. A class comes twice in a batch only
    where too few others are left, at the end of an epoch with classes of very different sizes.

    Args:
        labels: int64 ``[N]``, class of each position.
        batch_size: pictures a batch, a multiple of ``per_class``.
        per_class: K, 2 or more.
        seed: of the order.
        rank, ranks: as for ``EpochSampler``, but whole batches are dealt out.

    Raises:
        UserError: a batch that K does not divide, or with more classes than there are; fewer
            batches an epoch than ranks.
    """

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        per_class: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        starts = np.unique(np.sort(labels), return_index=True)[1]
        self.members = np.split(np.argsort(labels, kind="stable"), starts[1:])
        self.classes, rest = divmod(batch_size, per_class)
        if per_class < 2 or rest or not 2 <= self.classes <= len(self.members):
            raise UserError(
                f"data.batch_size={batch_size} cannot hold {per_class} pictures (data.per_class) "
                f"of each of 2 or more classes; it must be a multiple, for at most "
                f"{len(self.members)} classes."
            )
        self.per_class = per_class
        self.hands = [max(1, len(member) // per_class) for member in self.members]
        self.turn = batch_size
        count = sum(self.hands) * per_class
        if ranks > 1 and count < ranks * batch_size:
            raise UserError(
                f"data.batch_size={batch_size} on {ranks} devices is more than the {count} "
                f"pictures that an epoch deals; lower it."
            )
        super().__init__(count, shuffle=True, seed=seed, rank=rank, ranks=ranks)

    def _order(self) -> np.ndarray:
        rng = np.random.default_rng(derive_seed(self.seed, self.epoch))
        dealt = []
        for member, hands in zip(self.members, self.hands, strict=True):
            shuffled = np.resize(rng.permutation(member), hands * self.per_class)
            dealt.append(shuffled.reshape(hands, self.per_class))
        order: list[int] = []  # of classes, a hand each
        for turn in range(max(self.hands)):
            holding = [c for c, hands in enumerate(self.hands) if hands > turn]
            begun = order[len(order) - len(order) % self.classes :]
            # Those in the batch that the last round left open come last.
            order += sorted(rng.permutation(holding).tolist(), key=lambda c: c in begun)
        turns = [0] * len(self.members)
        positions = []
        for label in order:
            positions.append(dealt[label][turns[label]])
            turns[label] += 1
        return np.concatenate(positions)


class ShardSampler(EpochSampler):
    """Positions of pictures that lie in shards, in an order that needs few shards at a time.

    To learn from, each epoch draws an order of the shards and of the pictures in each, and then
    puts every picture off by a draw from 0 to ``window`` places. So a batch is drawn from about
    ``window`` pictures, of shards that no other epoch brings together, and a shard is in use while
    about ``window`` and its own pictures go by. A window of all pictures or more is
    ``EpochSampler``'s order. Not to learn from, pictures come as they lie.

    Args:
        shards: int64 ``[N]``, the shard of each position.
        offsets: int64 ``[N]``, where in it the picture lies.
        window: in pictures, 1 or more.
        fetch: told of each shard some time before its first picture is due.
        shuffle, seed, rank, ranks: as for ``EpochSampler``.
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
        ranks: int = 1,
    ) -> None:
        super().__init__(len(shards), shuffle=shuffle, seed=seed, rank=rank, ranks=ranks)
        self.shards, self.offsets, self.window, self.fetch = shards, offsets, window, fetch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self._announced(self._share(self._order()), self.epoch)

    def _announced(self, order: np.ndarray, epoch: int) -> Iterator[tuple[int, int]]:
        shards = self.shards[order]
        due = np.sort(np.unique(shards, return_index=True)[1])  # first picture of each, in order
        asked = 0
        for k, position in enumerate(order):
            while asked < len(due) and due[max(asked - AHEAD, 0)] <= k:
                self.fetch(int(shards[due[asked]]))
                asked += 1
            yield int(position), epoch

    def _order(self) -> np.ndarray:
        if not self.shuffle:
            return np.lexsort((self.offsets, self.shards))
        if self.window >= self.count:
            return super()._order()
        rng = np.random.default_rng(derive_seed(self.seed, self.epoch))
        turn_of_shard = rng.permutation(int(self.shards.max()) + 1)
        drawn = rng.random(self.count)
        in_turn = np.lexsort((drawn, turn_of_shard[self.shards]))
        put_off = np.arange(self.count) + rng.uniform(0, self.window, self.count)
        return in_turn[np.argsort(put_off, kind="stable")]


def shards_in_use(shards: np.ndarray, window: int) -> int:
    """How many shards ``ShardSampler`` needs at a time, those asked for ahead among them."""
    there = len(np.unique(shards))
    return min(there, int(np.ceil(window * there / len(shards))) + 2 + AHEAD)
