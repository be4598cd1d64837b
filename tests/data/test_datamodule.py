"""Batches: their contents, and augmentation that does not depend on workers or interruptions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Refused
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from product_cls.data.augment import Augment
from product_cls.data.datamodule import (
    ClassSampler,
    EpochSampler,
    PictureDataset,
    ProductDataModule,
    derive_seed,
)
from product_cls.data.folds import make_folds, split_rows
from product_cls.data.image_store import ImageStore
from product_cls.data.readers import read_competition
from product_cls.data.store import build_store

LABELS = ["0", "1", "2", "10"]
STRONG = {
    "shift_scale_rotate": {"transform": "ShiftScaleRotate", "border_mode": 1, "p": 1.0},
    "grid_distortion": {"transform": "GridDistortion", "border_mode": 1, "p": 0.5},
}


@pytest.fixture(scope="module")
def samples(tiny_root: Path) -> pd.DataFrame:
    return read_competition(tiny_root)


@pytest.fixture(scope="module")
def store(samples: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return build_store(samples, tmp_path_factory.mktemp("store") / "store", (32, 32))


@pytest.fixture(scope="module")
def same_picture(samples: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """A store of identical pictures, so that only the draws differ."""
    alike = samples.assign(path=samples["path"][0])
    return build_store(alike, tmp_path_factory.mktemp("alike") / "store", (32, 32))


def module(samples: pd.DataFrame, store: ImageStore, **options: Any) -> ProductDataModule:
    train, val = split_rows(make_folds(samples, "stratified", label="label"), 0)
    settings = {"train_ids": train, "val_ids": val, "batch_size": 4, "augment": Augment(STRONG)}
    targets = np.array([LABELS.index(label) for label in samples["label"]], np.int64)
    return ProductDataModule(samples, store, targets, **{**settings, **options})


def pictures(loader: DataLoader[Any], epoch: int) -> dict[int, bytes]:
    """Row of the sample table -> its picture, for one epoch as Lightning runs it."""
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(epoch)
    return {
        int(index): image.numpy().tobytes()
        for batch in loader
        for index, image in zip(batch["index"], batch["image"], strict=True)
    }


def order(loader: DataLoader[Any], epoch: int) -> list[int]:
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(epoch)
    return [int(index) for batch in loader for index in batch["index"]]


# --- batches


@pytest.mark.parametrize("workers", [0, 2])
def test_contents_of_batches(samples: pd.DataFrame, store: ImageStore, workers: int) -> None:
    data = module(samples, store, num_workers=workers)
    for split in ("train", "val", "test"):
        loader = data.loader(split)
        seen = []
        for batch in loader:
            assert set(batch) == {"image", "target", "index"}
            assert batch["image"].dtype == torch.uint8 and batch["image"].shape[1:] == (3, 32, 32)
            assert batch["index"].dtype == torch.int64 and batch["target"].dtype == torch.int64
            for image, target, index in zip(*batch.values(), strict=True):
                row = samples.iloc[int(index)]
                assert LABELS[int(target)] == row["label"]
                expected = store.pixels[store.rows([row["id"]])[0]]
                assert (image.numpy().transpose(1, 2, 0) == expected).all()
                seen.append(row["id"])
        # Unaugmented, in order and complete.
        assert seen == list(data.ids[split])
        assert (data.indices(split) == [samples["id"].tolist().index(i) for i in seen]).all()


def test_only_training_is_shuffled_and_augmented(samples: pd.DataFrame, store: ImageStore) -> None:
    data = module(samples, store)
    plain = pictures(data.loader("train"), 0)
    augmented = pictures(data.train_dataloader(), 0)
    assert set(plain) == set(augmented) == set(data.indices("train").tolist())
    assert sum(plain[index] != augmented[index] for index in plain) >= len(plain) - 2
    assert order(data.train_dataloader(), 0) != sorted(data.indices("train").tolist())
    val = data.val_dataloader()
    assert isinstance(val, DataLoader)
    assert pictures(val, 0) == pictures(val, 1) == pictures(data.loader("val"), 5)
    assert order(data.test_dataloader(), 3) == data.indices("test").tolist()
    assert not data.test_dataloader().persistent_workers


def test_without_validation_pictures(samples: pd.DataFrame, store: ImageStore) -> None:
    train, val = split_rows(make_folds(samples, "stratified", label="label"), "all")
    data = module(samples, store, train_ids=train, val_ids=val)
    assert data.val_dataloader() == []
    assert len(pictures(data.train_dataloader(), 0)) == 40


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (9, 4, [4, 4]),  # batch norm learns nothing from a last batch of one
        (10, 4, [4, 4, 2]),
        (8, 4, [4, 4]),
        (3, 1, [1, 1, 1]),
        (5, 8, [5]),
        (2, 2, [2]),
    ],
)
def test_no_last_training_batch_of_one(
    samples: pd.DataFrame, store: ImageStore, count: int, batch_size: int, sizes: list[int]
) -> None:
    data = module(samples, store, batch_size=batch_size)
    data.ids["train"] = data.ids["train"][:count]
    assert [len(batch["index"]) for batch in data.train_dataloader()] == sizes
    assert sum(len(batch["index"]) for batch in data.loader("train")) == count


def test_a_different_picture_is_dropped_in_each_epoch(
    samples: pd.DataFrame, store: ImageStore
) -> None:
    data = module(samples, store)
    data.ids["train"] = data.ids["train"][:9]
    left_out = [
        set(data.indices("train")) - set(order(data.train_dataloader(), e)) for e in range(9)
    ]
    assert len(set.union(*left_out)) > 3


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"batch_size": 0}, "batch_size=0; allowed: 1 or more"),
        ({"num_workers": -1}, "num_workers=-1; allowed: 0 or more"),
        ({"train_ids": np.array(["train/0/0.jpg"])}, "1 training pictures"),
        (
            {"per_class": 3},
            "batch_size=4 cannot hold pictures of 2 or more classes with per_class=3",
        ),  # now, not inside Trainer.fit
    ],
)
def test_bad_arguments(
    samples: pd.DataFrame, store: ImageStore, refused: Any, options: dict[str, Any], part: str
) -> None:
    with refused(part):
        module(samples, store, **options)


# --- augmentation depends on seed, epoch and picture alone


@pytest.mark.parametrize("workers", [0, 2])
def test_draws_differ_between_pictures_workers_and_epochs(
    samples: pd.DataFrame, same_picture: ImageStore, workers: int
) -> None:
    loader = module(samples, same_picture, num_workers=workers).train_dataloader()
    assert loader.persistent_workers == (workers > 0)
    first, second = pictures(loader, 0), pictures(loader, 1)
    assert len(first) == 32
    # The pictures are identical, so only draws can differ. Each of two workers has 4 batches.
    assert len({*first.values(), *second.values()}) == 64


def test_draws_do_not_depend_on_workers(samples: pd.DataFrame, store: ImageStore) -> None:
    loaders = [
        module(samples, store, num_workers=workers).train_dataloader() for workers in (0, 1, 2)
    ]
    for epoch in (0, 1):
        alone, one, two = (pictures(loader, epoch) for loader in loaders)
        assert alone == one == two
    assert order(loaders[0], 1) == order(loaders[2], 1)


def test_draws_do_not_depend_on_persistent_workers(
    samples: pd.DataFrame, store: ImageStore
) -> None:
    data = module(samples, store, num_workers=2)
    persistent = data.train_dataloader()
    assert isinstance(persistent.dataset, PictureDataset)
    sampler = EpochSampler(32, shuffle=True, seed=0)
    restarted = DataLoader(persistent.dataset, batch_size=4, sampler=sampler, num_workers=2)
    for epoch in (0, 1):
        assert pictures(persistent, epoch) == pictures(restarted, epoch)


def test_draws_do_not_depend_on_batch_size_or_global_seeds(
    samples: pd.DataFrame, store: ImageStore
) -> None:
    expected = pictures(module(samples, store).train_dataloader(), 0)
    np.random.seed(1), torch.manual_seed(1)
    assert pictures(module(samples, store, batch_size=8).train_dataloader(), 0) == expected


def test_a_seed_is_repeatable(samples: pd.DataFrame, store: ImageStore) -> None:
    def two_epochs(seed: int) -> list[Any]:
        loader = module(samples, store, num_workers=2, seed=seed).train_dataloader()
        return [(pictures(loader, epoch), order(loader, epoch)) for epoch in (0, 1)]

    assert two_epochs(3) == two_epochs(3)
    assert two_epochs(3) != two_epochs(4)


def test_epochs_can_be_resumed(samples: pd.DataFrame, store: ImageStore) -> None:
    whole = module(samples, store).train_dataloader()
    history = [(order(whole, epoch), pictures(whole, epoch)) for epoch in range(4)]
    assert len({tuple(indices) for indices, _ in history}) == 4
    resumed = module(samples, store).train_dataloader()
    assert (order(resumed, 3), pictures(resumed, 3)) == history[3]


def test_sampler_keeps_the_epoch_it_started_with() -> None:
    sampler = EpochSampler(4, shuffle=True, seed=0)
    started = iter(sampler)
    sampler.set_epoch(1)
    assert {epoch for _, epoch in started} == {0}
    assert {epoch for _, epoch in sampler} == {1} and len(sampler) == 4


def test_derived_seeds() -> None:
    seeds = {derive_seed(a, b, c) for a in range(12) for b in range(12) for c in range(12)}
    assert len(seeds) == 12**3 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert derive_seed(0, 1, 2) == derive_seed(0, 1, 2)


# --- under Lightning


class Recorder(LightningModule):
    """Learns nothing; records its training batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[int, dict[int, bytes]] = {}

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        epoch = self.seen.setdefault(self.current_epoch, {})
        for index, image in zip(batch["index"], batch["image"], strict=True):
            epoch[int(index)] = image.numpy().tobytes()
        return self.weight.sum()

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        assert batch["image"].dtype == torch.uint8

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data: ProductDataModule, folder: Path, epochs: int, resume: Path | None = None) -> Recorder:
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, filename="last", save_top_k=1)],
    )
    trainer.fit(recorder, data, ckpt_path=resume, weights_only=True)
    return recorder


def test_epochs_under_lightning_and_after_resuming(
    samples: pd.DataFrame, store: ImageStore, tmp_path: Path
) -> None:
    whole = fit(module(samples, store), tmp_path / "whole", 3).seen
    assert [len(epoch) for epoch in whole.values()] == [32, 32, 32]
    assert whole[0] != whole[1] != whole[2]
    loader = module(samples, store).train_dataloader()
    assert whole == {epoch: pictures(loader, epoch) for epoch in range(3)}
    first = fit(module(samples, store), tmp_path / "cut", 1).seen
    rest = fit(module(samples, store), tmp_path / "rest", 3, tmp_path / "cut" / "last.ckpt").seen
    assert first | rest == whole and sorted(rest) == [1, 2]


def dealt(make: Callable[[int, int], EpochSampler], ranks: int, batch: int) -> list[list[set[int]]]:
    """The batches of each rank in the second epoch."""
    result = []
    for rank in range(ranks):
        sampler = make(rank, ranks)
        sampler.set_epoch(1)
        positions = [position for position, _ in sampler]
        assert len(positions) == len(sampler)
        result.append([set(positions[k : k + batch]) for k in range(0, len(positions), batch)])
    return result


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_split_the_batches_of_one_process(ranks: int) -> None:
    def make(rank: int, ranks: int) -> EpochSampler:
        return EpochSampler(29, shuffle=True, seed=3, rank=rank, world_size=ranks)

    [whole] = dealt(make, 1, 4 * ranks)
    parts = dealt(make, ranks, 4)
    assert {len(part) for part in parts} == {len(parts[0])}
    joined = [set.union(*batches) for batches in zip(*parts, strict=True)]
    assert joined[:-1] == whole[:-1]
    # The remainder of fewer than `ranks` pictures is dropped; no picture comes twice.
    assert joined[-1] <= whole[-1] and len(whole[-1] - joined[-1]) == 29 % ranks
    assert sum(len(batch) for part in parts for batch in part) == 29 - 29 % ranks


def test_ranks_validate_every_picture_once() -> None:
    def make(rank: int, ranks: int) -> EpochSampler:
        return EpochSampler(29, shuffle=False, seed=3, rank=rank, world_size=ranks)

    parts = [[p for batch in part for p in batch] for part in dealt(make, 3, 4)]
    assert sorted(p for part in parts for p in part) == list(range(29))
    assert [len(part) for part in parts] == [10, 10, 9]


def test_ranks_keep_hands_of_a_class_together(refused: Refused) -> None:
    labels = np.repeat(np.arange(6), [4, 5, 8, 8, 9, 12])

    def make(rank: int, ranks: int) -> EpochSampler:
        return ClassSampler(labels, batch_size=6, per_class=2, seed=3, rank=rank, world_size=ranks)

    parts = dealt(make, 2, 6)
    assert [len(part) for part in parts] == [3, 3]  # of 22 hands: 7 batches, one of them left over
    batches = [batch for part in parts for batch in part]
    assert len(set.union(*batches)) == sum(len(batch) for batch in batches) == 36
    for batch in batches:
        assert set(np.unique(labels[list(batch)], return_counts=True)[1]) <= {2, 4}
    with refused("batch_size=6 on 9 devices"):
        make(0, 9)
