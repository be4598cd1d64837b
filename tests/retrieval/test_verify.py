"""``search verify=sift``: answers by matched points, and what it says about them."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from labels import write_shop
from runs_in_process import RETRIEVAL, train

from product_cls.retrieval.index.__main__ import Arguments, build
from product_cls.retrieval.search import main
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A network that has hardly learned anything."""
    shop = write_shop(tmp_path_factory.mktemp("shop") / "data")
    return train(shop.parent / "run", shop, *RETRIEVAL, "optimizer.lr=1e-5")


@pytest.fixture(scope="module")
def index(run: RunFolder) -> Path:
    out = run.path.parent / "index" / "labels"
    build(Arguments(runs=str(run.path), out=str(out)))
    return out


@pytest.fixture(scope="module")
def asked(run: RunFolder) -> Path:
    data = run.path.parent / "data"
    views = pd.read_csv(data / "views.csv", dtype=str)
    test = views[views["split"] == "test"]
    file = data / "asked.csv"
    test.rename(columns={"id": "path"})[["path", "label"]].to_csv(file, index=False)
    return file


@pytest.mark.parametrize("extra", [(), ("vote=nearest",), ("prototypes=true", "k=4")])
def test_matched_points_find_the_product(
    extra: tuple[str, ...],
    index: Path,
    asked: Path,
    tmp_path: Path,
    run_command: Callable[..., Command],
) -> None:
    command: Command = run_command(main)
    words = (f"index={index}", f"images={asked}", f"out={tmp_path / 'out'}", *extra)
    status, plain, _ = command(*words)
    assert status == 0 and "accuracy 100.0%" not in plain
    status, output, errors = command(*words, "verify=sift")
    assert (status, errors) == (0, "")
    assert "accuracy 100.0% of 16 pictures" in output
    assert "compared 16 of 16 pictures with their neighbours" in output
    assert "was fitted on 16 held-out pictures" in output
    table = pd.read_csv(tmp_path / "out" / "neighbours.csv", dtype=str)
    k = 4 if "k=4" in extra else 5
    assert f"points_{k}" in table and f"points_{k + 1}" not in table
    points = table.filter(like="points_").astype(int).to_numpy()
    labels = table.filter(regex="^label_").to_numpy()
    same = labels == table["label"].to_numpy()[:, None]
    assert points[~same].max() < points[same].mean()
    assert (index.with_name("labels-local-features") / "points.bin").is_file()
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_without_held_out_pictures_a_default_weight_is_used_and_said(
    run: RunFolder, index: Path, asked: Path, tmp_path: Path, run_command: Callable[..., Command]
) -> None:
    command: Command = run_command(main)
    gallery = run.predictions_file("gallery")
    gallery.rename(gallery.with_name("moved.npz"))
    try:
        status, output, _ = command(
            f"index={index}", f"images={asked}", f"out={tmp_path / 'out'}", "verify=sift"
        )
    finally:
        gallery.with_name("moved.npz").rename(gallery)
    assert status == 0 and "the weight of points is a default" in output
    status, _, errors = command(f"index={index}", f"images={asked}", "verify=orb")
    assert status == 2 and "verify=orb; allowed: sift, null." in errors
