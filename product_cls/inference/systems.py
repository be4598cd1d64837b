"""Models that name pictures, with one interface: a network, or a vote of several models.

``retrieval.open_model`` opens them from files and folders.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from product_cls.core.errors import UserError
from product_cls.data.incoming import Shape, decoded_batches
from product_cls.data.pictures import load_picture
from product_cls.inference.predictor import Predictor
from product_cls.inference.scoring import predict_embeddings, predict_scores, refuse_diverged
from product_cls.inference.tta import check_views
from product_cls.neighbours.join import join_embeddings
from product_cls.tasks import Task

# A file, a Pillow image, or a uint8 array [H, W], [H, W, 3] RGB or [H, W, 4] RGBA.
Picture = str | Path | Image.Image | np.ndarray
# A list, a column of a table or a generator of pictures, or one uint8 array [N, H, W, 3] or
# [N, H, W, 4].
Pictures = Iterable[Picture] | np.ndarray


@dataclass(frozen=True)
class PictureBatch:
    """B decoded pictures, resized to each shape that a model needs.

    Attributes:
        images: uint8 ``[B, 3, H, W]`` by shape.
        paths: files of the pictures, B in number; None for a picture that was passed in memory.
    """

    images: dict[Shape, Tensor]
    paths: list[Path | None]


class PictureModel(ABC):
    """Names pictures and embeds them.

    Attributes:
        task: interprets the scores.
        classes: names of the columns of the scores, ``[C]``.
        notes: sentences about runs that were left out, or that saw only some of the pictures.
        how: what answers, in words that follow "answered by".
    """

    task: Task
    classes: list[str]
    notes: Sequence[str] = ()
    how: str = "the scores of a network"

    @property
    @abstractmethod
    def shapes(self) -> set[Shape]:
        """Shapes that ``score`` and ``embed_batch`` look up in a batch."""

    @abstractmethod
    def score(self, batch: PictureBatch) -> np.ndarray:
        """Scores of a batch, float32 ``[B, C]``."""

    @abstractmethod
    def embed_batch(self, batch: PictureBatch) -> np.ndarray:
        """Embeddings of a batch, L2-normalised, float32 ``[B, D]``."""

    def change_networks(self, change: Callable[[Predictor], Predictor]) -> None:
        """Replace each network by what ``change`` makes of it.

        Raises:
            UserError: the model has no networks that can be changed.
        """
        raise UserError("adapt= needs checkpoints, and this model holds none; leave it out.")

    def finite_score(self, batch: PictureBatch) -> np.ndarray:
        """``score``, checked.

        Raises:
            UserError: a score is NaN or infinite; the first class would seem to be the best.
        """
        scores = self.score(batch)
        refuse_diverged(scores)
        return scores

    def predict(self, pictures: Pictures, *, batch_size: int = 64) -> np.ndarray:
        """Scores of N pictures, averaged over test-time augmentation.

        Args:
            pictures: files, Pillow images (turned upright by their EXIF data), or uint8 arrays
                ``[H, W, 3]`` RGB, ``[H, W]`` grey or ``[H, W, 4]`` RGBA (composited on white).
            batch_size: pictures in memory and on the device at a time.

        Returns:
            float32 ``[N, C]``, probabilities as the task defines them.

        Raises:
            UserError: no pictures, an array of another kind, a picture that cannot be decoded, or a
                score that is NaN or infinite.
        """
        return np.concatenate([self.finite_score(b) for b in self._batches(pictures, batch_size)])

    def embed(self, pictures: Pictures, *, batch_size: int = 64) -> np.ndarray:
        """Embeddings of N pictures, averaged over test-time augmentation.

        The embedding of a softmax network is its pooled features, the input of its head.

        Args:
            pictures, batch_size: see ``predict``.

        Returns:
            float32 ``[N, D]``, L2-normalised: the inner product of two is their cosine.

        Raises:
            UserError: as ``predict``, or an ONNX file without embeddings.
        """
        return np.concatenate([self.embed_batch(b) for b in self._batches(pictures, batch_size)])

    def _batches(self, pictures: Pictures, batch_size: int) -> Iterator[PictureBatch]:
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}; allowed: 1 or more.")
        listed, pillow = list_of_pictures(pictures), Lock()

        def pixels(number: int) -> np.ndarray:
            picture = listed[number]
            if isinstance(picture, str | Path):
                return load_picture(picture)
            with pillow:  # decoding one image in two threads at once would corrupt it
                return load_picture(_pillow_image(picture, number))

        def failed(number: int, why: str) -> None:
            raise UserError(f"{_name(listed[number], number)} cannot be decoded: {why}.")

        batches = decoded_batches(pixels, len(listed), self.shapes, batch_size, failed)
        for numbers, images in batches:
            inputs = [listed[number] for number in numbers]
            yield PictureBatch(
                images, [Path(p) if isinstance(p, str | Path) else None for p in inputs]
            )


class NetworkModel(PictureModel):
    """The network of one checkpoint.

    Args:
        predictor: its network is moved to ``device``.
        tta: names of the views whose scores are averaged, see ``tta.build_views``.

    Raises:
        UserError: a view is unknown or does not suit the network's picture size.
    """

    def __init__(self, predictor: Predictor, tta: Sequence[str], device: torch.device) -> None:
        check_views(tta, predictor.size)
        self.predictor, self.tta, self.device = predictor, list(tta), device
        self.task, self.classes = predictor.task, list(predictor.task.classes)
        self.shape: Shape = (predictor.size, predictor.fit)
        if predictor.task.needs_gallery:
            self.how = "the softmax of its head, not by neighbours"

    @property
    def shapes(self) -> set[Shape]:
        return {self.shape}

    def change_networks(self, change: Callable[[Predictor], Predictor]) -> None:
        self.predictor = change(self.predictor)

    def score(self, batch: PictureBatch) -> np.ndarray:
        network, batches = self.predictor.network, [self._loaded(batch)]
        return predict_scores(network, self.task, batches, self.tta, device=self.device).tta

    def embed_batch(self, batch: PictureBatch) -> np.ndarray:
        network, batches = self.predictor.network, [self._loaded(batch)]
        return predict_embeddings(network, self.task, batches, self.tta, device=self.device)

    def _loaded(self, batch: PictureBatch) -> dict[str, Any]:
        return {"image": batch.images[self.shape], "index": np.arange(len(batch.paths))}


class VoteModel(PictureModel):
    """The soft vote of several models: mean scores and joined embeddings.

    Args:
        members: R models of the same classes; softmax and retrieval models may be mixed.

    Raises:
        UserError: the members name different classes.
    """

    def __init__(self, members: Sequence[PictureModel]) -> None:
        first = members[0]
        meanings = [(member.task.multi_label, member.classes) for member in members]
        if any(meaning != meanings[0] for meaning in meanings):
            raise UserError("The runs name different classes, so their scores cannot be averaged.")
        self.members = list(members)
        self.task, self.classes = first.task, first.classes
        self.how = f"the vote of {len(self.members)} models"

    @property
    def shapes(self) -> set[Shape]:
        return set().union(*(member.shapes for member in self.members))

    def change_networks(self, change: Callable[[Predictor], Predictor]) -> None:
        for member in self.members:
            member.change_networks(change)

    def score(self, batch: PictureBatch) -> np.ndarray:
        scores = np.stack([member.score(batch) for member in self.members])
        mean = scores.mean(axis=0, dtype=np.float64)
        return self.task.normalise_scores(mean).astype(np.float32)

    def embed_batch(self, batch: PictureBatch) -> np.ndarray:
        return join_embeddings([member.embed_batch(batch) for member in self.members])


def list_of_pictures(pictures: Pictures) -> list[Picture]:
    """The pictures as a list; a generator is read to its end.

    Raises:
        UserError: no pictures, a single picture, or an object that is no list of pictures.
    """
    single = isinstance(pictures, str | Path | Image.Image)
    if single or (isinstance(pictures, np.ndarray) and pictures.ndim < 4):
        raise UserError("A single picture was passed; pass a list: [picture].")
    # Iteration over a table or a dict would yield the names of columns or keys.
    if not isinstance(pictures, Iterable) or isinstance(pictures, pd.DataFrame | Mapping):
        raise UserError(
            f"The pictures are of type {type(pictures).__name__}; allowed: a list or another "
            "series of pictures, or a uint8 array [N, H, W, 3]."
        )
    listed = list(pictures)
    if not listed:
        raise UserError("The list of pictures is empty; it needs one picture or more.")
    return listed


def _name(picture: Picture, number: int) -> str:
    """A picture's name in messages: its position in the list and, if known, its file."""
    file = picture if isinstance(picture, str | Path) else getattr(picture, "filename", "")
    return f"Picture {number + 1} ({file})" if file else f"Picture {number + 1}"


def _pillow_image(picture: Any, number: int) -> Image.Image:
    """The picture as a Pillow image; arrays are converted."""
    if isinstance(picture, Image.Image):
        return picture
    array = isinstance(picture, np.ndarray)
    shape: list[int] = list(picture.shape) if array else []
    fits = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if not fits or picture.dtype != np.uint8 or 0 in shape:
        what = f"{picture.dtype} array {shape}" if array else type(picture).__name__
        raise UserError(
            f"Picture {number + 1} is of type {what}; allowed: a path, a Pillow image, or a "
            "uint8 array [H, W, 3] (RGB), [H, W] or [H, W, 4] (RGBA)."
        )
    return Image.fromarray(picture)
