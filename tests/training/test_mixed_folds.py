"""A further fold of a sweep whose samples have changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from product_cls.inference.predictions import Predictions
from product_cls.runs.folder import RunFolder
from product_cls.training.mixed_folds import check_sweep


def finished(path: Path, ids: str) -> RunFolder:
    run = RunFolder(path)
    scores = np.full((len(ids), 2), 0.5, np.float32)
    task = {"name": "single_label", "label": "label", "classes": ["p", "q"]}
    target = np.zeros(len(ids), int)
    names = np.array([*ids])
    Predictions(names, scores, scores, np.array(["p", "q"]), task, target).save(
        run.predictions_file("val")
    )
    run.metrics_file.write_text("{}")
    run.update_status(state="done")
    return run


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    file = tmp_path / "folds.csv"
    file.write_text("# header\nid,fold\na,0\nb,0\nc,1\nd,1\ne,-1\n")
    return file


def test_a_fold_of_other_samples_is_refused(tmp_path: Path, earlier: Path, refused: Any) -> None:
    finished(tmp_path / "sweep" / "fold=0", "ab")
    new = RunFolder(tmp_path / "sweep" / "fold=1")
    for _ in range(2):  # also when it is typed again
        with refused("'fold=0'", "other samples", "name=...", str(earlier)):
            check_sweep(new, earlier)
        new.update_status(state="failed")
    check_sweep(RunFolder(tmp_path / "other" / "fold=1"), earlier)


def test_a_repeated_sweep_and_runs_of_other_folds_are_no_mixture(
    tmp_path: Path, earlier: Path
) -> None:
    one = finished(tmp_path / "sweep" / "fold=0", "ab")
    finished(tmp_path / "sweep" / "fold=1", "cd")
    check_sweep(one, earlier)  # it is trained anew, as the others will be
    finished(tmp_path / "mixed" / "fold=0", "ac")  # of another split
    finished(tmp_path / "mixed" / "fold=1", "xy")
    check_sweep(RunFolder(tmp_path / "mixed" / "fold=2"), earlier)
    earlier.write_text("damaged")
    check_sweep(RunFolder(tmp_path / "sweep" / "fold=2"), earlier)
