"""One picture: decoded as it is meant to be seen, and brought to a size.

A change in what comes out of here must raise ``VERSION`` in ``store.py``.
"""

import re
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from PIL import Image

Fit = Literal["squash", "crop", "pad"]
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # its values -> what shows the picture upright
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
    """Of the path ``SHARD.tar/OFFSET+SIZE``: file, offset and size in bytes; None of any other."""
    found = IN_SHARD.fullmatch(str(path))
    return None if found is None else (found["file"], int(found["offset"]), int(found["size"]))


def picture_file(path: str | Path) -> Path | BinaryIO:
    """What Pillow opens: the file, or a picture's bytes where ``path`` leads into a shard.

    Raises:
        OSError: a shard that cannot be read.
    """
    place = place_in_shard(path)
    if place is None:
        return Path(path)
    with Path(place[0]).open("rb") as shard:
        shard.seek(place[1])
        return BytesIO(shard.read(place[2]))


def load_picture(path: str | Path | BinaryIO | Image.Image) -> np.ndarray:
    """One picture as uint8 ``[H, W, 3]`` RGB, turned upright as its EXIF data says.

    Greyscale is repeated, transparency is laid over white, 16 bits become 8. Pillow decodes, for
    OpenCV returns the readable half of a truncated file as if it were whole.

    Args:
        path: of a file, or of a picture in a shard; or an open file; or an image of Pillow, which
            is left open.

    Raises:
        OSError: the file is missing, truncated or no picture.
    """
    try:
        source = picture_file(path) if isinstance(path, str | Path) else path
        with (
            nullcontext(source) if isinstance(source, Image.Image) else Image.open(source) as opened
        ):
            # ImageOps.exif_transpose also writes the EXIF data anew, and fails where they are odd.
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
    # Broken files make Pillow's decoders raise nearly anything; for us all of it means unreadable.
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def resize(picture: np.ndarray, size: tuple[int, int], fit: Fit = "squash") -> np.ndarray:
    """Bring a picture to ``size``.

    Args:
        picture: uint8 ``[h, w, 3]``.
        size: height and width in pixels.
        fit: ``squash`` ignores the aspect ratio, ``crop`` keeps it and cuts the longer side's ends
            off, ``pad`` keeps it and repeats the border pixels.

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
    # Averaging over areas is the only one of OpenCV's filters that does not alias when it shrinks,
    # and OpenCV averages only where neither side grows: so first shrink, then grow.
    shrunk = min(height, picture.shape[0]), min(width, picture.shape[1])
    if shrunk != picture.shape[:2]:
        picture = cv2.resize(picture, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return picture
