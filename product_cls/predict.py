"""Predict new pictures with checkpoints or another model, averaged over test-time augmentation.

python -m product_cls.predict checkpoint=RUN/checkpoints/best.ckpt images=FOLDER_OR_CSV
python -m product_cls.predict model=RUN_OR_SWEEP_OR_INDEX images=FOLDER_OR_CSV
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from product_cls.core.cli import MISSING, check_at_least_one, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.errors import UserError
from product_cls.core.files import check_place, check_there


@dataclass
class Arguments:
    """Name the products in pictures: the best classes as CSV, and a contact sheet.

    With several labels per picture, the CSV has the labels that are present, and all probabilities.

    checkpoint: a checkpoint, or several whose scores are averaged, as "['a','b']": the inner quotes
      keep the commas of folders such as fold=0,model=b0. The best checkpoint of a retrieval run
      answers by the vote of neighbours in the run's gallery, as the run's accuracy is measured;
      without its run folder it answers by the softmax of its head.
    model: instead of checkpoint: the folder of a run, of a sweep (the vote of its finished runs) or
      of an index, or an ONNX file.
    images: a folder of pictures, one picture, or a CSV with a column `path` (or `filename`).
    out: folder for predictions.csv and contact sheets of the `shown` most doubtful pictures, which
      fit on a screen each.
    top: number of products to name; with several heads, each names its best class; with several
      labels, the number to write below a picture.
    tta: views to average, as in training; null: identity and hflip for checkpoints, the views of a
      model itself otherwise.
    adapt: batchnorm: the networks take batch norm statistics of these pictures, which are best of
      one camera angle and of many products; infomax: they also learn from them, assuming that all
      products are about equally frequent; null: the networks as they were trained.
    adapt_share: of these pictures in the statistics, 0 to 1; the rest are the training's.
    prior: how many of these pictures show each product, if that is known: uniform (equally many),
      or a CSV with the columns label and count. predictions-class-totals.csv then has the answers
      that respect it.
    thresholds: with several labels, thresholds.json of an ensemble; null: one half for each.
    device: auto, cpu, cuda, cuda:<n>, mps.
    csv: plain; excel: a table that opens right in a spreadsheet.
    """

    checkpoint: Any = None
    model: str | None = None
    images: str = MISSING
    out: str = "predictions"
    top: int = 5
    tta: list[str] | None = None
    adapt: str | None = None
    adapt_share: float = 1.0
    prior: str | None = None
    thresholds: str | None = None
    batch_size: int = 64
    device: str = "auto"
    shown: int = 40
    csv: str = "plain"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.predict")
    check_at_least_one(arguments, "top", "batch_size", "shown")
    check_style(arguments.csv)
    if arguments.adapt not in (None, "batchnorm", "infomax"):
        raise UserError(f"adapt={arguments.adapt}; allowed: batchnorm, infomax, null.")
    if not 0 <= arguments.adapt_share <= 1:
        raise UserError(f"adapt_share={arguments.adapt_share}; allowed: 0 to 1.")
    if arguments.adapt is None and arguments.adapt_share != 1:
        raise UserError(
            f"adapt_share={arguments.adapt_share} has no effect without adapt=batchnorm or infomax."
        )
    if arguments.prior == "estimated":
        raise UserError(
            "prior=estimated needs the held-out pictures of the training, for which there is "
            "`ensemble runs=... prior=estimated`; allowed: uniform, a file, null."
        )
    if arguments.prior not in (None, "uniform"):
        check_there(Path(arguments.prior))
    names = arguments.checkpoint or []
    checkpoints = [Path(name) for name in (names if isinstance(names, list) else [names])]
    if bool(checkpoints) == (arguments.model is not None):
        raise UserError("Give one of checkpoint=FILE and model=RUN_OR_SWEEP_OR_INDEX_OR_FILE.")
    sources = checkpoints if arguments.model is None else [Path(arguments.model)]
    for place in [*sources, Path(arguments.images)]:
        check_there(place, "checkpoint" if place in checkpoints else "folder or file")
    for checkpoint in checkpoints:
        if checkpoint.is_dir():
            kind = "a run folder" if (checkpoint / "status.json").is_file() else "a folder"
            raise UserError(
                f"checkpoint={checkpoint} is {kind}, not a checkpoint; "
                f"model={checkpoint} opens the folder of a run, a sweep or an index."
            )
    out = Path(arguments.out)
    check_place(out)

    # Imported here, so that --help and errors do not wait seconds for torch.
    import numpy as np
    import pandas as pd

    from product_cls.config.border import keys_for_arguments
    from product_cls.core.device import pick_device
    from product_cls.core.names import shown
    from product_cls.core.progress import progress_bar
    from product_cls.core.tables import formula_note, write_csv
    from product_cls.data.incoming import decoded_batches, list_images
    from product_cls.data.pictures import load_picture
    from product_cls.display.contact_sheet import contact_sheets, save_sheets
    from product_cls.display.outputs import file_list, first_rows, results_in
    from product_cls.inference.adaptation import adapt_to_files, refusal, too_few
    from product_cls.inference.class_totals import (
        LEGITIMATE,
        check_several,
        known_shares,
        matched,
    )
    from product_cls.inference.systems import PictureBatch
    from product_cls.retrieval.answers import DOUBTFUL
    from product_cls.retrieval.open_model import open_model
    from product_cls.tasks.label_thresholds import read_thresholds, with_thresholds

    models = [open_model(source, device=arguments.device, tta=arguments.tta) for source in sources]
    task = models[0].task
    if any((m.task.name, m.task.classes) != (task.name, task.classes) for m in models):
        raise UserError(
            "The checkpoints name different classes, so their scores cannot be averaged."
        )
    shares = None
    if arguments.prior is not None:
        if not task.one_label:
            raise UserError(
                f"prior={arguments.prior} needs one label a picture, but task={task.name} "
                "predicts several."
            )
        shares = known_shares(arguments.prior, list(task.classes))
    if arguments.thresholds is not None:
        task = with_thresholds(task, read_thresholds(Path(arguments.thresholds)))
    images = list_images(Path(arguments.images))
    paths = [path for _, path in images]
    unreadable: dict[str, str] = {}

    def failed(number: int, why: str) -> None:
        unreadable[images[number][0]] = why

    shapes = set().union(*(model.shapes for model in models))
    total = math.ceil(len(paths) / arguments.batch_size)

    def score_all(description: str) -> tuple[list[int], np.ndarray]:
        """Numbers of the pictures that can be decoded, and their mean scores."""
        batches = decoded_batches(
            lambda number: load_picture(paths[number]),
            len(paths),
            shapes,
            arguments.batch_size,
            failed,
        )
        rows: list[int] = []
        parts = []
        for numbers, pictures in progress_bar(
            batches, description, total, unit="batch", leave=False
        ):
            batch = PictureBatch(pictures, [paths[number] for number in numbers])
            # In float32, as the answers of several checkpoints have always been averaged.
            parts.append(np.mean([model.finite_score(batch) for model in models], axis=0))
            rows += numbers
        if not parts:
            raise UserError(f"None of the pictures in {arguments.images} can be decoded.")
        return rows, np.concatenate(parts)

    rows, mean = score_all("predict")
    if (method := arguments.adapt) is not None:
        if (why := refusal(mean, len(rows))) is not None:
            raise UserError(f"adapt={method}: {arguments.images} {why}.")
        classes = min(len(model.classes) for model in models)
        if method == "infomax" and (few := too_few(classes, len(rows))) is not None:
            print(f"NOTE: {few}.")
        device = pick_device(arguments.device)
        with keys_for_arguments():
            for model in models:
                model.change_networks(
                    lambda predictor: adapt_to_files(
                        predictor,
                        [paths[row] for row in rows],
                        arguments.adapt_share,
                        device,
                        method,
                    )
                )
        rows, mean = score_all("predict adapted")
    names_of = [images[i][0] for i in rows]
    columns, captions = task.describe(mean, arguments.top)
    tables = {"predictions.csv": pd.DataFrame({"image": names_of, **columns})}
    if arguments.prior is not None and shares is not None:
        check_several(arguments.prior, len(mean))
        columns, _ = task.describe(matched(mean, shares), arguments.top)
        tables["predictions-class-totals.csv"] = pd.DataFrame({"image": names_of, **columns})
    table = tables["predictions.csv"]
    margins = task.margins(mean)
    picked = np.argsort(margins, kind="stable")[: arguments.shown].tolist()

    def picture(row: int) -> np.ndarray | None:
        try:
            return load_picture(paths[rows[row]])
        except OSError:  # it was there a moment ago
            return None

    sheets = contact_sheets(
        (picture(row) for row in picked),
        [[*captions[row], images[rows[row]][0]] for row in picked],
        [bool(margins[row] < DOUBTFUL) for row in picked],
        f"{len(picked)} of {len(table)} pictures, the most doubtful first",
    )
    files = [out / name for name in tables]
    with results_in(out):
        for file, content in zip(files, tables.values(), strict=True):
            write_csv(file, content, style=arguments.csv)
        files += save_sheets(sheets, out)
    for note in dict.fromkeys(note for model in models for note in model.notes):
        print(f"NOTE: {note}")
    if arguments.prior is not None:
        print(f"NOTE: {LEGITIMATE}")
    for name, why in unreadable.items():
        print(f"left out, cannot be decoded: {shown(name)}: {why}")
    print(first_rows(table))
    if formulas := formula_note([table], arguments.csv):
        print(f"NOTE: {formulas}")
    hows = dict.fromkeys(model.how for model in models)
    print(f"{len(table)} pictures, answered by {'; '.join(hows)} -> {file_list(files)}")


if __name__ == "__main__":
    guard(main)
