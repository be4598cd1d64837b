"""``prior=``: a row and a submission under class totals, beside those without."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_sweeps import folder_of, write_ablation

from product_cls.ensemble.__main__ import main
from product_cls.ensemble.blend_folders import blend_folders
from product_cls.inference.predictions import Predictions

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    root = write_ablation(tmp_path / "a", {(): 0.0}, products=6, pictures=9)
    for seed in range(3):
        folder = folder_of(root, (), seed)
        folder.config_file.write_text(folder.config_file.read_text() + "model: {backbone: b0}\n")
    return root


def test_class_totals_have_a_row_and_files_of_their_own(
    sweep: Path, run_command: Callable[..., Command]
) -> None:
    command: Command = run_command(main)
    status, plain, _ = command(f"runs={sweep}")
    files = ["table.csv", "submission.csv", "predictions/test.npz"]
    before = [(sweep / "ensemble" / name).read_bytes() for name in files[1:]]
    assert status == 0 and "class totals" not in plain
    status, output, errors = command(f"runs={sweep}", "prior=uniform")
    assert (status, errors) == (0, "")
    assert "the same with class totals (uniform)" in output
    assert "use them only if they are known beforehand" in " ".join(output.split())
    assert [(sweep / "ensemble" / name).read_bytes() for name in files[1:]] == before
    other = Predictions.load(sweep / "ensemble/predictions/test-class-totals.npz")
    assert np.bincount(other.scores.argmax(axis=1), minlength=6).sum() == 54
    np.testing.assert_allclose(other.scores.sum(axis=0), 9, atol=0.01)
    submission = pd.read_csv(sweep / "ensemble/submission-class-totals.csv", dtype=str)
    expected = [str(other.classes[k]) for k in other.scores.argmax(axis=1)]
    assert submission["prediction"].tolist() == expected


@pytest.mark.parametrize("prior", ["uniform", "counts.csv"])
def test_no_test_label_is_read(
    prior: str, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{k},{k + 1}\n" for k in range(6))
    (tmp_path / "counts.csv").write_text(f"label,count\n{rows}")
    first = blend_folders([sweep], prior=prior).totals
    for seed in range(3):
        file = folder_of(sweep, (), seed).predictions_file("test")
        whole = Predictions.load(file)
        replace(whole, target=whole.target[::-1].copy()).save(file)
    second = blend_folders([sweep], prior=prior).totals
    assert first is not None and second is not None
    assert (first.test.scores == second.test.scores).all()
    assert (first.test.target != second.test.target).any()


@pytest.mark.parametrize("prior", ["uniform", "estimated"])
def test_one_picture_has_no_class_totals(prior: str, sweep: Path) -> None:
    for seed in range(3):
        file = folder_of(sweep, (), seed).predictions_file("test")
        Predictions.load(file).rows(np.array([0])).save(file)
    with pytest.raises(ValueError, match=f"prior={prior} needs several pictures"):
        blend_folders([sweep], prior=prior)


def test_what_class_totals_need(sweep: Path) -> None:
    with pytest.raises(ValueError, match=r"prior=estimated needs the labels of the training"):
        blend_folders([sweep], prior="estimated")
    with pytest.raises(ValueError, match=r"nowhere.csv"):
        blend_folders([sweep], prior="nowhere.csv")
