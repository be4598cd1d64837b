"""Checkpoints and pictures to predictions, with test-time augmentation.

python -m product_cls.predict checkpoint=RUN/checkpoints/best.ckpt images=FOLDER_OR_CSV
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from product_cls.cli import MISSING, guard, parse_arguments
from product_cls.data.incoming import list_images, read_batches
from product_cls.data.pictures import load_picture, resize
from product_cls.decisions import read_thresholds, with_thresholds
from product_cls.errors import UserError, reason
from product_cls.models.network import Network
from product_cls.progress import progress_bar
from product_cls.runs import check_place
from product_cls.tasks import Task, build_task
from product_cls.tta import build_views, check_views


@dataclass(frozen=True)
class Scores:
    """Scores of N pictures.

    Attributes:
        index: int64 ``[N]``, as the batches gave it.
        tta: float32 ``[N, C]``, mean over the views.
        plain: float32 ``[N, C]``, of the picture as it is.
        embedding, embedding_plain: the same of embeddings, float32 ``[N, D]``, of length 1; None in
            tasks without.
    """

    index: np.ndarray
    tta: np.ndarray
    plain: np.ndarray
    embedding: np.ndarray | None = None
    embedding_plain: np.ndarray | None = None


@torch.inference_mode()
def predict_scores(
    network: Network,
    task: Task,
    batches: Iterable[Mapping[str, Any]],
    views: Sequence[str],
    *,
    device: torch.device,
    bf16: bool = False,
    limit: int | None = None,
    description: str | None = None,
) -> Scores:
    """Scores for every picture of ``batches``, averaged over the views.

    Args:
        network: is moved to ``device`` and put into evaluation mode.
        batches: with ``image`` (uint8 ``[B, 3, H, W]``) and ``index``.
        views: names for ``tta.build_views``.
        bf16: autocast to bfloat16.
        limit: stop after so many batches.
        description: of the progress bar; none where None.
    """
    made = build_views(views)
    network.to(device).eval()
    cast = torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
    parts: list[tuple[np.ndarray, ...]] = []
    bar = progress_bar(batches, description, disable=description is None, unit="batch", leave=False)
    for count, batch in enumerate(bar):
        if limit is not None and count >= limit:
            break
        images = network.prepare(batch["image"].to(device, non_blocking=True))

        def scored(images: Tensor) -> list[Tensor]:
            with cast:
                outputs = network(images)
            embedding = task.embedding(outputs)
            return [task.scores(outputs)] + ([] if embedding is None else [embedding])

        # One vote a name: five crops are one view, as the whole picture is.
        by_view = {
            name: _means([scored(out) for out in view(images)]) for name, view in made.items()
        }
        plain = by_view["identity"] if "identity" in by_view else scored(images)
        mean = _means(list(by_view.values()))
        mean[1:] = [normalize(embedding, dim=1) for embedding in mean[1:]]
        arrays = [array.cpu().numpy() for pair in zip(mean, plain, strict=True) for array in pair]
        parts.append((np.asarray(batch["index"]), *arrays))
    return Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _means(views: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The mean over views of each of the tensors that a view gives."""
    return [torch.stack(same).mean(0) for same in zip(*views, strict=True)]


@dataclass(frozen=True)
class Predictor:
    """A network with everything needed to name the product in a new picture.

    Attributes:
        size: height and width in pixels that pictures are brought to.
        fit: how; see ``data.pictures.resize``.
    """

    network: Network
    task: Task
    size: tuple[int, int]
    fit: Any

    @classmethod
    def load(cls, checkpoint: Path) -> "Predictor":
        """Rebuild from a checkpoint alone.

        Raises:
            UserError: the file is missing, or no checkpoint of ours.
        """
        if not checkpoint.is_file():
            raise UserError(f"There is no checkpoint {checkpoint}.")
        try:
            loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
            described, state = loaded["hyper_parameters"], loaded["state_dict"]
            spec, image = described["network"], described["image"]
            task = build_task(described["task"])
            network = Network.from_spec(spec, task.head)
            prefix = "network."
            network.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        except UserError:
            raise
        except Exception as error:
            # torch.load has no common error type for "this is no checkpoint".
            raise UserError(
                f"{checkpoint} is no checkpoint of product_cls: {reason(error)}."
            ) from None
        return cls(network.eval(), task, tuple(image["size"]), image["fit"])

    def picture(self, path: Path) -> Tensor:
        """A picture as training saw it before augmentation: uint8 ``[3, H, W]``.

        Raises:
            OSError: it cannot be decoded.
        """
        pixels = resize(load_picture(path), self.size, self.fit)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


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


def pick_device(name: str) -> torch.device:
    """The device of a name: ``auto`` (a GPU of CUDA where there is one), ``cpu``, ``cuda``,
    ``cuda:<n>``, and ``mps`` where there is that.

    Raises:
        UserError: another name, or no such device here.
    """
    gpu = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if gpu else "cpu")
    # torch knows a dozen more, on which nothing of ours runs, and takes cuda:128 for cuda:-128.
    names = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), "cuda"]
    found = re.fullmatch(r"cuda:(\d+)", name)
    if name not in names and found is None:
        raise UserError(f"device={name}; allowed: auto, {', '.join(names)}, cuda:<n>.")
    if name.startswith("cuda") and not gpu:
        raise UserError(f"device={name}: there is no GPU here; use device=cpu.")
    if found is not None and int(found[1]) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UserError(f"device={name}: there are GPUs up to cuda:{last} here.")
    return torch.device(name)


def main() -> None:
    # Imported here: training takes `predict_scores` from this module, and draws no sheets.
    from product_cls.report.pictures import contact_sheet

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
    columns, lines = task.answers(mean, arguments.top)
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
