"""Decodes a picture upright and resizes it.

After a change of the pixels that this module produces, raise ``VERSION`` in ``store.py``.
"""

import re
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import cv2
import numpy as np
from PIL import Image

Fit = Literal["squash", "crop", "pad"]
ORIENTATION = 0x0112  # EXIF tag
TURNS = {  # value of the tag -> transposition that turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
IN_SHARD = re.compile(r"(?P<file>.+\.tar)/(?P<offset>\d+)\+(?P<size>\d+)")


def place_in_shard(path: str | Path) -> tuple[str, int, int] | None:
    """Parse ``SHARD.tar/OFFSET+SIZE`` into file, offset and size in bytes; None for other paths."""
    match = IN_SHARD.fullmatch(str(path))
    return None if match is None else (match["file"], int(match["offset"]), int(match["size"]))


def picture_file(path: str | Path) -> Path | BinaryIO:
    """A source that Pillow can open: the file, or the picture's bytes if ``path`` is in a shard.

    Raises:
        OSError: the shard cannot be read.
    """
    place = place_in_shard(path)
    if place is None:
        return Path(path)
    with Path(place[0]).open("rb") as shard:
        shard.seek(place[1])
        return BytesIO(shard.read(place[2]))


def load_picture(path: str | Path | BinaryIO | Image.Image) -> np.ndarray:
    """Decode a picture and turn it upright by its EXIF orientation.

    Greyscale is repeated in three channels, transparent pixels are blended with white, and 16-bit
    values are scaled to 8 bits. Pillow decodes because OpenCV returns the readable half of a
    truncated file as if it were whole.

    Args:
        path: a file, a picture in a shard (``SHARD.tar/OFFSET+SIZE``), an open binary file, or a
            Pillow image, which is left open.

    Returns:
        RGB uint8 ``[H, W, 3]``.

    Raises:
        OSError: the file is missing, truncated or not a picture.
    """
    try:
        source = picture_file(path) if isinstance(path, str | Path) else path
        with (
            nullcontext(source) if isinstance(source, Image.Image) else Image.open(source) as opened
        ):
            # ImageOps.exif_transpose would also rewrite the EXIF data, and fails on odd data.
            orientation: Any = opened.getexif().get(ORIENTATION)
            turn = TURNS.get(orientation)
            picture = opened if turn is None else opened.transpose(turn)
            if picture.mode.startswith("I") or picture.mode == "F":
                # Pillow clips 16-bit values at 255; scale them instead.
                deep = np.asarray(picture, dtype=np.float64)
                picture = Image.fromarray((deep / 257).clip(0, 255).round().astype(np.uint8))
            if "A" in picture.getbands() or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            return np.asarray(picture.convert("RGB"))
    except (OSError, MemoryError):
        raise
    # On broken files Pillow's decoders raise almost any exception; all mean "unreadable" here.
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def check_shape(size: tuple[int, int], fit: str) -> None:
    """Check the arguments of ``resize``.

    Args:
        size: height and width in pixels.
        fit: one of ``Fit``.

    Raises:
        ValueError: an unknown ``fit``, or a side below 8 pixels.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"fit={fit}; allowed: {', '.join(get_args(Fit))}.")
    if min(size) < 8:
        raise ValueError(f"size={size[0]}x{size[1]}; allowed: at least 8 pixels a side.")


def resize(picture: np.ndarray, size: tuple[int, int], fit: Fit = "squash") -> np.ndarray:
    """Resize a picture.

    Args:
        picture: uint8 ``[h, w, 3]``.
        size: height and width in pixels.
        fit: ``squash`` ignores the aspect ratio, ``crop`` keeps it and cuts off both ends of the
            longer side, ``pad`` keeps it and repeats the border pixels.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    height, width = size
    if fit != "squash":
        ratios = height / picture.shape[0], width / picture.shape[1]
        scale = max(ratios) if fit == "crop" else min(ratios)
        inner = (round(picture.shape[0] * scale), round(picture.shape[1] * scale))
        inner = (max(inner[0], 1), max(inner[1], 1))
        picture = resize(picture, inner)
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        if fit == "crop":
            return picture[-top : height - top, -left : width - left]
        borders = top, height - inner[0] - top, left, width - inner[1] - left
        return cv2.copyMakeBorder(picture, *borders, cv2.BORDER_REPLICATE)
    # INTER_AREA is OpenCV's only filter that does not alias when shrinking, and OpenCV averages
    # areas only where neither side grows: so shrink first, then enlarge.
    shrunk = min(height, picture.shape[0]), min(width, picture.shape[1])
    if shrunk != picture.shape[:2]:
        picture = cv2.resize(picture, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return picture
