"""ProductDataModule: from sample table, store and folds to batches.

A batch is ``{"image": uint8 [B, 3, H, W], "target": ..., "index": int64 [B]}``; ``index`` is the
row of the sample table. Workers augment uint8 pictures; the rest happens on the device, per batch.
"""

from typing import Any, cast

import cv2
import numpy as np
import pandas as pd
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from product_cls.core.errors import UserError
from product_cls.data.augment import Augment
from product_cls.data.samplers import ClassSampler, EpochSampler, ShardSampler, derive_seed
from product_cls.data.store import ImageStore
from product_cls.data.stream.reading import StreamStore


class PictureDataset(Dataset[dict[str, Any]]):
    """Some rows of the sample table with their pictures; items are asked for by (position, epoch).

    Args:
        store: the open image store, or shards.
        store_rows: int64 ``[N]``, where the pictures stand in the store.
        targets: ``[M, ...]`` for the whole sample table.
        indices: int64 ``[N]``, rows of the sample table.
        augment: None leaves the pictures as they are.
        seed: of the augmentation; the draw depends on it, the epoch and the index.
    """

    def __init__(
        self,
        store: ImageStore | StreamStore,
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
        picture = self.store.picture(self.store_rows[position])
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
        store: the open image store, or shards, which are read in an order that suits them.
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
        store: ImageStore | StreamStore,
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
        rows = self.store.rows(self.ids[split].tolist())
        dataset = PictureDataset(
            self.store,
            rows,
            self.targets,
            indices,
            augment=self.augment if train else None,
            seed=self.seed,
        )
        sampler = self._sampler(rows, indices, train)
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

    def _sampler(self, rows: np.ndarray, indices: np.ndarray, train: bool) -> EpochSampler:
        share = {"seed": self.seed, "rank": self.rank, "ranks": self.ranks}
        if train and self.per_class is not None:
            return ClassSampler(
                self.targets[indices],
                batch_size=self.batch_size,
                per_class=self.per_class,
                **share,
            )
        if isinstance(self.store, StreamStore):
            return ShardSampler(
                self.store.shards[rows],
                self.store.offsets[rows],
                window=self.store.window,
                fetch=self.store.files.fetch_soon,
                shuffle=train,
                **share,
            )
        return EpochSampler(len(rows), shuffle=train, **share)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        loader = self.loader("train", train=True)
        cast(EpochSampler, loader.sampler).set_epoch(self.first_epoch)
        return loader

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        return self.loader("val") if len(self.ids["val"]) else []

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self.loader("test")
