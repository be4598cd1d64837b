"""The parts that ``growth.py`` measures. Each function takes a size and an empty folder, prepares
some work and returns it as a function; only the call of that function is measured."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
import yaml
from common import waves
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from product_cls.core.files import write_text_whole
from product_cls.data.folds import make_folds
from product_cls.data.folds_file import load_or_make_folds
from product_cls.data.mix import Mix
from product_cls.data.readers import read_folder
from product_cls.data.samplers import ClassSampler, EpochSampler
from product_cls.data.samples import samples_fingerprint
from product_cls.data.store import build_store
from product_cls.ensemble import __main__ as ensemble
from product_cls.inference.predictions import Predictions
from product_cls.models.heads import ArcMargin
from product_cls.optim.adamp import AdamP
from product_cls.report import __main__ as report
from product_cls.runs.folder import RunFolder
from product_cls.tasks import build_task

Work = Callable[[], Any]
SIDE = 32  # pixels per side
CLASSES = 50  # if the number of pictures grows
DIFFERENT = 1000  # distinct files; the others are links to them, but decoded all the same
PER_CLASS = 5  # pictures, if the number of classes grows
BATCH = 64
STEPS = 2


def picture_folder(size: int, root: Path) -> Path:
    """``size`` JPEG files, in one folder per class."""
    files: list[Path] = []
    for k, picture in enumerate(waves(min(size, DIFFERENT), SIDE)):
        files.append(root / "first" / f"{k}.jpg")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(files[-1], quality=92)
    for label in range(CLASSES):
        (root / "train" / str(label)).mkdir(parents=True)
    for k in range(size):
        os.link(files[k % len(files)], root / "train" / str(k % CLASSES) / f"{k}.jpg")
    return root / "train"


def table(size: int, classes: int) -> pd.DataFrame:
    """Samples without files, in groups of ten."""
    rows = np.arange(size)
    return pd.DataFrame(
        {
            "id": [f"train/{k % classes}/{k}.jpg" for k in rows],
            "path": "nowhere",
            "split": "train",
            "label": (rows % classes).astype(str),
            "group": (rows // 10).astype(str),
        }
    )


def samples(size: int, folder: Path) -> Work:
    root = picture_folder(size, folder)
    return lambda: samples_fingerprint(read_folder(root))


def store(size: int, folder: Path) -> Work:
    found = read_folder(picture_folder(size, folder))
    return lambda: build_store(found, folder / "store", (SIDE, SIDE))


def store_again(size: int, folder: Path) -> Work:
    found = read_folder(picture_folder(size, folder))
    build_store(found, folder / "store", (SIDE, SIDE))
    ids = found["id"].tolist()
    return lambda: build_store(found, folder / "store", (SIDE, SIDE)).rows(ids)


def folds(size: int, folder: Path) -> Work:
    return partial(make_folds, table(size, CLASSES), "stratified", label="label")


def folds_by_group(size: int, folder: Path) -> Work:
    # Groups of ten pictures of ten classes.
    return partial(make_folds, table(size, CLASSES), "stratified_group", label="label")


def folds_again(size: int, folder: Path) -> Work:
    read = partial(
        load_or_make_folds, folder / "folds.csv", table(size, CLASSES), "stratified", label="label"
    )
    read()
    return read


def epoch(size: int, folder: Path) -> Work:
    return lambda: list(EpochSampler(size, shuffle=True, seed=0))


def epoch_by_class(size: int, folder: Path, classes: int = CLASSES) -> Work:
    labels = np.arange(size) % classes
    return lambda: list(ClassSampler(labels, batch_size=BATCH, per_class=4, seed=0))


def write_run(
    folder: RunFolder, size: int, classes: int, seed: int, overrides: list[str], fold: int | None
) -> None:
    """A finished run as training leaves it, with random scores; a fold adds a held-out part."""
    draw = np.random.default_rng(seed)
    config = {
        "model": {"backbone": "made_up"},
        "data": {"root": "nowhere"},
        "task": {"label": "label"},
        "tta": ["identity"],
        "seed": seed,
        "fold": fold or 0,
    }
    write_text_whole(folder.config_file, yaml.safe_dump(config))
    write_text_whole(folder.path / ".hydra" / "overrides.yaml", yaml.safe_dump(overrides))
    folder.update_status(state="done", error=None)
    write_text_whole(folder.metrics_file, json.dumps({"epochs": 1, "seconds": {}}))
    names = np.array([str(k) for k in range(classes)])
    parts = {"test": np.arange(size)}
    if fold is not None:
        parts["val"] = np.arange(fold, size, PER_CLASS)
    for split, rows in parts.items():
        Predictions(
            id=np.array([f"{split}/{k}.jpg" for k in rows]),
            scores=draw.random((len(rows), classes), np.float32),
            scores_no_tta=draw.random((len(rows), classes), np.float32),
            classes=names,
            task={"name": "single_label", "label": "label", "classes": names.tolist()},
            target=rows % classes,
            view=30.0 * (rows % 3),
        ).save(folder.predictions_file(split))


def command(main: Callable[[], None], *words: str) -> Work:
    """Run a command as typed, and discard its output."""

    def call() -> None:
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            mock.patch.object(sys, "argv", ["command", *words]),
        ):
            main()

    return call


def five_folds(size: int, folder: Path, classes: int = CLASSES) -> Work:
    for fold in range(5):
        write_run(RunFolder(folder / f"fold={fold}"), size, classes, 0, [f"fold={fold}"], fold)
    return command(ensemble.main, f"runs={folder}", "device=cpu")


def whole_report(size: int, folder: Path, *words: str) -> Work:
    for k in range(6):
        typed = [f"optimizer.lr={'0.1' if k < 3 else '0.2'}", f"seed={k % 3}"]
        write_run(RunFolder(folder / ",".join(typed)), size, CLASSES, k % 3, typed, None)
    return command(report.main, f"runs={folder}", *words)


def head(size: int, folder: Path) -> Work:
    """A linear head on 1,280 features, as EfficientNet B0 has."""
    return partial(train, lambda: nn.Linear(1280, size), 1280, size)


def mixed_head(size: int, folder: Path) -> Work:
    return partial(train, lambda: nn.Linear(1280, size), 1280, size, mixed=True)


def arcface(size: int, folder: Path) -> Work:
    return partial(train, lambda: ArcMargin(512, size), 512, size)


def train(make: Callable[[], nn.Module], features: int, classes: int, mixed: bool = False) -> None:
    """Build the head, and take AdamP steps on a batch of features."""
    torch.manual_seed(0)
    module = make()
    optimizer = AdamP(module.parameters(), lr=1e-3, weight_decay=1e-2)
    inputs, target = torch.randn(BATCH, features), torch.randint(classes, (BATCH,))
    mix, draw = Mix(mixup=0.0, cutmix=1.0, p=1.0), np.random.default_rng(0)
    for _ in range(STEPS):
        outputs: Tensor = (
            module(inputs, target) if isinstance(module, ArcMargin) else module(inputs)
        )
        loss = cross_entropy(outputs, target)
        if mixed:
            _, perm, lam = mix(torch.zeros(BATCH, 3, SIDE, SIDE), draw)
            loss = lam * loss + (1 - lam) * cross_entropy(outputs, target[perm])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def labels(size: int, folder: Path) -> Work:
    found = table(size * PER_CLASS, size)

    def learn() -> None:
        task = build_task({"name": "single_label", "label": "label", "classes": []})
        task.fit(found)
        task.encode(found)

    return learn


PICTURES_PARTS: dict[str, Callable[[int, Path], Work]] = {
    "samples": samples,
    "store": store,
    "store again": store_again,
    "folds": folds,
    "folds by group": folds_by_group,
    "folds again": folds_again,
    "epoch": epoch,
    "epoch by class": epoch_by_class,
    "ensemble": five_folds,
    "report": whole_report,
    "report by picture": lambda size, folder: whole_report(size, folder, "by_product=false"),
}
CLASSES_PARTS: dict[str, Callable[[int, Path], Work]] = {
    "head": head,
    "mixed head": mixed_head,
    "arcface": arcface,
    "labels": labels,
    "folds of classes": lambda size, folder: partial(
        make_folds, table(size * PER_CLASS, size), "stratified", label="label"
    ),
    "epoch of classes": lambda size, folder: epoch_by_class(size * PER_CLASS, folder, size),
    # 200 pictures.
    "ensemble of classes": lambda size, folder: five_folds(200, folder, size),
}
