"""``verify=sift``: a row of its own, right answers by matched points, and no look at the test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from labels import write_shop
from runs_in_process import shuffled_labels, train

from product_cls.ensemble.__main__ import main
from product_cls.ensemble.blend_folders import blend_folders
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("shop") / "data")


@pytest.fixture(scope="module")
def run(shop: Path) -> RunFolder:
    """A network that has hardly learned anything."""
    return train(shop.parent / "sweep" / "run", shop, "optimizer.lr=1e-5")


def test_matched_points_find_the_product(
    run: RunFolder, run_command: Callable[..., Command]
) -> None:
    command: Command = run_command(main)
    status, output, errors = command(f"runs={run.path.parent}", "verify=sift")
    assert (status, errors) == (0, "")
    assert "verify=sift compared" in " ".join(output.split())
    result = blend_folders([run.path.parent], verify="sift")
    table = result.tables["accuracy", True].set_index("run")
    before, after = (table[table.index.str.startswith(name)] for name in ("ensemble", "the same"))
    assert before["test"].item() < 70 and after["test"].item() == 100
    assert after["val"].item() > before["val"].item()


def test_no_test_label_is_read(run: RunFolder, shop: Path, tmp_path: Path) -> None:
    first = blend_folders([run.path.parent], verify="sift")
    other = train(
        tmp_path / "sweep" / "run", shuffled_labels(shop, tmp_path / "other"), "optimizer.lr=1e-5"
    )
    second = blend_folders([other.path.parent], verify="sift")
    for split in ("val", "test"):
        np.testing.assert_array_equal(first.splits[split].scores, second.splits[split].scores)
    assert (first.splits["test"].target != second.splits["test"].target).any()


def test_what_verification_needs(run: RunFolder, shop: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="verify=orb; allowed: sift, null"):
        blend_folders([run.path.parent], verify="orb")
    everything = train(tmp_path / "all" / "run", shop, "fold=all")
    with pytest.raises(ValueError, match="fitted on held-out pictures, and these runs have none"):
        blend_folders([everything.path.parent], verify="sift")
    shop.rename(shop.parent / "elsewhere")
    try:
        with pytest.raises(ValueError, match=r"needs the pictures of run, and they are not there"):
            blend_folders([run.path.parent], verify="sift")
    finally:
        (shop.parent / "elsewhere").rename(shop)
