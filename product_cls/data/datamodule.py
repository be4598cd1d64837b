"""ProductDataModule: builds batches from a sample table, a picture store and folds.

A batch is ``{"image": uint8 [B, 3, H, W], "target": int64 [B, ...], "index": int64 [B]}``,
where ``index`` is the row of the sample table. With a teacher, training batches also hold its
answers, ``"answer": float32 [B, C]``, and their weights, ``"answer_weight": float32 [B]``.
Workers augment uint8 pictures; conversion to float, normalisation and mixing happen per batch on
the device.
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
from product_cls.data.picture_store import PictureStore
from product_cls.data.samplers import ClassSampler, EpochSampler, derive_seed
from product_cls.data.taught import Taught

UNKNOWN = -1  # target of a picture whose label must not be learned


class PictureDataset(Dataset[dict[str, Any]]):
    """Rows of the sample table with their pictures; an item is requested by (position, epoch).

    Args:
        store: the open picture store.
        store_rows: int64 ``[N]``, rows of the store.
        targets: int64 ``[M, ...]``, encoded targets of the whole sample table.
        indices: int64 ``[N]``, rows of the sample table.
        augment: augmentation; None leaves the pictures unchanged.
        seed: seed of the augmentation; a draw depends on it, the epoch and the index.
        taught: a teacher's answers to return with the pictures; None for none.
    """

    def __init__(
        self,
        store: PictureStore,
        store_rows: np.ndarray,
        targets: np.ndarray,
        indices: np.ndarray,
        *,
        augment: Augment | None = None,
        seed: int = 0,
        taught: Taught | None = None,
    ) -> None:
        self.store, self.store_rows = store, store_rows
        self.targets, self.indices = targets, indices
        self.augment, self.seed, self.taught = augment, seed, taught

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, request: tuple[int, int]) -> dict[str, Any]:
        position, epoch = request
        index = int(self.indices[position])
        picture = self.store.picture(self.store_rows[position])
        if self.augment is not None:
            picture = self.augment(picture, derive_seed(self.seed, epoch, index), epoch)
        chw = np.ascontiguousarray(picture.transpose(2, 0, 1))
        item: dict[str, Any] = {
            "image": torch.from_numpy(chw),
            "target": torch.as_tensor(self.targets[index]),
            "index": index,
        }
        if self.taught is not None:
            if self.taught.unlabelled[index]:
                item["target"] = torch.full_like(item["target"], UNKNOWN)
            item["answer"], item["answer_weight"] = self.taught.answer(index)
        return item


def _single_threaded_worker(worker: int) -> None:
    # OpenCV's own threads would compete with the other workers for the cores.
    cv2.setNumThreads(0)


class ProductDataModule(LightningDataModule):
    """Loaders for training, validation and test.

    Args:
        samples: the sample table, without pictures that the store lacks.
        store: the open picture store.
        targets: int64 ``[len(samples), ...]``, encoded by the task.
        train_ids, val_ids: str ``[N]``, ids of the training and the held-out samples.
        batch_size: pictures in a batch, on each device.
        per_class: pictures of each class in a training batch; None ignores classes.
        augment: augmentation of training pictures; None for none.
        num_workers: loader processes; 0 loads in the main process.
        seed: seed of the order and of the augmentation.
        first_epoch: epoch that training starts with, above 0 in a resumed run. Lightning sets it
            too, but too late for workers, which prefetch as soon as it counts the batches.
        pin_memory: pin batches for copies to a GPU.
        rank, world_size: rank of this process, and number of ranks that share each split.
        taught: a teacher's answers, which training batches hold; unlabelled pictures with an answer
            are learned, too. None for no teacher.

    Raises:
        ValueError: an argument out of range, ``per_class`` with several labels per picture or with
            a teacher, or whatever ``ClassSampler`` refuses.
        UserError: fewer than 2 training pictures.
    """

    def __init__(
        self,
        samples: pd.DataFrame,
        store: PictureStore,
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
        world_size: int = 1,
        taught: Taught | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; allowed: 1 or more.")
        if num_workers < 0:
            raise ValueError(f"num_workers={num_workers}; allowed: 0 or more.")
        if per_class is not None and targets.ndim > 1:
            raise ValueError(
                f"per_class={per_class} needs one label per picture, but these pictures have "
                f"several; set it to null."
            )
        if per_class is not None and taught is not None:
            raise ValueError(
                f"per_class={per_class} draws pictures by their labels, and those that a teacher "
                f"names have none; set it to null."
            )
        if len(train_ids) < 2:
            raise UserError(f"{len(train_ids)} training pictures are left; at least 2 are needed.")
        self.samples, self.store, self.targets = samples, store, targets
        self.batch_size, self.per_class, self.num_workers = batch_size, per_class, num_workers
        self.augment, self.seed, self.first_epoch = augment, seed, first_epoch
        self.pin_memory, self.rank, self.world_size = pin_memory, rank, world_size
        self.taught = taught
        test_ids = samples["id"][samples["split"] == "test"].to_numpy()
        self.ids = {"train": train_ids, "val": val_ids, "test": test_ids}
        self._row_of = pd.Series(np.arange(len(samples)), index=samples["id"])
        if per_class is not None:  # refuse an impossible batch now, not inside Trainer.fit
            self._class_sampler(per_class, self.indices("train"))

    def indices(self, split: str) -> np.ndarray:
        """Rows of the sample table in ``train``, ``val`` or ``test``, int64 ``[N]``."""
        return self._row_of[self.ids[split]].to_numpy()

    def loader(self, split: str, *, train: bool = False) -> DataLoader[dict[str, Any]]:
        """A loader over a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            train: shuffle and augment, add a teacher's unlabelled pictures, and drop a last batch
                of one picture (batch norm cannot learn from a single picture).
        """
        indices = self.indices(split)
        if train and self.taught is not None:
            indices = np.concatenate([indices, self.taught.unlabelled_rows])
        rows = self.store.rows(self.samples["id"].iloc[indices].tolist())
        dataset = PictureDataset(
            self.store,
            rows,
            self.targets,
            indices,
            augment=self.augment if train else None,
            seed=self.seed,
            taught=self.taught if train else None,
        )
        if train and self.per_class is not None:
            sampler: EpochSampler = self._class_sampler(self.per_class, indices)
        else:
            sampler = self.store.sampler(
                rows, shuffle=train, seed=self.seed, rank=self.rank, world_size=self.world_size
            )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            drop_last=train and len(sampler) % self.batch_size == 1 and len(dataset) > 1,
            pin_memory=self.pin_memory,
            # Each iteration starts with a draw. If it came from the global stream, dropout would
            # depend on when Lightning starts the iteration, which differs in a resumed run.
            generator=torch.Generator().manual_seed(self.seed),
            worker_init_fn=_single_threaded_worker,
            persistent_workers=train and self.num_workers > 0,
        )

    def some(self, indices: np.ndarray) -> DataLoader[dict[str, Any]]:
        """A loader over some rows of the sample table, int64 ``[N]``, without augmentation."""
        return self._plain_loader(indices, self.batch_size, shuffle=False)

    def shuffled(self, indices: np.ndarray, batch_size: int) -> DataLoader[dict[str, Any]]:
        """As ``some``, in an order that depends on ``indices`` only and mixes the classes.

        Args:
            indices: rows of the sample table, int64 ``[N]``.
            batch_size: pictures in a batch.
        """
        return self._plain_loader(indices, batch_size, shuffle=True)

    def _plain_loader(
        self, indices: np.ndarray, batch_size: int, *, shuffle: bool
    ) -> DataLoader[dict[str, Any]]:
        rows = self.store.rows(self.samples["id"].iloc[indices].tolist())
        return DataLoader(
            PictureDataset(self.store, rows, self.targets, indices),
            batch_size=batch_size,
            sampler=self.store.sampler(rows, shuffle=shuffle, seed=0, rank=0, world_size=1),
            num_workers=self.num_workers,
            drop_last=shuffle and len(indices) % batch_size == 1,
            generator=torch.Generator().manual_seed(self.seed),
            worker_init_fn=_single_threaded_worker,
        )

    def _class_sampler(self, per_class: int, indices: np.ndarray) -> ClassSampler:
        return ClassSampler(
            self.targets[indices],
            batch_size=self.batch_size,
            per_class=per_class,
            seed=self.seed,
            rank=self.rank,
            world_size=self.world_size,
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        loader = self.loader("train", train=True)
        cast(EpochSampler, loader.sampler).set_epoch(self.first_epoch)
        return loader

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        return self.loader("val") if len(self.ids["val"]) else []

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self.loader("test")
