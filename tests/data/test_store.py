"""The image store: correct pixels, and only a complete and current store is used."""

import errno
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from product_cls.core.errors import UserError
from product_cls.data import store as module
from product_cls.data.image_store import ImageStore
from product_cls.data.pictures import load_picture, resize
from product_cls.data.readers import read_competition, read_grocery
from product_cls.data.store import (
    UnreadablePicturesError,
    build_store,
)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def samples(tiny_root: Path) -> pd.DataFrame:
    return read_competition(tiny_root)


def plain_samples(folder: Path, count: int, side: int = 16) -> pd.DataFrame:
    """``count`` single-coloured pictures: picture n is (n, 2n, 3n)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{n}.png" for n in range(count)]
    for n, path in enumerate(paths):
        Image.new("RGB", (side, side), (n, 2 * n, 3 * n)).save(path)
    return pd.DataFrame({"id": [path.name for path in paths], "path": list(map(str, paths))})


def colours(store: ImageStore) -> list[tuple[int, ...]]:
    assert all((picture == picture[0, 0]).all() for picture in store.pixels)
    return [tuple(int(v) for v in picture[0, 0]) for picture in store.pixels]


def left_behind(folder: Path) -> list[str]:
    """Names in ``folder``, except locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# --- decoding


def saved(path: Path, picture: Image.Image, **options: Any) -> np.ndarray:
    picture.save(path, **options)
    pixels = load_picture(path)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    return pixels


def test_rgb_and_greyscale(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (saved(tmp_path / "a.png", Image.fromarray(pixels)) == pixels).all()
    grey = pixels[..., 0]
    assert (saved(tmp_path / "g.png", Image.fromarray(grey)) == grey[..., None]).all()
    bilevel = Image.fromarray(grey > 127)
    assert bilevel.mode == "1"
    assert (saved(tmp_path / "1.png", bilevel) == (grey > 127)[..., None] * 255).all()


def test_palette_and_gif(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putpixel((0, 0), 2)
    for name in ("p.png", "p.gif"):
        pixels = saved(tmp_path / name, picture)
        assert (pixels[0, 0] == BLUE).all() and (pixels[1:] == GREEN).all()
    # A transparent palette entry, in both formats.
    for name in ("t.png", "t.gif"):
        pixels = saved(tmp_path / name, picture, transparency=2)
        assert (pixels[0, 0] == WHITE).all() and (pixels[1:] == GREEN).all()


def test_gif_shows_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in (RED, BLUE)]
    pixels = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (pixels == RED).all()


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [(*RED, 255), (*RED, 0), (*RED, 128)]
    for name in ("a.png", "a.webp"):
        pixels = saved(tmp_path / name, Image.fromarray(rgba), lossless=True)
        assert pixels[0].tolist() == [[255, 0, 0], [255, 255, 255], [255, 127, 127]]
    grey = Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8), mode="LA")
    assert saved(tmp_path / "la.png", grey)[0].tolist() == [[0, 0, 0], [255, 255, 255]]
    keyed = Image.new("RGB", (2, 1), RED)
    keyed.putpixel((0, 0), BLUE)
    assert saved(tmp_path / "k.png", keyed, transparency=BLUE)[0].tolist() == [
        list(WHITE),
        list(RED),
    ]


@pytest.mark.parametrize("name", ["d.png", "d.tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    deep = np.array([[0, 257, 100 * 257, 300, 65535]], np.uint16)
    pixels = saved(tmp_path / name, Image.fromarray(deep))
    assert pixels[0, :, 0].tolist() == [0, 1, 100, 1, 255]
    assert (pixels == pixels[..., :1]).all()


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    deep = np.array([[[0, 100 * 257, 65535]]], np.uint16)  # BGR for OpenCV
    cv2.imwrite(str(tmp_path / "d.png"), deep)
    assert load_picture(tmp_path / "d.png")[0, 0].tolist() == [255, 100, 0]


@pytest.mark.parametrize(("name", "tolerance"), [("c.tif", 0), ("c.jpg", 4)])
def test_cmyk(tmp_path: Path, name: str, tolerance: int) -> None:
    picture = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
    assert np.abs(saved(tmp_path / name, picture).astype(int) - RED).max() <= tolerance


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, "AB/CD"),
        (2, "BA/DC"),
        (3, "DC/BA"),
        (4, "CD/AB"),
        (5, "AC/BD"),
        (6, "CA/DB"),
        (7, "DB/CA"),
        (8, "BD/AC"),
    ],
)
def test_exif_orientation(tmp_path: Path, orientation: int, shown: str) -> None:
    """The table of the EXIF standard: how to show a picture stored as AB/CD."""
    level = dict(zip("ABCD", (10, 80, 160, 240), strict=True))
    stored = np.array([[level[c] for c in row] for row in ("AB", "CD")], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = saved(tmp_path / "e.png", Image.fromarray(stored), exif=exif)
    expected = [[level[c] for c in row] for row in shown.split("/")]
    assert pixels[..., 0].tolist() == expected


def test_exif_orientation_swaps_the_sides(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert saved(tmp_path / "e.jpg", Image.new("RGB", (30, 20)), exif=exif).shape == (30, 20, 3)


def truncated(path: Path, keep: float = 0.6) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


@pytest.mark.parametrize("name", ["t.jpg", "t.png", "t.webp", "t.bmp", "t.tif", "t.gif"])
def test_truncated_is_unreadable(tmp_path: Path, name: str) -> None:
    for keep in (0.1, 0.6, 0.95):
        with pytest.raises(OSError):
            load_picture(truncated(tmp_path / name, keep))


def test_odd_exif_data_is_harmless(tmp_path: Path) -> None:
    """The maker is a fraction here, on which ImageOps.exif_transpose raises AttributeError."""
    maker = struct.pack("<HHI4s", 0x010F, 5, 1, bytes(4))
    orientation = struct.pack("<HHII", 0x0112, 3, 1, 6)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + maker + orientation + bytes(4)
    Image.new("RGB", (30, 20), RED).save(tmp_path / "e.jpg", exif=exif)
    assert load_picture(tmp_path / "e.jpg").shape == (30, 20, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_damage_is_an_oserror(tmp_path: Path) -> None:
    """Pillow raises other exceptions for some of these, which would abort the build."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    for name in ("a.jpg", "a.png", "a.webp", "a.gif"):
        Image.fromarray(noise).save(tmp_path / name, exif=exif)
        whole = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            places = rng.integers(0, min(len(whole), 200), 4)
            damaged[places] = rng.integers(0, 256, 4)
            (tmp_path / f"x{name}").write_bytes(damaged.tobytes())
            with suppress(OSError):
                load_picture(tmp_path / f"x{name}")


# --- resizing


def test_squash_fills_the_size_and_averages() -> None:
    halves = np.zeros((20, 40, 3), np.uint8)
    halves[:, 20:] = 200
    small = resize(halves, (5, 10))
    assert small.shape == (5, 10, 3)
    assert (small[:, :5] == 0).all() and (small[:, 5:] == 200).all()
    checks = np.indices((16, 16)).sum(0)[..., None].repeat(3, 2) % 2 * 200
    assert (resize(checks.astype(np.uint8), (8, 8)) == 100).all()


@pytest.mark.parametrize("shape", [(50, 1000), (1000, 50)])
def test_no_aliasing_when_one_side_shrinks_and_the_other_grows(shape: tuple[int, int]) -> None:
    """Here INTER_AREA falls back to bilinear, which turns fine stripes into one colour."""
    stripes = np.zeros((*shape, 3), np.uint8)
    if shape[1] > shape[0]:
        stripes[:, ::2] = 200
    else:
        stripes[::2] = 200
    assert (resize(stripes, (100, 100)) == 100).all()


def test_crop_keeps_the_middle() -> None:
    thirds = np.zeros((10, 30, 3), np.uint8)
    thirds[:, :10], thirds[:, 10:20], thirds[:, 20:] = RED, GREEN, BLUE
    assert (resize(thirds, (10, 10), "crop") == GREEN).all()
    assert (resize(thirds.transpose(1, 0, 2), (10, 10), "crop") == GREEN).all()
    assert (resize(thirds, (20, 20), "crop")[:, 2:-2] == GREEN).all()


def test_pad_repeats_the_border() -> None:
    halves = np.zeros((10, 20, 3), np.uint8)
    halves[:5], halves[5:] = RED, BLUE
    padded = resize(halves, (20, 20), "pad")
    assert (padded[:10] == RED).all() and (padded[10:] == BLUE).all()
    wide = resize(halves, (10, 40), "pad")
    assert (wide[:5] == RED).all() and (wide[5:] == BLUE).all()
    assert (wide[:, 10:30] == halves).all()  # the picture itself is as large as it can be


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_every_shape_is_resized_to_the_size(fit: Any) -> None:
    for height, width in ((1, 1), (1, 300), (300, 1), (31, 17), (32, 33), (24, 48), (97, 50)):
        assert resize(np.full((height, width, 3), 7, np.uint8), (24, 48), fit).shape == (24, 48, 3)
        assert (resize(np.full((height, width, 3), 7, np.uint8), (24, 48), fit) == 7).all()


def test_same_size_is_unchanged() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for fit in ("squash", "crop", "pad"):
        assert (resize(noise, (9, 9), fit) == noise).all()  # type: ignore[arg-type]


# --- building and opening


def test_store_holds_the_pictures(samples: pd.DataFrame, tmp_path: Path) -> None:
    store = build_store(samples, tmp_path / "cache" / "store", (24, 16))
    assert store.ids == samples["id"].tolist()
    assert store.pixels.shape == (72, 24, 16, 3) and store.pixels.dtype == np.uint8
    for row in (0, 17, 71):
        expected = resize(load_picture(samples["path"][row]), (24, 16))
        assert (store.pixels[row] == expected).all()
    assert store.rows(["train/1/3.jpg", "train/0/0.jpg"]).tolist() == [13, 0]
    with pytest.raises(KeyError):
        store.rows(["train/1/99.jpg"])
    with pytest.raises(ValueError, match="read-only"):
        store.pixels[0] = 0
    assert left_behind(tmp_path / "cache") == ["store"]


def test_current_store_is_not_rebuilt(tmp_path: Path) -> None:
    samples = plain_samples(tmp_path / "pics", 3)
    store = tmp_path / "store"
    build_store(samples, store, (8, 8))
    inode = (store / "pixels.npy").stat().st_ino
    build_store(samples, store, (8, 8))
    assert (store / "pixels.npy").stat().st_ino == inode


def test_stale_store_is_rebuilt(tmp_path: Path) -> None:
    samples = plain_samples(tmp_path / "pics", 3)
    store = tmp_path / "store"
    old = build_store(samples, store, (8, 8))
    Image.new("RGB", (16, 16), (9, 9, 9)).save(samples["path"][1])
    os.utime(samples["path"][1], ns=(1, 1))
    assert colours(build_store(samples, store, (8, 8))) == [(0, 0, 0), (9, 9, 9), (2, 4, 6)]
    assert colours(old)[1] == (1, 2, 3)  # a process that has the old one open keeps it
    assert build_store(samples, store, (8, 10)).pixels.shape == (3, 8, 10, 3)
    assert build_store(samples[:2], store, (8, 10)).ids == ["0.png", "1.png"]
    turned = build_store(samples[::-1], store, (8, 10))
    assert turned.ids == ["2.png", "1.png", "0.png"] and colours(turned)[0] == (2, 4, 6)
    wide = plain_samples(tmp_path / "wide", 1)
    halves = np.zeros((10, 30, 3), np.uint8)
    halves[:, 10:20] = RED
    Image.fromarray(halves).save(wide["path"][0])
    assert colours(build_store(wide, store, (8, 8), fit="crop")) == [RED]
    assert (build_store(wide, store, (8, 8), fit="squash").pixels[0, :, 0] == 0).all()


def test_partial_stores_are_never_used(tmp_path: Path) -> None:
    samples = plain_samples(tmp_path / "pics", 3)
    cache = tmp_path / "cache"
    expected = colours(build_store(samples, cache / "store", (8, 8)))
    shutil.copytree(cache / "store", cache / "store.partial-1")  # from a killed build
    (cache / "store" / "index.json").unlink()
    wrong = np.lib.format.open_memmap(cache / "store" / "pixels.npy", mode="r+")
    wrong[:] = 77
    wrong.flush()
    assert colours(build_store(samples, cache / "store", (8, 8))) == expected
    assert left_behind(cache) == ["store"]


def cut_pixels(store: Path) -> None:
    file = store / "pixels.npy"
    file.write_bytes(file.read_bytes()[:-100])


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no pixels": lambda store: (store / "pixels.npy").unlink(),
    "pixels cut": cut_pixels,
    "pixels empty": lambda store: (store / "pixels.npy").write_bytes(b""),
    "pixels are text": lambda store: (store / "pixels.npy").write_text("no array"),
    "other pixels": lambda store: np.save(store / "pixels.npy", np.zeros((2, 8, 8, 3), np.uint8)),
    "index empty": lambda store: (store / "index.json").write_text(""),
    "index cut": lambda store: (store / "index.json").write_text('{"fingerprint": "'),
    "index is a list": lambda store: (store / "index.json").write_text("[]"),
    "index is a number": lambda store: (store / "index.json").write_text("3"),
    "index of an endless depth": lambda store: (store / "index.json").write_text("[" * 100_000),
    "another id": lambda store: (store / "index.json").write_text(
        (store / "index.json").read_text().replace("1.png", "7.png")
    ),
    "pixels of another type": lambda store: np.save(
        store / "pixels.npy", np.zeros((3, 8, 8, 3), np.int8)
    ),
    "pixels of another size": lambda store: np.save(
        store / "pixels.npy", np.zeros((3, 8, 9, 3), np.uint8)
    ),
    "a header of 10^12 rows": lambda store: (store / "pixels.npy").write_bytes(
        (store / "pixels.npy")
        .read_bytes()
        .replace(b"(3, 8, 8, 3), }          ", b"(1000000000000, 8, 8, 3)}")
    ),
    "index without ids": lambda store: (store / "index.json").write_text(
        json.dumps({"fingerprint": json.loads((store / "index.json").read_text())["fingerprint"]})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_store_is_rebuilt(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    samples = plain_samples(tmp_path / "pics", 3)
    build_store(samples, tmp_path / "store", (8, 8))
    damage(tmp_path / "store")
    with pytest.raises(UserError):
        ImageStore.open(tmp_path / "store")
    assert colours(build_store(samples, tmp_path / "store", (8, 8)))[2] == (2, 4, 6)


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    """Times set back do not hide the change."""
    samples = plain_samples(tmp_path / "pics", 3)
    first = build_store(samples, tmp_path / "store", (8, 8))
    pixels = tmp_path / "store" / "pixels.npy"
    before = pixels.stat()
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    os.utime(pixels, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = build_store(samples, tmp_path / "store", (8, 8))
    assert colours(again)[2] == (2, 4, 6) and again.contents == first.contents


def test_the_checksum_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = plain_samples(tmp_path / "pics", 3)
    build_store(samples, tmp_path / "store", (8, 8))
    build_store(samples, tmp_path / "store", (8, 8))
    monkeypatch.setattr("product_cls.data.image_store.file_checksum", lambda file: 1 / 0)
    build_store(samples, tmp_path / "store", (8, 8))
    (tmp_path / "store" / "verified.json").write_text("[]")
    with pytest.raises(ZeroDivisionError):
        build_store(samples, tmp_path / "store", (8, 8))


def test_a_store_of_another_size_is_not_believed(tmp_path: Path) -> None:
    """An index that names the right sources does not vouch for the size of the pixels."""
    samples = plain_samples(tmp_path / "pics", 3)
    small = build_store(samples, tmp_path / "store", (16, 16)).folder
    index = json.loads((small / "index.json").read_text())
    del index["checksum"]
    index["fingerprint"] = module.sources_fingerprint(samples, (32, 32), "squash", 150_000_000)
    index["checksum"] = module.digest(index)
    (small / "index.json").write_text(json.dumps(index))
    assert ImageStore.open(small).pixels.shape == (3, 16, 16, 3)
    assert build_store(samples, small, (32, 32)).pixels.shape == (3, 32, 32, 3)


def test_pictures_changed_in_place_with_their_times_set_back(tmp_path: Path) -> None:
    samples = plain_samples(tmp_path / "pics", 3)
    first = build_store(samples, tmp_path / "store", (8, 8))
    file = Path(samples["path"][1])
    before = file.stat()
    Image.new("RGB", (16, 16), (9, 2, 3)).save(file)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = build_store(samples, tmp_path / "store", (8, 8))
    assert colours(again)[1] == (9, 2, 3) and again.contents != first.contents


def test_contents_do_not_depend_on_the_place(tmp_path: Path) -> None:
    stores = [
        build_store(plain_samples(tmp_path / place, 3), tmp_path / f"{place}-store", (8, 8))
        for place in ("here", "there")
    ]
    assert stores[0].contents == stores[1].contents
    fewer = build_store(plain_samples(tmp_path / "fewer", 2), tmp_path / "fewer-store", (8, 8))
    assert fewer.contents != stores[0].contents


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_whole_store_in_a_read_only_cache_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any, code: int
) -> None:
    samples = plain_samples(tmp_path / "pics", 3)
    build_store(samples, tmp_path / "store", (8, 8))

    class ReadOnly:
        def __init__(self, *arguments: Any) -> None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module, "FileLock", ReadOnly)
    monkeypatch.setattr("product_cls.data.image_store.write_text_whole", ReadOnly)
    assert colours(build_store(samples, tmp_path / "store", (8, 8)))[2] == (2, 4, 6)
    with refused("folder=", "cannot be written there", os.strerror(code)):
        build_store(samples, tmp_path / "store", (8, 9))


def test_pictures_above_the_limit_are_listed(tmp_path: Path, refused: Any) -> None:
    samples = plain_samples(tmp_path / "pics", 3)
    Image.new("RGB", (40, 40)).save(samples["path"][1])
    with pytest.raises(UnreadablePicturesError, match="40 x 40 pixels, but max_pixels=1000"):
        build_store(samples, tmp_path / "store", (8, 8), max_pixels=1000)
    with refused("max_pixels=0; allowed: a whole number from 1 to"):
        build_store(samples, tmp_path / "store", (8, 8), max_pixels=0)


def test_size_too_small(samples: pd.DataFrame, tmp_path: Path, refused: Any) -> None:
    with refused("size=4x96", "at least 8"):
        build_store(samples, tmp_path / "store", (4, 96))


# --- pictures that cannot be decoded


@pytest.fixture
def some_broken(tmp_path: Path) -> tuple[pd.DataFrame, set[str]]:
    """Six pictures: one truncated, one a text file, one deleted after the table was read."""
    samples = plain_samples(tmp_path / "pics", 6)
    paths = samples["path"]
    truncated(tmp_path / "pics" / "t.jpg").rename(paths[1])
    Path(paths[3]).write_text("this is text\tnamed as a picture")
    Path(paths[4]).unlink()
    return samples, {paths[1], paths[3], paths[4]}


def test_all_unreadable_pictures_are_listed(
    tmp_path: Path, some_broken: tuple[pd.DataFrame, set[str]]
) -> None:
    samples, broken = some_broken
    with pytest.raises(UnreadablePicturesError) as caught:
        build_store(samples, tmp_path / "cache" / "store", (8, 8))
    assert set(caught.value.reasons) == broken
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("on_unreadable=stop: 3 pictures cannot be decoded")
    assert "set it to drop" in first
    assert len(rest) == 3 and all(any(path in line for line in rest) for path in broken)
    assert "truncated" in next(line for line in rest if samples["path"][1] in line)
    assert left_behind(tmp_path / "cache") == ["store-unreadable.txt"]


def test_the_report_has_the_whole_list(tmp_path: Path) -> None:
    samples = plain_samples(tmp_path / "pics", 30)
    for path in samples["path"][:25]:
        Path(path).write_text("text")
    with pytest.raises(UnreadablePicturesError, match="5 more") as caught:
        build_store(samples, tmp_path / "store", (8, 8))
    report = tmp_path / "store-unreadable.txt"
    assert str(report) in str(caught.value)
    assert len(report.read_text().splitlines()) == 25


def test_drop_leaves_out_unreadable_pictures_with_a_warning(
    tmp_path: Path, some_broken: tuple[pd.DataFrame, set[str]]
) -> None:
    samples, _ = some_broken
    store = tmp_path / "cache" / "store"
    warnings: list[str] = []
    dropped = build_store(samples, store, (8, 8), on_unreadable="drop", warn=warnings.append)
    assert dropped.ids == ["0.png", "2.png", "5.png"]
    assert colours(dropped) == [(0, 0, 0), (2, 4, 6), (5, 10, 15)]
    assert len(warnings) == 1 and warnings[0].startswith("3 pictures")
    inode = (store / "pixels.npy").stat().st_ino
    # The second call does not rebuild, but warns again.
    build_store(samples, store, (8, 8), on_unreadable="drop", warn=warnings.append)
    assert (store / "pixels.npy").stat().st_ino == inode and len(warnings) == 2


@pytest.mark.parametrize("report", ["kept", "deleted"])
def test_stop_refuses_a_store_that_was_built_with_drop(
    tmp_path: Path, some_broken: tuple[pd.DataFrame, set[str]], report: str
) -> None:
    samples, broken = some_broken
    warnings: list[str] = []
    build_store(samples, tmp_path / "store", (8, 8), on_unreadable="drop", warn=warnings.append)
    warnings.clear()
    if report == "deleted":
        (tmp_path / "store-unreadable.txt").unlink()
    with pytest.raises(UnreadablePicturesError) as caught:
        build_store(samples, tmp_path / "store", (8, 8), warn=warnings.append)
    assert set(caught.value.reasons) == broken and not warnings
    assert len((tmp_path / "store-unreadable.txt").read_text().splitlines()) == 3


def test_repaired_pictures_are_included(tmp_path: Path) -> None:
    samples = plain_samples(tmp_path / "pics", 4)
    Path(samples["path"][2]).write_text("text")
    with pytest.raises(UnreadablePicturesError):
        build_store(samples, tmp_path / "store", (8, 8))
    plain_samples(tmp_path / "pics", 4)
    assert colours(build_store(samples, tmp_path / "store", (8, 8)))[2] == (2, 4, 6)
    assert left_behind(tmp_path) == ["pics", "store"]  # the outdated report is deleted


def test_drop_with_no_readable_picture(tmp_path: Path, refused: Any) -> None:
    samples = plain_samples(tmp_path / "pics", 2)
    for path in samples["path"]:
        Path(path).write_text("text")
    with refused("None of the 2 pictures can be decoded"):
        build_store(samples, tmp_path / "store", (8, 8), on_unreadable="drop")
    assert "store" not in left_behind(tmp_path)


# --- full disk, no permission, Ctrl-C


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    def no_room(handle: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    samples = plain_samples(tmp_path / "pics", 3)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with refused("cache/store", "No space left on device", "another place"):
        build_store(samples, tmp_path / "cache" / "store", (8, 8))
    assert left_behind(tmp_path / "cache") == []
    monkeypatch.undo()
    assert len(build_store(samples, tmp_path / "cache" / "store", (8, 8)).ids) == 3


BUILD = """
import sys
import pandas as pd
from pathlib import Path
from product_cls.config.border import keys_for_arguments
from product_cls.core.cli import guard
from product_cls.data.store import build_store

table, folder, side = pd.read_csv(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def build():
    with keys_for_arguments(folder="paths.cache"):
        print(len(build_store(table, folder, (side, side)).ids))

guard(build)
"""


def builder(samples: pd.DataFrame, folder: Path, side: int, *before: str) -> list[str]:
    """A command that builds a store in a separate process."""
    table = folder.parent.parent / "samples.csv"
    samples.to_csv(table, index=False)
    return [*before, sys.executable, "-c", BUILD, str(table), str(folder), str(side)]


def test_file_size_limit_for_real(tmp_path: Path) -> None:
    samples = plain_samples(tmp_path / "pics", 20)
    store = tmp_path / "cache" / "store"
    done = subprocess.run(
        builder(samples, store, 256),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert done.returncode == 2
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"error: paths.cache={store}: the image store cannot be written")
    assert "File too large" in message
    assert "Traceback" not in done.stderr and left_behind(store.parent) == []


def test_full_disk_for_real(tmp_path: Path) -> None:
    """On a file system of 1 MB, mounted in a separate namespace."""
    samples = plain_samples(tmp_path / "pics", 20)
    store = tmp_path / "small" / "store"
    store.parent.mkdir()
    mount = f"mount -t tmpfs -o size=1m none {store.parent} 2>/dev/null || exit 77; "
    script = mount + f'"$@"; code=$?; ls {store.parent}; exit $code'
    command = builder(samples, store, 256, "unshare", "--map-root-user", "--mount", "sh", "-c")
    command[5:5] = [script, "sh"]
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode in (1, 77) and "image store" not in done.stderr:
        pytest.skip("this machine does not let us mount a tmpfs")
    assert done.returncode == 2, done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"error: paths.cache={store}: the image store cannot be written")
    assert "No space left" in message
    assert done.stdout.split() == []


def test_cache_that_is_a_file(tmp_path: Path, refused: Any) -> None:
    samples = plain_samples(tmp_path / "pics", 2)
    (tmp_path / "cache").write_text("a file")
    with refused("folder=", "cannot be written there"):
        build_store(samples, tmp_path / "cache" / "store", (8, 8))


@pytest.fixture
def slow_pictures(tmp_path: Path) -> pd.DataFrame:
    """400 rows that take about 10 ms each to decode."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png", compress_level=1)
    ids = [f"{n}.png" for n in range(400)]
    return pd.DataFrame({"id": ids, "path": str(tmp_path / "noise.png")})


def test_interrupt_in_the_middle(tmp_path: Path, slow_pictures: pd.DataFrame) -> None:
    store = tmp_path / "cache" / "store"
    process = subprocess.Popen(
        builder(slow_pictures, store, 64), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("cache/store.partial-*/pixels.npy")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "Traceback" not in err
    assert left_behind(tmp_path / "cache") == []


def test_interrupt_does_not_wait_for_remaining_pictures(
    tmp_path: Path, slow_pictures: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if Ctrl-C strikes between two pictures, in the progress bar."""

    def interrupted(items: Iterator[Any], *args: Any, **options: Any) -> Iterator[Any]:
        for count, item in enumerate(items):
            if count == 3:
                raise KeyboardInterrupt
            yield item

    started: list[str] = []

    def counted(path: str, **limit: int) -> np.ndarray:
        started.append(path)
        return load_picture(path, **limit)

    monkeypatch.setattr(module, "progress_bar", interrupted)
    monkeypatch.setattr(module, "load_picture", counted)
    with pytest.raises(KeyboardInterrupt):
        build_store(slow_pictures, tmp_path / "cache" / "store", (64, 64), threads=2)
    assert len(started) < 50
    assert left_behind(tmp_path / "cache") == []


# --- concurrent processes

COUNTED = """
import sys, time
import pandas as pd
from pathlib import Path
from product_cls.data import store

decoded, load = [], store.load_picture
store.load_picture = lambda path, **limit: decoded.append(path) or load(path, **limit)
print("ready", flush=True)
sys.stdin.readline()
built = store.build_store(pd.read_csv(sys.argv[1]), Path(sys.argv[2]), (16, 16))
print(len(decoded), int(built.pixels[:].sum()), flush=True)
"""


def test_two_processes_build_once(tmp_path: Path, samples: pd.DataFrame) -> None:
    samples.to_csv(tmp_path / "samples.csv", index=False)
    command = [
        sys.executable,
        "-c",
        COUNTED,
        str(tmp_path / "samples.csv"),
        str(tmp_path / "store"),
    ]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(int(count) for count, _ in results) == [0, len(samples)]
    assert results[0][1] == results[1][1]


def test_each_process_gets_the_store_of_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with different samples under one name take turns and are never mixed up."""
    opening = ImageStore.open
    monkeypatch.setattr(ImageStore, "open", lambda folder: (time.sleep(0.02), opening(folder))[1])
    tables = [plain_samples(tmp_path / "few", 3), plain_samples(tmp_path / "more", 5)]
    wrong: list[Any] = []

    def ask(table: pd.DataFrame) -> None:
        for _ in range(5):
            try:
                store = build_store(table, tmp_path / "store", (8, 8), threads=1)
                if store.ids != table["id"].tolist() or len(store.pixels) != len(table):
                    wrong.append(store.ids)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(table,)) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture(scope="module")
def large(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """As many pictures as the grocery data has, at 64 pixels: 36 MB."""
    picture = str(tiny_root / "train" / "0" / "0.jpg")
    ids = [f"train/a/folder/of/pictures/{n}.jpg" for n in range(2936)]
    samples = pd.DataFrame({"id": ids, "path": picture})
    return build_store(samples, tmp_path_factory.mktemp("large") / "store", (64, 64))


OPEN = """
import sys, time
from pathlib import Path
from product_cls.data.image_store import ImageStore

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before, started = resident(), time.perf_counter()
store = ImageStore.open(Path(sys.argv[1]))
took, grown = time.perf_counter() - started, resident() - before
print(took, grown, type(store.pixels).__name__, store.pixels.mode, flush=True)
total = int(store.pixels[:].sum(dtype="int64"))
print(total, flush=True)
sys.stdin.readline()
"""


def mapping(pid: int, name: str) -> dict[str, int]:
    """The entry of /proc for a process's mapping of a file, in kB."""
    sizes: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head, *rest = line.split()
        if "-" in head and not head.endswith(":"):
            inside = line.endswith(name)
        elif inside and len(rest) == 2:
            sizes[head[:-1]] = sizes.get(head[:-1], 0) + int(rest[0])
    return sizes


def check_shared(store: ImageStore) -> None:
    """Opening takes < 50 ms and < 5 MB, and two processes share the pixels in memory."""
    size = store.pixels.nbytes / 1024
    command = [sys.executable, "-c", OPEN, str(store.folder)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        totals = []
        for process in processes:
            assert process.stdout is not None
            took, grown, kind, mode = process.stdout.readline().split()
            assert float(took) < 0.05
            assert int(grown) < 5e6
            assert (kind, mode) == ("memmap", "r")
            totals.append(int(process.stdout.readline()))
        assert totals[0] == totals[1]
        for process in processes:
            used = mapping(process.pid, "pixels.npy")
            assert used["Rss"] > 0.95 * size
            assert used["Private_Dirty"] == 0
            assert used["Pss"] < 0.6 * size  # each is charged half of the shared pages
    finally:
        for process in processes:
            process.communicate("done\n", timeout=30)


def test_opening_maps_and_processes_share(large: ImageStore) -> None:
    check_shared(large)


def test_pickle_contains_no_pixels(large: ImageStore) -> None:
    text = pickle.dumps(large)
    assert len(text) < 1000
    again = pickle.loads(text)
    assert isinstance(again.pixels, np.memmap) and again.ids == large.ids
    assert (again.pixels[100] == large.pixels[100]).all()


def test_open_without_a_store(tmp_path: Path, refused: Any) -> None:
    with refused("is not an image store"):
        ImageStore.open(tmp_path / "nowhere")


@pytest.mark.slow
def test_grocery_store(grocery_root: Path, tmp_path: Path) -> None:
    samples = read_grocery(grocery_root)
    build_store(samples, tmp_path / "store", (128, 128))
    started = time.perf_counter()
    store = ImageStore.open(tmp_path / "store")
    assert time.perf_counter() - started < 0.05
    assert len(store.ids) == len(samples) >= 2936
    check_shared(store)
