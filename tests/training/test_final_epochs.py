"""A final model trains for the mean of the folds' best epochs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Refused
from runs_in_process import refusal, train, weights

from product_cls.runs.folder import RunFolder
from product_cls.training.final_epochs import epochs_from_folds

CONFIG: dict[str, Any] = {
    "name": "final",
    "fold": "all",
    "folds": {"strategy": "stratified"},
    "seed": 0,
    "tta": ["identity"],
    "epochs_from": "sweep",
    "data": {"root": "here", "size": 96},
    "optimizer": {"lr": 0.001},
    "callbacks": {},
    "trainer": {"max_epochs": 12},
}


def fold_run(root: Path, name: str, best: int, **changed: Any) -> RunFolder:
    """The folder of a finished run, written without training."""
    run = RunFolder(root / name)
    run.update_status(state="done")
    run.metrics_file.write_text(json.dumps({"best_epoch": best}))
    config = CONFIG | {"name": "sweep", "epochs_from": None, "fold": 0} | changed
    run.config_file.write_text(yaml.safe_dump(config))
    return run


@pytest.mark.parametrize(
    ("best", "epochs"), [([7], 7), ([6, 7], 7), ([2, 3], 3), ([5, 6, 8, 9, 7], 7), ([1, 1, 2], 1)]
)
def test_mean_of_best_epochs_rounded(tmp_path: Path, best: list[int], epochs: int) -> None:
    for fold, epoch in enumerate(best):
        fold_run(tmp_path, f"fold={fold}", epoch, fold=fold)
    result, sentence = epochs_from_folds(CONFIG, tmp_path)
    assert result == epochs
    assert f"best epochs {', '.join(map(str, best))} of {len(best)} runs" in sentence
    assert "ignored" not in sentence


def test_folds_with_other_settings_are_ignored(tmp_path: Path) -> None:
    stop = {"early_stopping": {"monitor": "val/accuracy"}}
    fold_run(tmp_path, "fold=0", 4, seed=3, tta=["hflip"], folds={"strategy": "view"})
    fold_run(tmp_path, "fold=1", 6, data={"root": "there", "size": 96}, callbacks=stop)
    fold_run(tmp_path, "longer", 20, trainer={"max_epochs": 24})
    fold_run(tmp_path, "averaged", 9, callbacks={"ema": {"decay": 0.9}})
    fold_run(tmp_path, "final", 12, fold="all")  # this very run, in the sweep's folder
    epochs, sentence = epochs_from_folds(CONFIG, tmp_path)
    assert epochs == 5 and "2 with other settings ignored" in sentence


def test_refused_sources_of_epochs(tmp_path: Path, refused: Refused) -> None:
    with refused(f"epochs_from={tmp_path / 'absent'}: There is no folder"):
        epochs_from_folds(CONFIG, tmp_path / "absent")
    fold_run(tmp_path, "final", 12, fold="all")
    with refused("none of the 1 runs there holds out a fold"):
        epochs_from_folds(CONFIG, tmp_path)
    fold_run(tmp_path, "far", 7, optimizer={"lr": 0.1}, trainer={"max_epochs": 3})
    fold_run(tmp_path, "near", 7, optimizer={"lr": 0.002})
    with refused("none of the 2 runs", "closest, 'near', differs in optimizer.lr (0.002, here"):
        epochs_from_folds(CONFIG, tmp_path)
    fold_run(tmp_path, "fold=0", 7)
    other = fold_run(tmp_path, "fold=1", 7)
    other.update_status(state="failed", error="Out of memory.")
    with refused("1 of 2 runs", "cannot be used: fold=1 failed: Out of memory."):
        epochs_from_folds(CONFIG, tmp_path)


def test_a_final_run_trains_the_mean_number_of_epochs(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = tmp_path / "sweep"
    folds = [
        train(sweep / f"fold={k}", tiny_root, f"fold={k}", "trainer.max_epochs=3") for k in (0, 1)
    ]
    for run, best in zip(folds, (1, 2), strict=True):  # whatever they were: the mean is 2 of 3
        run.metrics_file.write_text(json.dumps(run.metrics() | {"best_epoch": best}))
    words = ("fold=all", "trainer.max_epochs=3", f"epochs_from='{sweep}'")
    final = train(sweep / "final", tiny_root, *words)
    assert final.metrics()["epochs"] == 2
    # The schedule, too, runs over two epochs, as if that number had been typed.
    typed = train(tmp_path / "typed", tiny_root, "fold=all", "trainer.max_epochs=2")
    assert all(value.equal(weights(final)[name]) for name, value in weights(typed).items())
    assert final.status()["fingerprint"] == typed.status()["fingerprint"]

    written = final.best_checkpoint.stat().st_mtime_ns
    caplog.clear()
    with caplog.at_level("INFO"):
        train(final.path, tiny_root, *words)
    assert "nothing to do" in caplog.text
    assert final.best_checkpoint.stat().st_mtime_ns == written

    sentence = refusal(tmp_path / "fold", tiny_root, caplog, "fold=0", f"epochs_from='{sweep}'")
    assert "is for a final model, fold=all; with fold=0" in sentence
    sentence = refusal(tmp_path / "other", tiny_root, caplog, *words[::2])
    assert "trainer.max_epochs (3, here 1)" in sentence


def test_folds_that_failed_early_or_were_not_trained(
    tmp_path: Path, refused: Refused, caplog: pytest.LogCaptureFixture
) -> None:
    folds = {"strategy": "stratified", "n_splits": 5}
    for fold in (0, 1, 3):
        run = fold_run(tmp_path, f"fold={fold}", 7, fold=fold, folds=folds)
        run.write_overrides([f"fold={fold}", "model=b0"])
    with caplog.at_level("WARNING"):
        assert epochs_from_folds(CONFIG, tmp_path)[0] == 7
    assert "fold 2, 4 of 5 was not trained" in caplog.text
    broken = RunFolder(tmp_path / "fold=2")
    broken.write_overrides(["fold=2", "model=b0"])
    broken.update_status(state="failed", error="Out of memory.")
    with refused("1 of 4 runs", "cannot be used: fold=2 failed: Out of memory."):
        epochs_from_folds(CONFIG, tmp_path)
    broken.write_overrides(["fold=2", "model=b1"])  # of other settings
    assert epochs_from_folds(CONFIG, tmp_path)[0] == 7
