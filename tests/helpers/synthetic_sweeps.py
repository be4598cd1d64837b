"""Sweeps without training: folders as `python train.py -m` leaves them, with known effects."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.special import ndtri

from product_cls.core.files import write_text_whole
from product_cls.data.readers import read_competition
from product_cls.inference.predictions import Predictions
from product_cls.report.published import RECIPE_A
from product_cls.runs.folder import RunFolder

# The rows of the published ablation in its order, and their published effects, as shares.
ROWS = tuple(tuple(sorted(row, reverse=True)) for row in RECIPE_A)  # mixup before cutmix
EFFECTS = {row: (RECIPE_A[frozenset(row)] - RECIPE_A[frozenset()]) / 100 for row in ROWS}


def typed(row: Sequence[str]) -> str:
    return f"[{','.join(row)}]"


def folder_of(root: Path, row: Sequence[str], seed: int) -> RunFolder:
    return RunFolder(root / f"exclude={typed(row)},seed={seed}")


def write_multirun(
    root: Path, params: Mapping[str, str] | None, task: Sequence[str] = ("sweep=ablation",)
) -> None:
    """Write the file that Hydra leaves in the sweep's folder."""
    hydra = {"sweeper": {"params": params}, "overrides": {"hydra": [], "task": list(task)}}
    write_text_whole(root / "multirun.yaml", yaml.safe_dump({"hydra": hydra}))


def write_run(
    folder: RunFolder,
    config: Mapping[str, Any],
    overrides: Sequence[str],
    predictions: Predictions | None,
    status: Mapping[str, Any] | None = None,
    *,
    epochs: int = 6,
) -> RunFolder:
    """Write a run folder, done unless ``status`` says otherwise.

    Args:
        predictions: of the test split; None writes neither predictions nor metrics.
        status: replaces keys of ``status.json``.
        epochs: in the log of the learning curves.
    """
    write_text_whole(folder.config_file, yaml.safe_dump(dict(config)))
    write_text_whole(folder.path / ".hydra" / "overrides.yaml", yaml.safe_dump(list(overrides)))
    state: dict[str, Any] = {
        "state": "done",
        "fingerprint": "f",
        "started": "2026-01-02T10:00:00+00:00",
        "finished": "2026-01-02T10:05:00+00:00",
        "error": None,
        "epoch": epochs,
        "epochs": epochs,
        "metric": "val/accuracy",
        "value": 0.9,
    }
    folder.update_status(**(state | dict(status or {})))
    rng = np.random.default_rng([config["seed"], len(folder.path.name)])
    lines = ["epoch,train/loss_epoch,val/accuracy"]
    for epoch in range(epochs):
        noise = rng.normal(0, 0.01, 2)
        lines.append(f"{epoch},,{1 - 0.9 ** (2 * epoch + 2) + noise[0]:.4f}")
        lines.append(f"{epoch},{3 * 0.7**epoch + noise[1]:.4f},")
    write_text_whole(folder.path / "logs" / "metrics.csv", "\n".join(lines) + "\n")
    if predictions is None:
        return folder
    predictions.save(folder.predictions_file("test"))
    accuracy = float((predictions.scores.argmax(1) == predictions.target).mean())
    write_text_whole(
        folder.metrics_file,
        json.dumps(
            {
                "test": {"count": len(predictions.id), "accuracy": accuracy},
                "best_epoch": epochs,
                "epochs": epochs,
                "seconds": {"fit": 250.0, "predict": 12.5},
                "device": "cpu",
                "versions": {"python": "3.11", "torch": "2.14"},
            }
        ),
    )
    return folder


def synthetic_predictions(
    right: np.ndarray, ids: Sequence[str], labels: Sequence[str], views: Sequence[float]
) -> Predictions:
    """Predictions that are correct where ``right`` is true, and else decide for the next product.

    Args:
        right: bool ``[N]``.
        ids, labels, views: of the N pictures.
    """
    classes = sorted(set(labels), key=lambda name: (len(name), name))
    target = np.array([classes.index(label) for label in labels])
    decided = np.where(right, target, (target + 1) % len(classes))
    scores = np.full((len(target), len(classes)), 0.1 / (len(classes) - 1), np.float32)
    scores[np.arange(len(target)), decided] = 0.9
    plain = np.roll(scores, 1, axis=1)  # different decisions, so that tests notice a mix-up
    return Predictions(
        id=np.array(ids),
        scores=scores,
        scores_no_tta=plain,
        classes=np.array(classes),
        task={"name": "single_label", "label": "label", "classes": classes},
        target=target,
        view=np.array(views, dtype=float),
    )


def write_ablation(
    root: Path,
    effects: Mapping[tuple[str, ...], float] = EFFECTS,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    seed_sd: float = 0.007,
    products: int = 40,
    pictures: int = 30,
    base: float = 0.85,
    data: Path | None = None,
    noise: int = 0,
) -> Path:
    """Write a complete ablation, in which ``effects[row]`` is added to the accuracy.

    Args:
        effects: shares, by excluded steps.
        seed_sd: standard deviation of accuracy between seeds, a share.
        base: accuracy without effects, a share.
        data: folder of real pictures in the competition's layout, whose test split is predicted;
            None: ``products`` with ``pictures`` each, which have no files.
        noise: seed of all random numbers.
    """
    rng = np.random.default_rng(noise)
    if data is None:
        labels = [str(k // pictures) for k in range(products * pictures)]
        ids = [f"test/{k}.jpg" for k in range(len(labels))]
        views = [30.0 * (k % 3) for k in range(len(labels))]
    else:
        samples = read_competition(data)
        test = samples[samples["split"] == "test"]
        ids, labels = test["id"].tolist(), test["label"].astype(str).tolist()
        views = test["view"].astype(float).tolist()
    _, product = np.unique(labels, return_inverse=True)
    hardness = rng.normal(0, 0.05, product.max() + 1).clip(-0.1, 0.1)[product]
    steepness = 0.06 - np.array(views) / 500  # views unlike those of training are harder
    picture = rng.normal(size=len(labels))
    for row, effect in effects.items():
        own = rng.normal(0, 0.01, product.max() + 1)[product]
        for seed in seeds:
            share = base + effect + hardness + steepness + own + rng.normal(0, seed_sd)
            drawn = np.sqrt(0.8) * picture + np.sqrt(0.2) * rng.normal(size=len(labels))
            right = drawn < ndtri(share.clip(0.001, 0.999))
            reader = "product_cls.data.readers.read_competition"
            config = {
                "data": {
                    "root": str(data or "nowhere"),
                    "samples": {"_target_": reader, "root": str(data or "nowhere")},
                },
                "task": {"label": "label"},
                "exclude": list(row),
                "seed": seed,
                "fold": 0,
                "name": "ablation",
                "logger": {"csv": {"save_dir": f"run {seed}"}},
            }
            write_run(
                folder_of(root, row, seed),
                config,
                [f"exclude={typed(row)}", f"seed={seed}"],
                synthetic_predictions(right, ids, labels, views),
            )
    write_multirun(
        root,
        {"exclude": ",".join(map(typed, effects)), "seed": ",".join(map(str, seeds))},
        ["sweep=ablation", "trainer.max_epochs=6"],
    )
    return root
