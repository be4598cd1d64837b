"""Decodes a picture upright and resizes it.

After a change of the pixels that this module produces, raise ``VERSION`` in ``store.py``.
"""

import math
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from product_cls.core.picture_sides import LARGEST, SMALLEST
from product_cls.data.decoding_room import ROOM

# Pillow's name of each format that is read, and the suffixes of its files. Pillow would open more:
# it hands EPS files to Ghostscript, whatever their suffix.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),  # by the package pillow-heif
}
MAX_PIXELS = 150_000_000  # of training data
PILLOWS_LIMIT = 178_956_970  # pixels; Pillow refuses larger pictures itself
# Pillow also warns from half its limit on. Pictures up to ``max_pixels`` are wanted.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Fit = Literal["squash", "crop", "pad"]
ORIENTATION = 0x0112  # EXIF tag
BAND = 2**22  # pixels converted at a time
IN_SHARD = re.compile(r"(?P<file>.+\.tar)/(?P<offset>\d+)\+(?P<size>\d+)")


def place_in_shard(path: str | Path) -> tuple[str, int, int] | None:
    """Parse ``SHARD.tar/OFFSET+SIZE`` into file, offset and size in bytes; None for other paths."""
    match = IN_SHARD.fullmatch(str(path))
    return None if match is None else (match["file"], int(match["offset"]), int(match["size"]))


def picture_file(path: str | Path) -> Path | BinaryIO:
    """A source that Pillow can open: the file, or the picture's bytes if ``path`` is in a shard.

    Raises:
        OSError: the shard cannot be read, or ``path`` is no file: a pipe would block for ever.
    """
    place = place_in_shard(path)
    if place is None:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise OSError("it is not a file")
        return Path(path)
    with Path(place[0]).open("rb") as shard:
        shard.seek(place[1])
        return BytesIO(shard.read(place[2]))


def load_picture(
    path: str | Path | BinaryIO | Image.Image, *, max_pixels: int = PILLOWS_LIMIT
) -> np.ndarray:
    """Decode a picture and turn it upright by its EXIF orientation.

    Of several frames, the first is taken. Greyscale is repeated in three channels, and transparent
    pixels are blended with white. 16-bit values are scaled to 8 bits. Numbers of 32 bits (int or
    float) are scaled from the smallest of the ranges 0 to 1 (float only), 0 to 255 and 0 to 65535
    that holds all of them, otherwise from the picture's own smallest to its largest. Pillow decodes
    because OpenCV returns the readable half of a truncated file as if it were whole.

    Args:
        path: a file, a picture in a shard (``SHARD.tar/OFFSET+SIZE``), an open binary file, or a
            Pillow image, which is left open.
        max_pixels: larger pictures are refused before they are decoded.

    Returns:
        RGB uint8 ``[H, W, 3]``, which the caller may change.

    Raises:
        OSError: the file is missing, truncated, too large or not a picture in one of ``FORMATS``.
    """
    try:
        source = picture_file(path) if isinstance(path, str | Path) else path
        with (
            nullcontext(source)
            if isinstance(source, Image.Image)
            else Image.open(source, formats=picture_formats()) as opened
        ):
            width, height = opened.size
            if width * height > max_pixels:
                raise OSError(f"{width} x {height} pixels, but max_pixels={max_pixels}")
            with ROOM.take(width * height):
                opened.load()
                # ImageOps.exif_transpose would also rewrite the EXIF data, and fails on odd data.
                return _upright(_rgb(opened), opened.getexif().get(ORIENTATION))
    except Image.DecompressionBombError:
        raise OSError(f"more than {PILLOWS_LIMIT} pixels, but max_pixels={max_pixels}") from None
    except UnidentifiedImageError:
        kinds = picture_formats()
        extra = "" if "HEIF" in kinds else " (HEIF needs pillow-heif, the extra `heif`)"
        raise OSError(
            f"it is not a picture in one of the formats {', '.join(kinds)}{extra}"
        ) from None
    except (OSError, MemoryError):
        raise
    # On broken files Pillow's decoders raise almost any exception; all mean "unreadable" here.
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


@cache
def picture_formats() -> tuple[str, ...]:
    """The names of ``FORMATS`` that are read here: HEIF only with the package pillow-heif."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return tuple(name for name in FORMATS if name != "HEIF")
    register_heif_opener()
    return tuple(FORMATS)


def _rgb(picture: Image.Image) -> np.ndarray:
    """The pixels of a decoded picture as RGB uint8 ``[H, W, 3]``, converted in bands."""
    width, height = picture.size
    deep = picture.mode.startswith("I") or picture.mode == "F"
    black, white = _range(picture) if deep else (0.0, 255.0)
    key = picture.info.get("transparency")
    pixels = np.empty((height, width, 3), np.uint8)
    for rows, band in _bands(picture):
        if deep:
            # Pillow clips these values at 255; scale them instead.
            values = np.asarray(band, np.float64)
            grey = ((values - black) * (255 / (white - black))).round().astype(np.uint8)
            if key is not None:
                grey[values == key] = 255
            pixels[rows] = grey[..., None]
            continue
        if "A" in band.getbands() or key is not None:
            band = band.convert("RGBA")
            band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band)
        pixels[rows] = np.asarray(band.convert("RGB"))
    return pixels


def _bands(picture: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """A picture in parts of whole rows, so that a conversion takes little memory."""
    width, height = picture.size
    count = max(BAND // max(width, 1), 1)
    if count >= height:
        yield slice(0, height), picture
        return
    for top in range(0, height, count):
        bottom = min(top + count, height)
        yield slice(top, bottom), picture.crop((0, top, width, bottom))


def _range(picture: Image.Image) -> tuple[float, float]:
    """The values of a picture of deep numbers that become black and white."""
    if picture.mode.startswith("I;16"):
        return 0.0, 65535.0
    bands = (np.asarray(band) for _, band in _bands(picture))
    ends = np.array([(values.min(), values.max()) for values in bands], np.float64)
    low, high = float(ends.min()), float(ends.max())
    if not math.isfinite(low) or not math.isfinite(high):
        raise OSError("it holds values that are no numbers")
    for white in (1.0, 255.0, 65535.0)[picture.mode != "F" :]:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, high if high > low else low + 1


def _upright(pixels: np.ndarray, orientation: Any) -> np.ndarray:
    """Pixels ``[H, W, 3]`` turned by the value of the EXIF tag; other values change nothing."""
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.swapaxes(0, 1)
        case 6:
            pixels = pixels[::-1].swapaxes(0, 1)
        case 7:
            pixels = pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            pixels = pixels[:, ::-1].swapaxes(0, 1)
    return np.ascontiguousarray(pixels)


def check_shape(size: tuple[int, int], fit: str) -> None:
    """Check the arguments of ``resize``.

    Args:
        size: height and width in pixels.
        fit: one of ``Fit``.

    Raises:
        ValueError: an unknown ``fit``, or a side that is too small or too large.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"fit={fit}; allowed: {', '.join(get_args(Fit))}.")
    if min(size) < SMALLEST:
        raise ValueError(f"size={size[0]}x{size[1]}; allowed: at least {SMALLEST} pixels a side.")
    if max(size) > LARGEST:
        raise ValueError(f"size={size[0]}x{size[1]}; allowed: at most {LARGEST} pixels a side.")


def check_max_pixels(max_pixels: int) -> None:
    """Check the argument of ``load_picture``.

    Raises:
        ValueError: it is no whole number from 1 to ``PILLOWS_LIMIT``.
    """
    if type(max_pixels) is not int or not 1 <= max_pixels <= PILLOWS_LIMIT:
        raise ValueError(
            f"max_pixels={max_pixels}; allowed: a whole number from 1 to {PILLOWS_LIMIT}."
        )


def resize(picture: np.ndarray, size: tuple[int, int], fit: Fit = "squash") -> np.ndarray:
    """Resize a picture.

    Each output pixel is the mean of a window of the picture around its centre. The window is as
    wide as the output pixel, but at least one pixel of the picture: a mean of areas where the
    picture shrinks, linear interpolation where it grows. Rows and columns are treated alike.

    Args:
        picture: uint8 ``[h, w, 3]``.
        size: height and width in pixels.
        fit: ``squash`` ignores the aspect ratio, ``crop`` first cuts both ends of the side that is
            too long, ``pad`` keeps the aspect ratio and repeats the border pixels.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    height, width = size
    if fit == "crop":
        rows = min(max(round(picture.shape[1] * height / width), 1), picture.shape[0])
        columns = min(max(round(picture.shape[0] * width / height), 1), picture.shape[1])
        top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
        picture = picture[top : top + rows, left : left + columns]
    elif fit == "pad":
        scale = min(height / picture.shape[0], width / picture.shape[1])
        rows, columns = (max(round(side * scale), 1) for side in picture.shape[:2])
        top, left = (height - rows) // 2, (width - columns) // 2
        borders = top, height - rows - top, left, width - columns - left
        inner = resize(picture, (rows, columns))
        return cv2.copyMakeBorder(inner, *borders, cv2.BORDER_REPLICATE)
    # OpenCV averages areas only where neither side grows, so the sides that shrink come first.
    shrunk = min(height, picture.shape[0]), min(width, picture.shape[1])
    if shrunk != picture.shape[:2]:
        picture = cv2.resize(picture, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return picture
