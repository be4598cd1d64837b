"""What one look at each picture tells: size, colours, sharpness, and a small copy to compare."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from product_cls.core.cpu_count import usable_cores
from product_cls.data.pictures import load_picture, picture_file, picture_formats

SIDE = 16  # of the small copy, in pixels
LOOK = 256  # longest side at which sharpness is measured, in pixels
TAKEN = 0x9003  # EXIF tag DateTimeOriginal
EXIF_PART = 0x8769  # EXIF's own directory, which holds it
SEVERAL = 2048  # pictures that are examined before progress is told


@dataclass(frozen=True)
class PictureFacts:
    """Facts about N pictures; those of unreadable pictures are 0, NaN or "".

    Attributes:
        problem: why a picture cannot be read, text ``[N]``; "" if it can.
        height, width: in pixels, upright, int ``[N]``.
        mode: Pillow's name of the pixels' kind, ``RGB``, ``L``, ``CMYK``, text ``[N]``.
        grey: whether all pixels are grey, bool ``[N]``.
        sharpness: log of the energy of edges relative to contrast, float ``[N]``.
        content: digest of the pixels, text ``[N]``.
        small: the picture at ``SIDE`` x ``SIDE``, uint8 ``[N, SIDE, SIDE, 3]``.
        taken: EXIF's time in seconds, float ``[N]``; NaN if unknown.
    """

    problem: np.ndarray
    height: np.ndarray
    width: np.ndarray
    mode: np.ndarray
    grey: np.ndarray
    sharpness: np.ndarray
    content: np.ndarray
    small: np.ndarray
    taken: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """bool ``[N]``."""
        readable: np.ndarray = self.problem == ""
        return readable


def examine(
    paths: Sequence[str], *, max_pixels: int, progress: Callable[[int], None] | None = None
) -> PictureFacts:
    """Decode every picture once, in threads; memory does not grow with their sizes.

    Args:
        paths: N files or places in shards.
        max_pixels: larger pictures count as unreadable.
        progress: is told how many pictures have been examined.
    """
    count = len(paths)
    problem, content = [""] * count, [""] * count
    mode = [""] * count
    height, width = np.zeros(count, np.int64), np.zeros(count, np.int64)
    grey, small = np.zeros(count, bool), np.zeros((count, SIDE, SIDE, 3), np.uint8)
    sharpness, taken = np.full(count, np.nan), np.full(count, np.nan)

    def look(k: int) -> None:
        try:
            pixels = load_picture(paths[k], max_pixels=max_pixels)
            mode[k], taken[k] = _of_file(paths[k])
        except OSError as error:
            problem[k] = str(error) or type(error).__name__
            return
        height[k], width[k] = pixels.shape[:2]
        content[k] = hashlib.blake2b(pixels.tobytes(), digest_size=12).hexdigest() + str(width[k])
        spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
        grey[k] = bool(spread.max() <= 2)
        small[k] = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        sharpness[k] = _sharpness(pixels)

    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, count, SEVERAL):
            some = range(start, min(start + SEVERAL, count))
            list(pool.map(look, some))
            if progress is not None:
                progress(some.stop)
    return PictureFacts(
        np.array(problem, dtype=object),
        height,
        width,
        np.array(mode, dtype=object),
        grey,
        sharpness,
        np.array(content, dtype=object),
        small,
        taken,
    )


def _of_file(path: str) -> tuple[str, float]:
    """Pillow's mode of a picture, and EXIF's time in seconds; NaN without one."""
    with Image.open(picture_file(path), formats=picture_formats()) as opened:
        mode = "RGBA" if "transparency" in opened.info else opened.mode
        try:
            text = str(opened.getexif().get_ifd(EXIF_PART).get(TAKEN, ""))
        except Exception:  # odd EXIF data fails in many ways, and no picture needs it
            text = ""
    return mode, _seconds(text)


def _seconds(text: str) -> float:
    """EXIF's ``2024:05:01 12:30:00`` in seconds since 1970; NaN if it is no time."""
    date, _, clock = text.partition(" ")
    try:
        when = np.datetime64(f"{date.replace(':', '-')}T{clock}", "s")
    except ValueError:
        return float("nan")
    return float("nan") if np.isnat(when) else float(when.astype(np.int64))


def _sharpness(pixels: np.ndarray) -> float:
    """Log of the variance of the Laplacian, relative to the variance of the grey values."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    scale = LOOK / max(grey.shape)
    if scale < 1:
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    contrast = float(grey.var())
    edges = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    return float(np.log((edges + 1e-3) / (contrast + 1.0)))
