"""Models that name products: open one, predict, embed."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError

if TYPE_CHECKING:
    from product_cls.inference.systems import PictureModel, Pictures


@dataclass(frozen=True)
class Model:
    """Names the products in pictures. ``load`` opens one.

    Pictures are a list of files, Pillow images, or uint8 arrays ``[H, W, 3]`` RGB, ``[H, W]`` grey
    or ``[H, W, 4]`` RGBA; or one uint8 array ``[N, H, W, 3]``.

    Attributes:
        opened: the wrapped model.
    """

    opened: "PictureModel"

    @property
    def classes(self) -> list[str]:
        """Names of the columns of the scores, ``[C]``."""
        return list(self.opened.classes)

    def scores(self, pictures: "Pictures", *, batch_size: int = 64) -> np.ndarray:
        """Scores of N pictures, averaged over test-time augmentation.

        Returns:
            float32 ``[N, C]``, probabilities: over all classes for one label per picture; of each
            label by itself for several labels; over the classes of each head for several heads.

        Raises:
            UserError: no pictures, or one that cannot be decoded.
        """
        return self.opened.predict(pictures, batch_size=batch_size)

    @overload
    def predict(
        self,
        pictures: "Pictures",
        *,
        top: int = 5,
        as_frame: Literal[False] = False,
        batch_size: int = 64,
    ) -> list[list[tuple[str, float]]]: ...

    @overload
    def predict(
        self,
        pictures: "Pictures",
        *,
        top: int = 5,
        as_frame: Literal[True],
        batch_size: int = 64,
    ) -> pd.DataFrame: ...

    def predict(
        self, pictures: "Pictures", *, top: int = 5, as_frame: bool = False, batch_size: int = 64
    ) -> list[list[tuple[str, float]]] | pd.DataFrame:
        """The labels of N pictures with their scores, best first.

        Args:
            pictures: see the class.
            top: maximum number of labels per picture. It has no effect with several labels per
                picture, which are those above their thresholds, or with several heads, each of
                which names its best class.
            as_frame: return a table instead.
            batch_size: pictures on the device at a time.

        Returns:
            For each picture its ``(label, score)`` pairs, scores in [0, 1]; or a DataFrame with the
            columns that ``predictions.csv`` has.

        Raises:
            UserError: no pictures, a picture that cannot be decoded, or a ``top`` below 1.
        """
        if top < 1:
            raise UserError(f"top={top}; allowed: 1 or more.")
        from product_cls.inference.systems import list_of_pictures

        pictures = list_of_pictures(pictures)  # a generator can be read only once
        scores = self.scores(pictures, batch_size=batch_size)
        if not as_frame:
            return self.opened.task.ranked(scores, top)
        names = [_picture_name(picture, number) for number, picture in enumerate(pictures)]
        return pd.DataFrame({"image": names, **self.opened.task.describe(scores, top)[0]})

    def embed(self, pictures: "Pictures", *, batch_size: int = 64) -> np.ndarray:
        """Embeddings of N pictures, for search and clustering.

        Returns:
            float32 ``[N, D]``, L2-normalised, so that inner products are cosines.

        Raises:
            UserError: no pictures, or one that cannot be decoded.
        """
        return self.opened.embed(pictures, batch_size=batch_size)


def load(source: str | Path, *, device: str = "auto", tta: Sequence[str] | None = None) -> Model:
    """Open a model.

    Args:
        source: a run's folder, a sweep's folder (the vote of its runs), a checkpoint, an index's
            folder, or an ONNX file.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
        tta: views to average, ``["identity", "hflip"]``; None for those that the runs averaged.

    Raises:
        UserError: nothing there, an unfinished run, runs that cannot be combined, or an unknown
            device or view.
    """
    from product_cls.retrieval.open_model import open_model

    opened = open_model(source, device=device, tta=tta)
    for note in opened.notes:
        warnings.warn(note, stacklevel=2)
    return Model(opened)


def _picture_name(picture: Any, number: int) -> str:
    name = picture if isinstance(picture, str | Path) else getattr(picture, "filename", "")
    return str(name) or f"picture {number + 1}"
