"""Which weights of a training to keep: the best epoch's, the last one's, or a mean of the last few.

    python benchmarks/keep.py                     # ten trainings; about half an hour on one core
    python benchmarks/keep.py seeds=3 products=8 epochs=4 size=32 model=tiny

Each training keeps the weights of all its epochs, and the same test pictures are then scored with
each choice, so that choices differ by nothing else. Prints the mean accuracy on the test part of
rendered products, and the difference to ``keep=best`` with its 95 % interval over the trainings;
writes benchmarks/results/keep.json. ``--help`` lists the settings.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import report
from scipy import stats

from product_cls import api
from product_cls.core.checkpoint_file import read_checkpoint
from product_cls.core.cli import guard, parse_arguments
from product_cls.data.incoming import decoded_batches
from product_cls.data.pictures import load_picture
from product_cls.inference.predictor import Predictor
from product_cls.inference.scoring import predict_scores

LAST = 3  # epochs in the mean, as ``keep=average`` takes


@dataclass
class Arguments:
    """Trainings on rendered products that differ by their seed.

    seeds: number of trainings. products, size, epochs, model, scheduler: of each. folder: for the
    data, which are kept there, and the runs, which are not.
    """

    seeds: int = 10
    products: int = 24
    size: int = 64
    epochs: int = 8
    model: str = "lite0"
    scheduler: str = "cosine"
    folder: str = "data"
    out: str | None = None


def choices(checkpoints: Path, epochs: int) -> dict[str, dict[str, torch.Tensor]]:
    """The network's weights by choice."""
    files = [checkpoints / f"each-{epoch}.ckpt" for epoch in range(epochs)]
    states = [read_checkpoint(file)["state_dict"] for file in files]
    last = states[-LAST:]
    mean = {
        name: torch.stack([state[name] for state in last]).mean(dim=0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[-1].items()
    }
    best = read_checkpoint(checkpoints / "best.ckpt")["state_dict"]
    return {"best": best, "last": states[-1], "average": mean}


def accuracy(predictor: Predictor, samples: pd.DataFrame) -> dict[str, float]:
    """Accuracy in per cent on all test pictures, and by view."""
    paths, shape = samples["path"].tolist(), (predictor.size, predictor.fit)
    batches = decoded_batches(
        lambda k: load_picture(paths[k]), len(paths), {shape}, 64, lambda k, why: None
    )
    parts = ({"image": images[shape], "index": np.array(rows)} for rows, images in batches)
    scored = predict_scores(
        predictor.network, predictor.task, parts, ["identity"], device=torch.device("cpu")
    )
    names = np.array(predictor.task.classes)[scored.plain.argmax(axis=1)]
    right = pd.Series(names == samples["label"].to_numpy(), index=samples["view"].to_numpy())
    by_view = {f"view {view}": 100 * part.mean() for view, part in right.groupby(level=0)}
    return {"test": 100 * right.mean(), **by_view}


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/keep.py")
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows += one_training(arguments, seed, Path(folder) / "run")
        print(f"{seed + 1} of {arguments.seeds}", flush=True)
    table = pd.DataFrame(rows).set_index(["seed", "keep"])
    summary = []
    for name in ("best", "last", "average"):
        part = table.xs(name, level="keep")
        difference = part - table.xs("best", level="keep")
        half = stats.t.ppf(0.975, len(part) - 1) * difference.sem()
        row: dict[str, Any] = {"keep": name}
        for column in part:
            row[column] = round(float(part[column].mean()), 2)
            if name != "best":
                row[f"{column}: less best"] = (
                    f"{difference[column].mean():+.2f} +- {half[column]:.2f}"
                )
        summary.append(row)
    title = f"accuracy in %, mean of {arguments.seeds} trainings"
    report("keep", summary, title, arguments.out, "pytorch-lightning", "timm")


def one_training(arguments: Arguments, seed: int, run: Path) -> list[dict[str, Any]]:
    """Train once, and score the test pictures with each choice."""
    callback, data = "+callbacks.each", Path(arguments.folder) / f"keep-{arguments.products}"
    config = api.compose(
        f"model={arguments.model}",
        f"data.products={arguments.products}",
        f"data.size={arguments.size}",
        f"data.root={data}",
        f"trainer.max_epochs={arguments.epochs}",
        f"scheduler={arguments.scheduler}",
        f"seed={seed}",
        "augment_engine=fast",
        "tta=[identity]",
        f"{callback}._target_=pytorch_lightning.callbacks.ModelCheckpoint",
        f"{callback}.dirpath={run}/checkpoints",
        f"{callback}.filename='each-{{epoch}}'",
        f"{callback}.auto_insert_metric_name=false",
        f"{callback}.monitor=val/loss",
        f"{callback}.save_top_k=-1",
    )
    api.train(config, folder=run)
    predictor = Predictor.load(run / "checkpoints" / "best.ckpt")
    views = pd.read_csv(data / "views.csv", dtype=str)
    samples = views[views["split"] == "test"].rename(columns={"pitch": "view"})
    samples["path"] = [data / name for name in samples["id"]]
    rows = []
    for name, state in choices(run / "checkpoints", arguments.epochs).items():
        prefix = "network."
        weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        predictor.network.load_state_dict(weights)
        rows.append({"seed": seed, "keep": name, **accuracy(predictor, samples)})
    return rows


if __name__ == "__main__":
    guard(main)
