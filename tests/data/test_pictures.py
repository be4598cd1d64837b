"""Odd, huge and unwanted pictures: read right, or refused before they cost anything."""

import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from product_cls.data.decoding_room import DecodingRoom
from product_cls.data.pictures import (
    FORMATS,
    check_max_pixels,
    check_shape,
    load_picture,
    picture_formats,
    resize,
)
from product_cls.data.source_files import SUFFIXES

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"),
        ("png", b"P6 2 2 255\n" + bytes(12)),
        ("jpeg", b"8BPS\0\1" + bytes(6) + b"\0\3" + bytes(40)),
        ("gif", b"text"),
    ],
)
def test_other_formats_are_not_opened(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(content)
    with pytest.raises(OSError, match="not a picture in one of the formats JPEG, PNG"):
        load_picture(file)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_the_listing_is_read(tmp_path: Path, name: str) -> None:
    if name not in picture_formats():
        pytest.skip("the extra `heif` is not installed")
    for suffix in FORMATS[name]:
        file = tmp_path / f"a{suffix}"
        Image.new("RGB", (16, 8), (250, 10, 10)).save(file, format=name)
        pixels = load_picture(file)
        assert (
            pixels.shape == (8, 16, 3) and abs(pixels[4, 8].astype(int) - [250, 10, 10]).max() < 9
        )
        assert suffix in SUFFIXES


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="it is not a file"):
        load_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype(np.float32) / 255,
        RAMP.astype(np.float32),
        RAMP.astype(np.float32) * 257,
        RAMP.astype(np.float32) * 30 - 4000,  # any other range: the picture's own
        RAMP.astype(np.float32) * 1e-3 - 0.1,
        RAMP.astype(np.int32),
        RAMP.astype(np.int32) * 257,
        RAMP.astype(np.int32) * 10**6,
        RAMP.astype(np.int32) - 1000,
    ],
    ids=lambda values: f"{values.dtype} {values.min():g} to {values.max():g}",
)
def test_numbers_of_32_bits_are_scaled(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert (load_picture(tmp_path / "a.tif") == RAMP[..., None]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    values = RAMP.astype(np.float32)
    values[3, 3] = value
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match="no numbers"):
        load_picture(tmp_path / "a.tif")


def test_one_value_everywhere_is_black_or_its_grey(tmp_path: Path) -> None:
    for value, grey in ((0, 0), (128, 128), (10**6, 0)):
        Image.fromarray(np.full((4, 4), value, np.int32)).save(tmp_path / "a.tif")
        assert (load_picture(tmp_path / "a.tif") == grey).all()


def test_a_transparent_value_of_16_bits_is_white(tmp_path: Path) -> None:
    deep = np.array([[0, 1000, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png", transparency=1000)
    assert load_picture(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_large_pictures_are_converted_in_bands(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    if mode in ("I;16", "F"):
        picture = Image.fromarray(noise[..., 0].astype(np.uint16 if mode == "I;16" else "f") * 200)
    else:
        picture = Image.fromarray(noise).convert("RGBA" if mode == "RGBA" else "RGB").convert(mode)
    if mode == "P":
        picture.info["transparency"] = 3
    whole = load_picture(picture)
    monkeypatch.setattr("product_cls.data.pictures.BAND", 150)
    assert (load_picture(picture) == whole).all() and len(np.unique(whole)) > 1


def test_a_picture_above_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (4000, 1000)).save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png", max_pixels=4_000_000).shape == (1000, 4000, 3)
    tracemalloc.start()
    with pytest.raises(OSError, match="4000 x 1000 pixels, but max_pixels=3999999"):
        load_picture(tmp_path / "a.png", max_pixels=3_999_999)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_a_picture_above_pillows_limit_is_refused_alike(tmp_path: Path) -> None:
    header = Image.new("1", (8, 8))
    header.save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = (20_000).to_bytes(4, "little") * 2  # width and height
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(OSError, match="more than 178956970 pixels, but max_pixels=1000"):
        load_picture(tmp_path / "a.bmp", max_pixels=1000)


def test_limits_out_of_range(refused: Any) -> None:
    for value in (0, -5, 10**12, 1.5e8, "many", None, True):
        with refused(f"max_pixels={value}; allowed: a whole number from 1 to"):
            check_max_pixels(value)  # type: ignore[arg-type]
    with refused("size=20000x20000; allowed: at most 4096"):
        check_shape((20000, 20000), "squash")
    with refused("fit=stretch; allowed: squash, crop, pad"):
        check_shape((32, 32), "stretch")


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (2, 30_000)])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_extreme_shapes_cost_no_more_than_the_output(shape: tuple[int, int], fit: Any) -> None:
    """``crop`` would be enlarged to 224 x 13 million pixels if it were cut afterwards."""
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    tracemalloc.start()
    out = resize(picture, (224, 224), fit)
    assert out.shape == (224, 224, 3)
    assert tracemalloc.get_traced_memory()[1] < 50 * 10**6
    tracemalloc.stop()


def axis_weights(source: int, target: int) -> np.ndarray:
    """The rule of ``resize`` for one axis as a matrix ``[target, source]``, written out."""
    step = source / target
    window = max(step, 1.0)
    weights = np.zeros((target, source))
    for i in range(target):
        start = (i + 0.5) * step - window / 2
        for j in range(int(np.floor(start)), int(np.ceil(start + window))):
            share = min(start + window, j + 1) - max(start, j)
            weights[i, min(max(j, 0), source - 1)] += max(share, 0) / window
    return weights


@pytest.mark.parametrize(
    ("shape", "size"),
    [((50, 61), (20, 33)), ((9, 5), (32, 40)), ((50, 7), (20, 33)), ((7, 50), (33, 20))],
)
def test_the_rule_of_resizing(shape: tuple[int, int], size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    rows, columns = axis_weights(shape[0], size[0]), axis_weights(shape[1], size[1])
    expected = np.einsum("ah,hwc,bw->abc", rows, picture, columns)
    assert np.abs(resize(picture, size) - expected).max() < 1.6  # OpenCV rounds along each axis


def test_crop_cuts_the_middle_before_it_resizes() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 40, 3), dtype=np.uint8)
    assert (resize(picture, (20, 20), "crop") == resize(picture[25:65], (20, 20))).all()
    assert (resize(picture, (60, 80), "crop") == resize(picture[30:60], (60, 80))).all()


def test_threads_decode_no_more_than_there_is_room_for() -> None:
    room, most, lock = DecodingRoom(100), [0], threading.Lock()

    def decode(pixels: int) -> None:
        with room.held():
            for _ in range(20):  # several in one block: only the last is kept
                with room.take(pixels), lock:
                    most[0] = max(most[0], room.taken)
            with lock:
                assert room.taken >= min(pixels, 100)

    threads = [threading.Thread(target=decode, args=(p,)) for p in (30, 60, 250, 90, 10, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most[0] == 100 and room.taken == 0
