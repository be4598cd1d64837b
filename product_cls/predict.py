"""Checkpoints and pictures to predictions, with test-time augmentation.

python -m product_cls.predict checkpoint=RUN/checkpoints/best.ckpt images=FOLDER_OR_CSV
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.device import pick_device
from product_cls.core.errors import UserError
from product_cls.core.files import check_place
from product_cls.data.incoming import list_images, read_batches
from product_cls.data.pictures import load_picture
from product_cls.inference.predictor import Predictor
from product_cls.inference.scoring import predict_scores
from product_cls.inference.tta import check_views
from product_cls.tasks.label_thresholds import read_thresholds, with_thresholds


@dataclass
class Arguments:
    """Name the products in pictures: the best classes as CSV, and a contact sheet.

    Of several labels a picture, the CSV has those that are there, and all probabilities.

    checkpoint: a checkpoint, or several whose scores are averaged, as "['a','b']": the inner quotes
      keep the commas of folders such as fold=0,model=b0.
    images: a folder of pictures, one picture, or a CSV with a column `path` (or `filename`).
    out: folder for predictions.csv and contact_sheet.png, which shows the first `shown` pictures.
    top: how many products to name; of several heads, each names its best class; of several labels,
      how many to write below a picture.
    tta: views to average, as in training.
    thresholds: of several labels, thresholds.json of an ensemble; null: one half for each.
    device: auto, cpu, cuda, cuda:<n>, mps.
    """

    checkpoint: Any = MISSING
    images: str = MISSING
    out: str = "predictions"
    top: int = 5
    tta: list[str] = field(default_factory=lambda: ["identity", "hflip"])
    thresholds: str | None = None
    batch_size: int = 64
    device: str = "auto"
    shown: int = 40


def main() -> None:
    # Imported here: training takes `predict_scores` from this module, and draws no sheets.
    from product_cls.display.contact_sheet import contact_sheet

    arguments = parse_arguments(Arguments, prog="python -m product_cls.predict")
    for key in ("top", "batch_size", "shown"):
        if getattr(arguments, key) < 1:
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: 1 or more.")
    given = arguments.checkpoint
    predictors = [
        Predictor.load(Path(name)) for name in (given if isinstance(given, list) else [given])
    ]
    first = predictors[0]
    known = (first.task.name, first.task.classes)
    if any((p.task.name, p.task.classes) != known for p in predictors):
        raise UserError(
            "The checkpoints name different classes, so their scores cannot be averaged."
        )
    for predictor in predictors:
        check_views(arguments.tta, predictor.size)
    images = list_images(Path(arguments.images))
    out, device = Path(arguments.out), pick_device(arguments.device)
    check_place(out)
    unreadable: dict[str, str] = {}

    all_scores = []
    for predictor in predictors:
        scores = predict_scores(
            predictor.network,
            predictor.task,
            _at_least_one(
                read_batches(predictor.picture, images, arguments.batch_size, unreadable),
                arguments.images,
            ),
            arguments.tta,
            device=device,
            description="predict",
        )
        all_scores.append(scores.tta)
    mean = np.mean(all_scores, axis=0)
    task = first.task
    if arguments.thresholds is not None:
        task = with_thresholds(task, read_thresholds(Path(arguments.thresholds)))
    columns, lines = task.describe(mean, arguments.top)
    table = pd.DataFrame({"image": [images[i][0] for i in scores.index], **columns})
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "predictions.csv", index=False)
    shown = scores.index[: arguments.shown]
    captions = [[images[i][0], *lines[row]] for row, i in enumerate(shown)]
    sheet = contact_sheet((load_picture(images[i][1]) for i in shown), captions)
    sheet.save(out / "contact_sheet.png")
    for name, why in unreadable.items():
        print(f"left out, cannot be decoded: {name}: {why}")
    print(table.head(10).to_string(index=False))
    print(f"{len(table)} pictures -> {out / 'predictions.csv'}, {out / 'contact_sheet.png'}")


def _at_least_one(batches: Iterable[dict[str, Any]], source: str) -> Iterable[dict[str, Any]]:
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        raise UserError(f"None of the pictures in {source} can be decoded.")


if __name__ == "__main__":
    guard(main)
