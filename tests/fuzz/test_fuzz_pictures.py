"""Picture files that are cut, damaged or made to harm: decoded whole, or an OSError."""

import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fuzzing import fuzz, mutated, refusing
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from product_cls.data.pictures import Fit, load_picture, resize
from product_cls.data.store import build_store

pytestmark = pytest.mark.usefixtures("nothing_outside")

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of what it repairs


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    """A small picture with areas and edges, as a file."""
    y, x = np.mgrid[:12, :17]
    picture = Image.fromarray(np.stack([x * 15, y * 20, (x ^ y) * 9], -1).astype(np.uint8))
    file = io.BytesIO()
    picture.convert(mode).save(file, form, **options)
    return file.getvalue()


SEEDS = [
    *(
        encoded("JPEG"),
        encoded("JPEG", progressive=True),
        encoded("JPEG", "CMYK"),
        encoded("JPEG", "L"),
    ),
    *(
        encoded("PNG"),
        encoded("PNG", "P"),
        encoded("PNG", "RGBA"),
        encoded("PNG", "I;16"),
        encoded("PNG", "1"),
    ),
    *(
        encoded("TIFF"),
        encoded("TIFF", compression="tiff_lzw"),
        encoded("TIFF", "F"),
        encoded("TIFF", "I"),
    ),
    *(encoded("GIF", "P"), encoded("BMP"), encoded("WEBP"), encoded("WEBP", "RGBA", lossless=True)),
    *(encoded("PPM"), encoded("TIFF", "CMYK"), encoded("PNG", "LA"), encoded("GIF", "L")),
]
SIDE = st.sampled_from([0, 1, 2, 255, 4096, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1])


def png(width: int, height: int, depth: int, colour: int, body: bytes) -> bytes:
    """A PNG whose header is whole, whatever it says."""

    def chunk(name: bytes, content: bytes) -> bytes:
        head = struct.pack(">I", len(content)) + name + content
        return head + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def bmp(width: int, height: int, bits: int, body: bytes) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width % 2**31, height % 2**31, 1, bits, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + info + body


HEADERS = st.one_of(
    st.builds(
        png, SIDE, SIDE, st.sampled_from([1, 2, 8, 16]), st.integers(0, 6), st.binary(max_size=40)
    ),
    st.builds(bmp, SIDE, SIDE, st.sampled_from([1, 4, 8, 16, 24, 32]), st.binary(max_size=40)),
    st.builds(
        lambda w, h, body: (
            b"GIF89a" + struct.pack("<HHBBB", w % 65536, h % 65536, 0x80, 0, 0) + body
        ),
        *(SIDE, SIDE, st.binary(max_size=40)),
    ),
    st.builds(lambda w, h: f"P6 {w} {h} 255\n".encode() + b"abc", SIDE, SIDE),
    st.sampled_from(
        [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"8BPS\0\1", b"", b"\0" * 99]
    ),
)
FILES = st.one_of(st.sampled_from(SEEDS).flatmap(mutated), HEADERS, st.binary(max_size=99))
SIZES = st.tuples(st.integers(8, 40), st.integers(8, 40))
FITS = st.sampled_from(["squash", "crop", "pad"])


@fuzz(4)
@given(FILES, SIZES, FITS)
def test_bytes_of_a_picture(content: bytes, size: tuple[int, int], fit: Fit) -> None:
    with refusing(OSError):
        picture = load_picture(io.BytesIO(content))
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert picture.size
        assert resize(picture, size, fit).shape == (*size, 3)


@fuzz()
@given(st.tuples(st.integers(1, 600), st.integers(1, 600)), SIZES, FITS)
def test_every_shape_is_resized(shape: tuple[int, int], size: tuple[int, int], fit: Fit) -> None:
    with refusing():
        small = resize(np.full((*shape, 3), 77, np.uint8), size, fit)
        assert small.shape == (*size, 3) and (small == 77).all()


@fuzz(0.3)
@given(st.lists(FILES, min_size=1, max_size=5))
def test_a_store_of_damaged_files(tmp_path: Path, contents: list[bytes]) -> None:
    folder = tmp_path / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = [f"{k}.jpg" for k in range(len(contents))]
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)
    samples = pd.DataFrame({"id": names, "path": [str(folder / name) for name in names]})
    with refusing():
        store = build_store(
            samples, tmp_path / "store", (16, 16), on_unreadable="drop", threads=1, warn=str
        )
        assert len(store.ids) + len(store.unreadable) == len(names)
        assert len(store.pixels) == len(store.ids)
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"here", "pictures", "store", "store-unreadable.txt", ".store.lock"}
