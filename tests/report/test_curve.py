"""`report curve`: the difference of two settings against a third."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_sweeps import synthetic_predictions, write_multirun, write_run

from product_cls.metrics.calibration import calibration_error
from product_cls.report.curve import main
from product_cls.report.curve_study import read_curves
from product_cls.report.experiment import read_experiment
from product_cls.runs.folder import RunFolder

Command = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]
WORDS = ("compare=mix", "x=trainer.max_epochs")
GAIN = {("5", "8"): -0.2, ("5", "64"): 0.0, ("10", "8"): 0.0, ("10", "64"): 0.1}


def write_mixing(root: Path) -> Path:
    """With mixing, a share of ``GAIN`` more pictures is right; 24 products with 10 pictures."""
    labels = [str(k // 10) for k in range(240)]
    views = [float(60 * (k % 2)) for k in range(240)]
    hard = np.random.default_rng(0).permutation(240) / 240  # pictures by how hard they are
    for (limit, epochs), gain in GAIN.items():
        for mix in ("mixup", "none"):
            for seed in range(3):
                right = hard < 0.7 + gain * (mix == "mixup") + 0.01 * seed
                write_run(
                    RunFolder(root / f"{limit},{epochs},{mix},{seed}"),
                    {"seed": seed, "fold": 0},
                    [
                        f"data.limit={limit}",
                        f"trainer.max_epochs={epochs}",
                        f"mix={mix}",
                        f"seed={seed}",
                    ],
                    synthetic_predictions(right, list(map(str, range(240))), labels, views),
                )
    swept = ["data.limit=5,10", "trainer.max_epochs=8,64", "mix=mixup,none", "seed=0,1,2"]
    write_multirun(root, None, swept)
    return root


@pytest.fixture(scope="module")
def mixing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixing(tmp_path_factory.mktemp("mixing") / "sweep")


def test_differences_are_those_of_the_pairs(mixing: Path) -> None:
    study = read_curves(read_experiment(mixing), "mix", "trainer.max_epochs")
    assert study.title == "mixup minus none" and study.views == ["0", "60"]
    points = [(point.series.removeprefix("data.limit="), f"{point.x:g}") for point in study.points]
    assert points == list(GAIN)
    assert study.difference == pytest.approx(np.array(list(GAIN.values())), abs=0.01)
    assert (study.low <= study.difference).all() and (study.difference <= study.high).all()
    assert (study.pairs == 3).all()
    assert study.high[0] < -0.1 and study.low[3] > 0.02
    np.testing.assert_allclose(study.by_view.mean(axis=1), study.difference, atol=1e-9)


def test_tables_and_plot_are_written(mixing: Path, tmp_path: Path, run_command: Command) -> None:
    status, output, errors = run_command(main)(f"runs={mixing}", *WORDS, f"out={tmp_path / 'out'}")
    assert (status, errors) == (0, "")
    assert "24 of 24 runs finished" in output and "mixup minus none" in output
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    assert table["trainer.max_epochs"].tolist() == [8, 64, 8, 64]
    assert table["difference"].tolist() == pytest.approx([-20, 0, 0, 10], abs=1)
    confidence = table["confidence, none"].to_numpy()
    assert np.isfinite(confidence).all() and (confidence > 0).all()
    assert (tmp_path / "out" / "plot.png").stat().st_size > 10_000
    assert "![plot" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("compare=loss", "x=trainer.max_epochs"),
            "compare=loss is not varied by this sweep; allowed: data.limit, trainer.max_epochs, "
            "mix.",
        ),
        (("compare=mix", "x=mix"), "compare=mix and x=mix are the same setting."),
        (
            ("compare=data.limit", "x=mix"),
            "x=mix has the value mixup; allowed: a setting of numbers.",
        ),
    ],
)
def test_wrong_words(
    mixing: Path, run_command: Command, words: tuple[str, ...], sentence: str
) -> None:
    status, _, errors = run_command(main)(f"runs={mixing}", *words)
    assert status != 0 and errors == f"error: {sentence}\n"


def test_calibration_error() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    assert calibration_error(confidence, np.array([1, 1, 1, 0])) == pytest.approx(0.05)
    assert calibration_error(np.array([1.0, 0.0]), np.array([1, 0])) == 0
    assert calibration_error(np.ones(4), np.zeros(4)) == 1
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0)))
    rng = np.random.default_rng(0)
    confidence = rng.random(100_000)
    assert calibration_error(confidence, rng.random(100_000) < confidence) < 0.01
