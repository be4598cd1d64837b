"""Which metric selects the best epoch: the task's, another, or one of the user's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs_in_process import RETRIEVAL, refusal, train

from product_cls.metrics.epoch import MacroF1, macro_f1

EPOCHS = ("trainer.max_epochs=3", "optimizer.lr=0.01")
OWN = (
    "+metrics.kappa._target_=torchmetrics.classification.MulticlassCohenKappa",
    "+metrics.kappa.num_classes=4",
)


def test_macro_f1_from_counts_equals_that_of_all_decisions() -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 5, 40):
        scores = rng.random((60, classes)).astype(np.float32)
        target = rng.integers(0, classes, 60)
        metric = MacroF1(classes)
        for part in range(0, 60, 7):
            metric.update(
                torch.from_numpy(scores[part : part + 7]), torch.from_numpy(target[part : part + 7])
            )
        assert float(metric.compute()) == pytest.approx(macro_f1(scores.argmax(1), target))


@pytest.mark.parametrize(
    ("words", "monitor", "best"),
    [
        (("monitor=val/f1",), "val/f1", max),
        (("monitor=val/loss",), "val/loss", min),
        ((*OWN, "monitor=val/kappa"), "val/kappa", max),
        ((*RETRIEVAL, "monitor=val/f1"), "val/f1", max),
    ],
)
def test_the_best_epoch_is_that_of_the_monitored_metric(
    tmp_path: Path,
    tiny_root: Path,
    words: tuple[str, ...],
    monitor: str,
    best: Callable[[list[float]], float],
) -> None:
    run = train(tmp_path / "run", tiny_root, *EPOCHS, *words)
    values = pd.read_csv(run.curves_file)[monitor].dropna().tolist()
    assert len(values) == 3 and run.status()["metric"] == monitor
    assert run.status()["value"] == pytest.approx(best(values), abs=1e-6)
    latest = max(k for k, value in enumerate(values) if value == best(values))
    assert run.metrics()["best_epoch"] == latest + 1


def test_early_stopping_watches_what_selects_the_best_epoch(
    tmp_path: Path, tiny_root: Path
) -> None:
    words = (
        "monitor=val/loss",
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=1",
        "+callbacks.early_stopping.min_delta=9",  # no improvement is large enough
        "trainer.max_epochs=5",
    )
    run = train(tmp_path / "run", tiny_root, *words)
    stop = run.config()["callbacks"]["early_stopping"]
    assert (stop["monitor"], stop["mode"]) == ("val/loss", "min")
    assert run.metrics()["epochs"] == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("monitor=f1",), "monitor=f1; allowed: null, or a validation metric, val/NAME."),
        (("monitor=val/f2",), "monitor=val/f2; allowed: val/accuracy, val/f1, val/loss."),
        (("monitor=3",), "monitor=3; allowed: null, or a validation metric"),
        (("+metrics.mine=7",), "metrics.mine=7; allowed: a metric of torchmetrics"),
        (("+metrics.mine._target_=nope.Mod",), "there is no module 'nope'"),
        (("+metrics.mine._target_=builtins.dict",), "allowed: a metric of torchmetrics"),
        ((OWN[0],), "metrics.kappa: torchmetrics.classification.MulticlassCohenKappa refuses"),
        ((OWN[0], "+metrics.kappa.num_classes=3"), "metrics.kappa does not take scores [20, 4]"),
        (
            (
                "+metrics.accuracy._target_=torchmetrics.classification.MulticlassAccuracy",
                "+metrics.accuracy.num_classes=4",
            ),
            "metrics.accuracy: this task logs val/accuracy itself",
        ),
        (
            (
                "+metrics.recall._target_=torchmetrics.classification.MulticlassRecall",
                "+metrics.recall.num_classes=4",
                "+metrics.recall.average=none",
            ),
            "metrics.recall is not a single number",
        ),
        (("+callbacks.x._target_=nope.Mod",), "callbacks.x._target_=nope.Mod: there is no module"),
        (
            (
                "+callbacks.x._target_=pytorch_lightning.callbacks.EarlyStopping",
                "+callbacks.x.monitor=val/loss",
                "+callbacks.x.mode=up",
            ),
            "mode",
        ),
        (
            (
                "+callbacks.timer._target_=pytorch_lightning.callbacks.Timer",
                "+callbacks.timer.duration={microseconds: 1}",
            ),
            "A callback ended epoch 1 after 1 of 3 batches",
        ),
    ],
)
def test_what_cannot_be_monitored_is_one_sentence(
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    assert sentence in refusal(tmp_path / "run", tiny_root, caplog, *words)
