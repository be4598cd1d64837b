"""Predict new pictures with checkpoints, averaged over test-time augmentation.

python -m product_cls.predict checkpoint=RUN/checkpoints/best.ckpt images=FOLDER_OR_CSV
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from product_cls.core.cli import MISSING, check_at_least_one, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.core.files import check_place


@dataclass
class Arguments:
    """Name the products in pictures: the best classes as CSV, and a contact sheet.

    With several labels per picture, the CSV has the labels that are present, and all probabilities.

    checkpoint: a checkpoint, or several whose scores are averaged, as "['a','b']": the inner quotes
      keep the commas of folders such as fold=0,model=b0.
    images: a folder of pictures, one picture, or a CSV with a column `path` (or `filename`).
    out: folder for predictions.csv and contact_sheet.png, which shows the first `shown` pictures.
    top: number of products to name; with several heads, each names its best class; with several
      labels, the number to write below a picture.
    tta: views to average, as in training.
    thresholds: with several labels, thresholds.json of an ensemble; null: one half for each.
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
    arguments = parse_arguments(Arguments, prog="python -m product_cls.predict")
    check_at_least_one(arguments, "top", "batch_size", "shown")
    words = arguments.checkpoint
    checkpoints = [Path(name) for name in (words if isinstance(words, list) else [words])]
    for checkpoint in checkpoints:
        if not checkpoint.is_file():
            raise UserError(f"There is no checkpoint {checkpoint}.")
    if not Path(arguments.images).exists():
        raise UserError(f"There is no folder or file {arguments.images}.")
    out = Path(arguments.out)
    check_place(out)

    # Imported here, so that --help and errors do not wait seconds for torch.
    import numpy as np
    import pandas as pd

    from product_cls.core.device import pick_device
    from product_cls.data.incoming import list_images, read_batches
    from product_cls.data.pictures import load_picture
    from product_cls.display.contact_sheet import contact_sheet
    from product_cls.inference.predictor import Predictor
    from product_cls.inference.scoring import predict_scores
    from product_cls.inference.tta import check_views
    from product_cls.tasks.label_thresholds import read_thresholds, with_thresholds

    predictors = [Predictor.load(checkpoint) for checkpoint in checkpoints]
    task = predictors[0].task
    if any((p.task.name, p.task.classes) != (task.name, task.classes) for p in predictors):
        raise UserError(
            "The checkpoints name different classes, so their scores cannot be averaged."
        )
    for predictor in predictors:
        check_views(arguments.tta, predictor.size)
    images = list_images(Path(arguments.images))
    device = pick_device(arguments.device)
    unreadable: dict[str, str] = {}

    all_scores = []
    for predictor in predictors:
        batches = read_batches(predictor.picture, images, arguments.batch_size, unreadable)
        scores = predict_scores(
            predictor.network,
            predictor.task,
            _at_least_one(batches, arguments.images),
            arguments.tta,
            device=device,
            description="predict",
        )
        all_scores.append(scores.tta)
    mean = np.mean(all_scores, axis=0)
    if arguments.thresholds is not None:
        task = with_thresholds(task, read_thresholds(Path(arguments.thresholds)))
    columns, captions = task.describe(mean, arguments.top)
    table = pd.DataFrame({"image": [images[i][0] for i in scores.index], **columns})
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "predictions.csv", index=False)
    shown = scores.index[: arguments.shown]
    sheet = contact_sheet(
        (load_picture(images[i][1]) for i in shown),
        [[images[i][0], *captions[row]] for row, i in enumerate(shown)],
    )
    sheet.save(out / "contact_sheet.png")
    for name, why in unreadable.items():
        print(f"left out, cannot be decoded: {name}: {why}")
    print(table.head(10).to_string(index=False))
    print(f"{len(table)} pictures -> {out / 'predictions.csv'}, {out / 'contact_sheet.png'}")


def _at_least_one(batches: Iterable[dict[str, Any]], source: str) -> Iterable[dict[str, Any]]:
    """Pass the batches on.

    Raises:
        UserError: there is no batch.
    """
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        raise UserError(f"None of the pictures in {source} can be decoded.")


if __name__ == "__main__":
    guard(main)
