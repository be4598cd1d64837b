"""One run from config to metrics and predictions, and repeating its command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from runs_in_process import ROOT, refusal, train, train_interrupted, weights

from product_cls.inference.predictions import Predictions
from product_cls.inference.predictor import Predictor
from product_cls.training.module import ProductModule
from product_cls.training.run import warn_of_idle_launcher


def test_a_run_writes_all_its_files(tmp_path: Path, tiny_root: Path) -> None:
    run = train(tmp_path / "run", tiny_root)
    status, metrics = run.status(), run.metrics()
    assert status["state"] == "done" and status["error"] is None
    assert (status["epoch"], status["epochs"], status["metric"]) == (1, 1, "val/accuracy")
    assert metrics["steps"] == 3  # 20 training pictures, 8 per batch
    assert metrics["weights"] == {"asked": "none", "source": "none", "fallback": False}
    assert metrics["val"]["count"] == 20 and metrics["test"]["count"] == 32
    assert set(metrics["test"]["by_view"]) == {"0", "30", "60"}
    assert run.config_file.is_file() and (run.path / "logs" / "metrics.csv").is_file()

    predictions = Predictions.load(run.predictions_file("test"))
    sample = pd.read_csv(tiny_root / "sample.csv")
    assert predictions.id.tolist() == [f"test/{name}" for name in sample["filename"]]
    assert predictions.classes.tolist() == ["0", "1", "2", "10"]
    assert np.allclose(predictions.scores.sum(axis=1), 1, atol=1e-5)
    accuracy = float((predictions.scores.argmax(1) == predictions.target).mean())
    assert metrics["test"]["accuracy"] == pytest.approx(accuracy)


def test_a_task_of_the_users_own(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mytask.py").write_text(
        "from product_cls.tasks.single_label import SingleLabel\n\n\n"
        "class Mine(SingleLabel):\n    name = 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = train(tmp_path / "run", tiny_root, "task._target_=mytask.Mine")
    assert run.status()["state"] == "done"
    assert type(Predictions.load(run.predictions_file("test")).make_task()).__name__ == "Mine"
    assert Predictor.load(run.best_checkpoint).task.name == "mine"


def test_validation_accuracy_is_that_of_the_kept_checkpoint(
    tmp_path: Path, tiny_root: Path
) -> None:
    run = train(tmp_path / "run", tiny_root, "trainer.max_epochs=3", "optimizer.lr=0.01")
    metrics = run.metrics()
    assert metrics["val"]["accuracy_no_tta"] == pytest.approx(run.status()["value"], abs=1e-6)
    logged = pd.read_csv(run.path / "logs" / "metrics.csv")["val/accuracy"].dropna().tolist()
    assert len(logged) == 3
    assert logged[metrics["best_epoch"] - 1] == pytest.approx(max(logged))


def test_the_last_epoch_is_kept_if_asked(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("trainer.max_epochs=3", "optimizer.lr=0.03")
    best = train(tmp_path / "best", tiny_root, *words)
    run = train(tmp_path / "last", tiny_root, *words, "keep=last")
    metrics = run.metrics()
    assert best.metrics()["best_epoch"] < 3 == metrics["best_epoch"]  # otherwise both are the same
    kept, last = (Predictor.load(f) for f in (run.best_checkpoint, run.last_checkpoint))
    for name, tensor in kept.network.state_dict().items():
        assert torch.equal(tensor, last.network.state_dict()[name])
    logged = pd.read_csv(run.path / "logs" / "metrics.csv")["val/accuracy"].dropna().tolist()
    assert run.status()["value"] == pytest.approx(logged[-1])
    assert metrics["val"]["accuracy_no_tta"] == pytest.approx(logged[-1], abs=1e-6)
    refused = refusal(tmp_path / "no", tiny_root, caplog, "keep=last", "callbacks=early_stopping")
    assert "callbacks=early_stopping stops" in refused and "keep=best" in refused
    assert "keep=worst; allowed: best, last, average" in refusal(
        tmp_path / "no", tiny_root, caplog, "keep=worst"
    )


class EachEpoch(Callback):
    """Remembers the network's weights after each epoch."""

    states: ClassVar[list[dict[str, torch.Tensor]]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ProductModule)
        state = pl_module.network.state_dict()
        self.states.append({name: tensor.clone() for name, tensor in state.items()})


def test_the_mean_of_the_last_epochs_is_kept_if_asked(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("trainer.max_epochs=5", "optimizer.lr=0.01")
    EachEpoch.states = []
    train(tmp_path / "plain", tiny_root, *words, "+callbacks.each._target_=test_run.EachEpoch")
    assert len(EachEpoch.states) == 5
    run = train(tmp_path / "run", tiny_root, *words, "keep=average")
    kept = Predictor.load(run.best_checkpoint).network.state_dict()
    epochs = EachEpoch.states[-3:]
    for name, tensor in kept.items():
        if tensor.is_floating_point():
            mean = torch.stack([epoch[name].double() for epoch in epochs]).mean(dim=0)
            torch.testing.assert_close(tensor.double(), mean, rtol=1e-5, atol=1e-6)
    metrics = run.metrics()
    assert metrics["best_epoch"] == 5
    # Validation of the last epoch has measured the mean that is kept.
    assert metrics["val"]["accuracy_no_tta"] == pytest.approx(run.status()["value"], abs=1e-6)
    refused = refusal(tmp_path / "no", tiny_root, caplog, "keep=average", "callbacks=ema")
    assert "callbacks=ema both average the weights" in refused and "keep=best" in refused


@pytest.mark.parametrize("epoch", [1, 3], ids=["before it begins", "within it"])
def test_an_interrupted_mean_of_the_last_epochs_goes_on(
    tmp_path: Path, tiny_root: Path, epoch: int
) -> None:
    words = ("trainer.max_epochs=4", "optimizer.lr=0.01", "keep=average")
    whole = train(tmp_path / "whole", tiny_root, *words)
    resumed = train_interrupted(tmp_path / "resumed", tiny_root, *words, epoch=epoch)
    kept, again = (
        Predictor.load(run.best_checkpoint).network.state_dict() for run in (whole, resumed)
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in kept.items())


def test_of_equally_good_epochs_the_latest_is_kept(tmp_path: Path, tiny_root: Path) -> None:
    still = ("finetune.freeze=all", "optimizer.lr=1e-12", "scheduler.end_lr=0", "mix=none")
    run = train(tmp_path / "run", tiny_root, "trainer.max_epochs=3", *still)
    values = pd.read_csv(run.curves_file)["val/accuracy"].dropna()
    assert values.nunique() == 1
    assert run.metrics()["best_epoch"] == 3


def test_finished_runs_are_skipped_and_changed_ones_run_anew(
    tmp_path: Path, tiny_root: Path
) -> None:
    run = train(tmp_path / "run", tiny_root)
    before = run.best_checkpoint.stat().st_mtime_ns
    train(tmp_path / "run", tiny_root, "data.num_workers=1")  # does not change results
    assert run.best_checkpoint.stat().st_mtime_ns == before
    train(tmp_path / "run", tiny_root, "optimizer.lr=0.002")
    assert run.best_checkpoint.stat().st_mtime_ns > before
    assert (run.path / ".replaced" / "metrics.json").is_file()
    again = run.best_checkpoint.stat().st_mtime_ns
    train(tmp_path / "run", tiny_root, "optimizer.lr=0.002", "rerun=true")
    assert run.best_checkpoint.stat().st_mtime_ns > again


@pytest.mark.parametrize(
    ("workers", "augment"), [(0, "product"), (2, "product"), (0, "randaugment")]
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, tiny_root: Path, workers: int, augment: str
) -> None:
    overrides = (
        f"augment={augment}",
        "trainer.max_epochs=4",
        f"data.num_workers={workers}",
        "mix.p=1",
        "model.drop_rate=0.3",
        "optimizer.lr=0.01",
    )
    whole = train(tmp_path / "whole", tiny_root, *overrides)
    broken = train_interrupted(tmp_path / "broken", tiny_root, *overrides, epoch=2)
    assert broken.metrics()["steps"] == whole.metrics()["steps"] == 12
    for name, value in weights(whole).items():
        assert value.equal(weights(broken)[name]), name
    assert broken.metrics()["test"] == whole.metrics()["test"]
    curves = [(run.path / "logs" / "metrics.csv").read_text() for run in (whole, broken)]
    assert curves[0] == curves[1]
    assert broken.metrics()["best_epoch"] == whole.metrics()["best_epoch"]


def test_equal_seeds_give_equal_weights(tmp_path: Path, tiny_root: Path) -> None:
    runs = [
        train(tmp_path / name, tiny_root, f"seed={seed}", "data.num_workers=0")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    a, b, c = (weights(run)["network.backbone.conv_stem.weight"] for run in runs)
    assert a.equal(b) and not a.equal(c)


def test_a_checkpoint_alone_rebuilds_network_and_preprocessing(
    tmp_path: Path, tiny_root: Path
) -> None:
    run = train(tmp_path / "run", tiny_root, "data.size=[24,32]", "data.fit=crop")
    moved = tmp_path / "elsewhere.ckpt"
    run.best_checkpoint.rename(moved)
    predictor = Predictor.load(moved)
    assert (predictor.size, predictor.fit) == ((24, 32), "crop")
    picture = predictor.picture(tiny_root / "test" / "0.jpg")[None]
    with torch.inference_mode():
        scores = predictor.task.scores(predictor.network(predictor.network.prepare(picture)))
    stored = Predictions.load(run.predictions_file("test"))
    row = stored.id.tolist().index("test/0.jpg")
    assert np.allclose(scores[0], stored.scores_no_tta[row], atol=1e-5)


def test_fold_all_learns_from_everything(tmp_path: Path, tiny_root: Path) -> None:
    run = train(tmp_path / "run", tiny_root, "fold=all", "trainer.max_epochs=2")
    metrics = run.metrics()
    assert "val" not in metrics and metrics["test"]["count"] == 32
    assert metrics["steps"] == 10 and metrics["best_epoch"] == 2
    assert "value" not in run.status()


def test_mixing_is_drawn_once_per_batch_and_changes_pictures(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lams = []
    step = ProductModule.training_step

    def spy(self: ProductModule, batch, batch_idx):  # type: ignore[no-untyped-def]
        lams.append(batch.get("lam"))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ProductModule, "training_step", spy)
    train(tmp_path / "run", tiny_root, "mix.p=1")
    assert all(0 < lam < 1 for lam in lams) and len(set(lams)) == 3
    lams.clear()
    train(tmp_path / "none", tiny_root, "exclude=[mixup,cutmix]")
    assert lams == [None, None, None]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("fold=2", "fold=2 does not exist; allowed: 0, 1, all"),
        ("fold=some", "fold=some; allowed: the number of a fold, or all"),
        ("fold=[0]", "fold=[0]; allowed: the number of a fold, or all"),
        ("folds.min_per_class=1", "folds.min_per_class=1; allowed: 2 or more, or null"),
        ("exclude=[rotat]", "exclude=[rotat]: no step in use"),
        ("exclude=[rotat]", "Did you mean 'rotate'?"),
        ("augment.rotate.transform=RandAugmen", "did you mean 'RandAugment'?"),
        ("folds.n_splits=11", "at most 10"),
        ("folds.strategy=random", "folds.strategy=random; allowed: stratified, "),
        ("data.root=/nowhere", "data.root=/nowhere: there is no such folder"),
        ("data.size=big", "data.size=big"),
        ("data.batch_size=0", "data.batch_size=0"),
        ("data.batch_size=1", "data.batch_size=1 is too small for the batch norms"),
        ("data.size=0", "data.size=0; allowed: a number of pixels, 8 to 4096"),
        (
            "trainer.accumulate_grad_batches=0",
            "accumulate_grad_batches=0; allowed: a whole number, 1",
        ),
        ("trainer.accumulate_grad_batches=abc", "accumulate_grad_batches=abc; allowed: a whole"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1; allowed: 0 or more"),
        ("seed=99999999999", "seed=99999999999; allowed: a whole number, 0 to 4294967295"),
        (
            "callbacks=early_stopping callbacks.early_stopping.monitor=foo",
            "callbacks.early_stopping.monitor=foo; allowed: lr, train/loss, train/loss_epoch, "
            "train/loss_step, val/accuracy, val/f1, val/loss.",
        ),
        (
            "callbacks=early_stopping callbacks.early_stopping.patience=-4",
            "callbacks.early_stopping.patience=-4; allowed: a whole number, 0 or more",
        ),
        ("optimizer.lr=abc", "optimizer.lr=abc; allowed: a number"),
        ("optimizer=sgd optimizer.weight_decay=-1", "weight_decay=-1; allowed: 0 or more."),
        ("data.num_workers=-1", "data.num_workers=-1"),
        ("tta=[flip]", "tta names 'flip'"),
        ("model.backbone=efficientnet_b99", "model.backbone=efficientnet_b99 is unknown"),
        (
            "model.weights=package",
            "model.weights=package: no package holds weights of 'test_efficientnet'",
        ),
        ("model.pooling=max", "model.pooling=max; allowed: avg, gem"),
        ("scheduler.end_lr=1", "scheduler.end_lr=1"),
        ("mix.p=2", "mix.p=2"),
        ("task.label=brand", "task.label=brand is not a column"),
        ("optimizer.lr=1e30", "The training loss is"),
        ("+optimizer.speed=3", "unexpected keyword argument 'speed'"),
        ("optimizer.lr=-1", "optimizer.lr=-1; allowed: above 0"),
        ("optimizer.lr=0", "optimizer.lr=0"),
        ("+scheduler.speed=3", "unexpected keyword argument 'speed'"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0; allowed: a whole number, 1 or more"),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc; allowed: a whole number, 1 or more"),
        ("seed=-1", "seed=-1; allowed: a whole number"),
        ("exclude=rotate", "exclude=rotate; allowed: a list, exclude=[rotate,cutmix]"),
        ("tta=identity", "tta=identity; allowed: a list"),
        ("rerun=perhaps", "rerun=perhaps; allowed: true or false"),
        ("data.fit=stretch", "data.fit=stretch; allowed: squash, crop, pad"),
        ("data.on_unreadable=Stop", "data.on_unreadable=Stop; allowed: stop, drop"),
        ("data.root=???", "Missing: data.root=... on the command line"),
        ("trainer.devices=0", "trainer.devices=0; allowed: a whole number, 1 or more"),
        ("+trainer.check_val_every_n_epoch=2", "check_val_every_n_epoch=2; allowed: 1"),
        ("+trainer.fast_dev_run=true", "trainer=debug runs two steps"),
        (
            "model.backbone=test_vit data.size=40",
            "do not divide pictures of 40 x 40; allowed: multiples of them, such as 32, 48",
        ),
        ("model=tiny_vit model.pooling=map", "model.pooling=map: test_vit has no attention pool"),
        ("model.pooling=cls", "model.pooling=cls: test_efficientnet has no tokens; allowed: avg"),
        ("model.backbone=test_vit_relpos tta=[size_48]", "tta=size_48: test_vit_relpos is built"),
        ("callbacks=early_stopping", "fold=all has no validation"),
        ("+augment.crop={transform:RandomCrop,height:16,width:16,p:1}", "(16, 16, 3)"),
        (
            "trainer.accelerator=gpux",
            "trainer.accelerator=gpux; allowed: auto, cpu, gpu, cuda",
        ),
        (
            "trainer.precision=8",
            "trainer.precision=8; allowed: auto, 32-true, bf16-mixed",
        ),
        (
            "trainer.limit_train_batches=0.1",
            "trainer.limit_train_batches=0.1 leaves none of the 3 training batches; allowed: a "
            "share of at least 0.33, or a number of batches",
        ),
        ("trainer.limit_val_batches=0.1", "leaves none of the 3 validation batches"),
        ("model.drop_rate=2", "model.drop_rate=2; allowed: 0 to 1"),
        ("model.drop_rate=high", "model.drop_rate=high; allowed: a number"),
        ("loss.label_smoothing=2", "label_smoothing=2"),
        ("+augment.blur.size=3", "augment.blur"),
    ],
)
def test_wrong_values_are_one_sentence(
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
    override: str,
    words: str,
) -> None:
    overrides = (*override.split(" "), *(["fold=all"] if "fold=all" in words else []))
    assert words in refusal(tmp_path / "run", tiny_root, caplog, *overrides)


def test_a_share_of_the_validation_batches_is_what_predictions_hold(
    tmp_path: Path, tiny_root: Path
) -> None:
    run = train(tmp_path / "run", tiny_root, "trainer.limit_val_batches=0.7", "optimizer.lr=0.01")
    assert run.metrics()["val"]["count"] == 16  # two of three batches
    assert run.metrics()["val"]["accuracy_no_tta"] == pytest.approx(run.status()["value"], abs=1e-6)
    assert run.state().kind == "limited"


def test_a_failed_change_leaves_finished_results(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train(tmp_path / "run", tiny_root)
    for override in (
        "data.root=/nowhere",
        "trainer.precision=8",
        "+trainer.speed=2",
        "+logger.csv.speed=2 optimizer.lr=0.002",  # alone, it changes no result
        "callbacks=early_stopping callbacks.early_stopping.monitor=foo",
        "callbacks=early_stopping callbacks.early_stopping.mode=up",
        "trainer=ddp trainer.devices=2 +trainer.speed=2",
    ):
        refusal(run.path, tiny_root, caplog, *override.split())
        assert run.status()["state"] == "done", override
        assert run.metrics_file.is_file(), override


@pytest.mark.parametrize("words", [("sweep=ablation",), ("experiment=gap",)])
def test_a_sweep_without_m_is_refused(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture, words: tuple[str, ...]
) -> None:
    """Also if the experiment selects the sweep; the launcher's jobs are exempt."""
    folder = tmp_path / "run"
    sentence = refusal(folder, tiny_root, caplog, *words, "data=competition")
    assert f"python train.py -m {' '.join(words)}." in sentence
    assert not folder.exists()
    job = ("seed=0", "data=competition", "data.size=32", "model=tiny", "trainer=debug")
    run = train(folder, tiny_root, *words, *job, "hydra.job.num=0", "data.batch_size=8")
    assert run.state().kind == "limited"


def test_a_sweep_without_m_is_refused_on_the_command_line(tmp_path: Path) -> None:
    """As typed: Hydra then adds hydra.mode=RUN, which composed configs lack."""
    words = ("experiment=gap", "hydra.run.dir=" + str(tmp_path / "run"))
    command = [sys.executable, str(ROOT / "train.py"), *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert "needs -m: python train.py -m experiment=gap." in result.stdout + result.stderr
    assert not (tmp_path / "run" / "status.json").exists()


def test_a_launcher_without_m_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["hydra.launcher.jobs=2", "hydra.run.dir=x", "hydra/launcher=basic"]
    sentence = f"{words[0]} {words[2]} has no effect without -m: only sweeps use a launcher."
    for mode, typed, expected in (
        (RunMode.RUN, words, [sentence]),
        (RunMode.RUN, [*words, "hydra.job.num=1"], []),
        (RunMode.RUN, words[1:2], []),
        (RunMode.MULTIRUN, words, []),
    ):
        hydra = OmegaConf.create({"mode": mode, "overrides": {"hydra": typed}})
        monkeypatch.setattr(HydraConfig, "get", lambda hydra=hydra: hydra)
        caplog.clear()
        warn_of_idle_launcher()
        assert caplog.messages == expected


def test_limit_takes_a_subset_with_a_store_of_its_own(tmp_path: Path, tiny_root: Path) -> None:
    run = train(tmp_path / "run", tiny_root, "data.limit=16")
    metrics = run.metrics()
    assert metrics["val"]["count"] == 8 and metrics["test"]["count"] == 32
    assert len(list((tmp_path / "cache").glob("*-limit16"))) == 1


# Experiments with several labels per picture: test_run_heads.py, test_run_multi_label.py.
OTHER_TASKS = ("override /task: multi_head", "override /task: multi_label")
EXPERIMENTS = sorted(
    path.stem
    for path in (ROOT / "conf" / "experiment").glob("*.yaml")
    if not any(words in path.read_text() for words in OTHER_TASKS)
)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_two_steps(tmp_path: Path, tiny_root: Path, experiment: str) -> None:
    run = train(
        tmp_path / "run",
        tiny_root,
        f"experiment={experiment}",
        "hydra.job.num=0",  # as the launcher starts the jobs of an experiment with a sweep
        "data=competition",
        "model=tiny",
        "model.weights=none",  # experiment=unseen names weights of lite0
        "trainer=debug",
        "folds.strategy=stratified",
        "data.batch_size=8",
        "data.size=32",
    )
    assert run.metrics()["steps"] == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=adam", "scheduler=polynomial", "mix=mixup"),
        ("optimizer=adamw", "scheduler=warmup_cosine", "mix=cutmix"),
        ("optimizer=sgd", "scheduler=constant", "mix=none", "augment=normalize_only"),
        ("augment=autoaugment", "exclude=[auto_augment,cutmix]", "data.num_workers=1"),
        ("model.pooling=gem", "trainer.gradient_clip_val=1", "augment=photo", "logger=none"),
        ("callbacks=ema", "logger=tensorboard", "+trainer.accumulate_grad_batches=2"),
        ("model.backbone=mobilenetv3_small_050", "model.weights=none"),
        ("callbacks=early_stopping", "trainer.precision=bf16-mixed", "model.channels_last=false"),
    ],
)
def test_choices_run(tmp_path: Path, tiny_root: Path, overrides: tuple[str, ...]) -> None:
    run = train(tmp_path / "run", tiny_root, *(word.removeprefix("+") for word in overrides))
    assert run.status()["state"] == "done"
    json.dumps(run.metrics(), allow_nan=False)


def test_other_data_or_folds_train_anew(tmp_path: Path, tiny_root: Path) -> None:
    """Content counts, not paths: moved data is the same data, another split is not."""
    run = train(tmp_path / "run", tiny_root)
    written = run.best_checkpoint.stat().st_mtime_ns
    moved = tmp_path / "moved"
    shutil.copytree(tiny_root, moved)
    train(run.path, moved)
    assert run.best_checkpoint.stat().st_mtime_ns == written
    folds_file, *_ = (tmp_path / "cache").glob("*/folds-*.csv")
    own = tmp_path / "own.csv"
    folds = pd.read_csv(folds_file, comment="#")
    folds.assign(fold=1 - folds["fold"]).to_csv(own, index=False)
    train(run.path, moved, f"folds.file={own}")
    assert run.best_checkpoint.stat().st_mtime_ns > written


def test_accumulated_batches_are_mixed_differently(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lams = []
    step = ProductModule.training_step

    def spy(self: ProductModule, batch, batch_idx):  # type: ignore[no-untyped-def]
        lams.append(batch["lam"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ProductModule, "training_step", spy)
    train(tmp_path / "run", tiny_root, "mix.p=1", "trainer.accumulate_grad_batches=3")
    assert len(lams) == len(set(lams)) == 3


def test_early_stopping_survives_an_interruption_before_predicting(
    tmp_path: Path, tiny_root: Path
) -> None:
    overrides = (
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=1",
        "+callbacks.early_stopping.min_delta=2",  # no improvement is large enough
        "trainer.max_epochs=5",
    )
    run = train(tmp_path / "run", tiny_root, *overrides)
    assert run.metrics()["epochs"] == 2
    run.update_status(state="running")
    train(run.path, tiny_root, *overrides)
    assert run.status()["state"] == "done"
    assert (run.metrics()["epochs"], run.metrics()["steps"]) == (2, 6)


def test_checkpoints_hold_averaged_weights(tmp_path: Path, tiny_root: Path) -> None:
    """With decay 0 the average equals the newest weights; with decay 1 it lags behind."""
    overrides = ("seed=3", "optimizer.lr=0.01", "callbacks=ema")
    still = train(tmp_path / "still", tiny_root, *overrides, "callbacks.ema.decay=1")
    follows = train(tmp_path / "follows", tiny_root, *overrides, "callbacks.ema.decay=0")
    key = "network.backbone.conv_stem.weight"
    plain = train(tmp_path / "plain", tiny_root, *overrides[:2])
    assert torch.allclose(weights(follows)[key], weights(plain)[key])
    assert not torch.allclose(weights(still)[key], weights(plain)[key])


class NoRoom(Callback):
    """Runs out of memory at the start of ``epoch`` while batches are larger than ``fits``."""

    def __init__(self, epoch: int, fits: int) -> None:
        self.epoch, self.fits = epoch, fits

    def on_train_epoch_start(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        if trainer.current_epoch == self.epoch and trainer.datamodule.batch_size > self.fits:
            raise torch.OutOfMemoryError("no room")


def no_room(epoch: int) -> str:
    return f"+callbacks.bomb={{_target_: test_run.NoRoom, epoch: {epoch}, fits: 2}}"


@pytest.mark.parametrize("epoch", [0, 1])
def test_batches_that_do_not_fit_are_halved(tmp_path: Path, tiny_root: Path, epoch: int) -> None:
    settings = (no_room(epoch), "trainer.max_epochs=2", "oom_retries=2")
    run = train(tmp_path / "run", tiny_root, *settings)
    assert run.status()["state"] == "done" and run.status()["halved"] == 2
    metrics = run.metrics()
    assert metrics["batch"] == {
        "per_device": 2,
        "devices": 1,
        "accumulated": 4,
        "step": 8,
        "halved": 2,
    }
    assert metrics["steps"] == 6 and metrics["epochs"] == 2  # as without halving
    before = run.best_checkpoint.stat().st_mtime_ns
    train(run.path, tiny_root, *settings)  # the same command again has nothing to do
    assert run.best_checkpoint.stat().st_mtime_ns == before


def test_batches_are_halved_at_most_oom_retries_times(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    sentence = refusal(run, tiny_root, caplog, no_room(0))
    assert sentence == "Out of GPU memory; lower data.batch_size=8 or set oom_retries=1."
    sentence = refusal(run, tiny_root, caplog, no_room(0), "oom_retries=1")
    assert sentence == "Out of GPU memory even with data.batch_size=8 halved once."
    sentence = refusal(run, tiny_root, caplog, "optimizer=sam", "oom_retries=1")
    assert "oom_retries=1 does not go with SAM" in sentence


def test_a_missing_setting_is_one_sentence(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sentence = refusal(tmp_path / "run", tiny_root, caplog, "~model.pooling")
    assert sentence.startswith("The config has no model.pooling; ")
    assert not (tmp_path / "run").exists()  # nothing had begun
