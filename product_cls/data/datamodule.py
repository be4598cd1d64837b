"""ProductDataModule: from sample table, store and folds to batches.

A batch is ``{"image": uint8 [B, 3, H, W], "target": ..., "index": int64 [B]}``; ``index`` is the
row of the sample table. Workers augment uint8 pictures; the rest happens on the device, per batch.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, cast

import cv2
import numpy as np
import pandas as pd
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from product_cls.data.augment import Augment
from product_cls.data.store import ImageStore
from product_cls.errors import UserError


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
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
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


class PictureDataset(Dataset[dict[str, Any]]):
    """Some rows of the sample table with their pictures; items are asked for by (position, epoch).

    Args:
        store: the open image store.
        store_rows: int64 ``[N]``, where the pictures stand in the store.
        targets: ``[M, ...]`` for the whole sample table.
        indices: int64 ``[N]``, rows of the sample table.
        augment: None leaves the pictures as they are.
        seed: of the augmentation; the draw depends on it, the epoch and the index.
    """

    def __init__(
        self,
        store: ImageStore,
        store_rows: np.ndarray,
        targets: np.ndarray,
        indices: np.ndarray,
        *,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.store, self.store_rows = store, store_rows
        self.targets, self.indices = targets, indices
        self.augment, self.seed = augment, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        position, epoch = item
        index = int(self.indices[position])
        picture = np.array(self.store.pixels[self.store_rows[position]])
        if self.augment is not None:
            picture = self.augment(picture, derive_seed(self.seed, epoch, index))
        chw = np.ascontiguousarray(picture.transpose(2, 0, 1))
        return {
            "image": torch.from_numpy(chw),
            "target": torch.as_tensor(self.targets[index]),
            "index": index,
        }


def _quiet_worker(worker: int) -> None:
    # OpenCV's threads fight with the workers for the same cores.
    cv2.setNumThreads(0)


class ProductDataModule(LightningDataModule):
    """Loaders for training, validation and test.

    Args:
        samples: the sample table; pictures that the store lacks must not be in it.
        store: the open image store.
        targets: encoded by the task, ``[len(samples), ...]``.
        train_ids, val_ids: which samples to learn from and to hold out.
        batch_size: pictures a batch, on each device.
        per_class: pictures of each class in a training batch; None for whatever chance draws.
        augment: for training pictures; None for none.
        num_workers: loader processes.
        seed: of order and augmentation.
        first_epoch: that training begins with, above 0 in a resumed run. Lightning says it too, but
            to workers too late: they fetch ahead as soon as it counts the batches.
        pin_memory: for copies to a GPU.
        rank, ranks: of several processes, each of which gets a share of every part.

    Raises:
        UserError: fewer training pictures than a batch holds at least (2), a batch size below 1,
            ``per_class`` where a picture has several labels.
    """

    def __init__(
        self,
        samples: pd.DataFrame,
        store: ImageStore,
        targets: np.ndarray,
        *,
        train_ids: np.ndarray,
        val_ids: np.ndarray,
        batch_size: int,
        per_class: int | None = None,
        augment: Augment | None = None,
        num_workers: int = 0,
        seed: int = 0,
        first_epoch: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size}; allowed: 1 or more.")
        if num_workers < 0:
            raise UserError(f"data.num_workers={num_workers}; allowed: 0 or more.")
        if per_class is not None and targets.ndim > 1:
            raise UserError(
                f"data.per_class={per_class} needs one label a picture, these have several; set it "
                f"to null."
            )
        if len(train_ids) < 2:
            raise UserError(f"{len(train_ids)} training pictures are left; at least 2 are needed.")
        self.samples, self.store, self.targets = samples, store, targets
        self.batch_size, self.per_class, self.num_workers = batch_size, per_class, num_workers
        self.augment, self.seed, self.first_epoch = augment, seed, first_epoch
        self.pin_memory, self.rank, self.ranks = pin_memory, rank, ranks
        test_ids = samples["id"][samples["split"] == "test"].to_numpy()
        self.ids = {"train": train_ids, "val": val_ids, "test": test_ids}
        self._row_of = pd.Series(np.arange(len(samples)), index=samples["id"])

    def indices(self, split: str) -> np.ndarray:
        """Rows of the sample table in ``train``, ``val`` or ``test``, int64."""
        return self._row_of[self.ids[split]].to_numpy()

    def loader(self, split: str, *, train: bool = False) -> DataLoader[dict[str, Any]]:
        """A loader over ``split``; with ``train``, shuffled and augmented, without a last batch of
        one (batch norm cannot learn from a single picture)."""
        indices = self.indices(split)
        dataset = PictureDataset(
            self.store,
            self.store.rows(self.ids[split].tolist()),
            self.targets,
            indices,
            augment=self.augment if train else None,
            seed=self.seed,
        )
        share = {"rank": self.rank, "ranks": self.ranks}
        sampler = EpochSampler(len(dataset), shuffle=train, seed=self.seed, **share)
        if train and self.per_class is not None:
            sampler = ClassSampler(
                self.targets[indices],
                batch_size=self.batch_size,
                per_class=self.per_class,
                seed=self.seed,
                **share,
            )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            drop_last=train and len(sampler) % self.batch_size == 1 and len(dataset) > 1,
            pin_memory=self.pin_memory,
            # Of its own: starting an iteration draws a number, which from the global stream would
            # shift dropout by when Lightning starts it, and that differs in a resumed run.
            generator=torch.Generator().manual_seed(self.seed),
            worker_init_fn=_quiet_worker,
            persistent_workers=train and self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        loader = self.loader("train", train=True)
        cast(EpochSampler, loader.sampler).set_epoch(self.first_epoch)
        return loader

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        return self.loader("val") if len(self.ids["val"]) else []

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self.loader("test")
