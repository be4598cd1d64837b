"""The fit of a probe: features of all pictures, computed once, and a classifier of them."""

import hashlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from product_cls.config.batch import BatchPlan
from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.core.progress import progress_bar
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.fold_names import views_of
from product_cls.data.folds import make_folds, stratified_folds
from product_cls.inference.scoring import Scores, refuse_diverged
from product_cls.inference.tta import build_view
from product_cls.models.network import Network
from product_cls.probing.choose import Choice, fit_classifier
from product_cls.probing.features import Computed, FeatureFile, FeatureKey
from product_cls.runs.folder import RunFolder
from product_cls.tasks import Task
from product_cls.tasks.probe import Probe
from product_cls.tracking.trackers import begin_loggers
from product_cls.training.checkpoints import WholeCheckpoints, restore_last
from product_cls.training.data_source import cache_folder
from product_cls.training.module import ProductModule
from product_cls.training.plan import RunPlan

log = logging.getLogger(__name__)

INNER_FOLDS = 3  # of the training pictures, to choose a classifier's setting


class PictureFeatures:
    """Features of the pictures of a run by view, read from the cache or computed.

    Those of each joined network have a file of their own.

    Args:
        data: the run's data.
        network: whose pooled features are wanted; moved to ``device``.
        folder: of the cache.
        size: height and width of the pictures in pixels.
        device: to compute on.
    """

    def __init__(
        self,
        data: ProductDataModule,
        network: Network,
        folder: Path,
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.data, self.folder, self.size, self.device = data, folder, size, device
        # In order; a network that is joined to itself counts twice.
        self.order = [(weights_digest(part), part) for part in (network, *network.joined)]
        self.store = digest([data.store.contents, data.samples["id"].tolist()])
        self._open: dict[tuple[str, str], np.ndarray] = {}

    def of(self, rows: np.ndarray, view: str) -> np.ndarray:
        """Features of rows of the sample table, float32 ``[M, V, D]``: V batches of the view.

        Args:
            rows: int64 ``[M]``.
            view: of test-time augmentation.

        Raises:
            UserError: the cache holds something else, or cannot be written, or features are not
                finite.
        """
        return np.concatenate(
            [self._file(weights, part, view)[rows] for weights, part in self.order], axis=2
        )

    def _file(self, weights: str, network: Network, view: str) -> np.ndarray:
        """Features of one network, memory-mapped: float32 ``[N, V, D]``."""
        if (weights, view) not in self._open:
            key = FeatureKey(weights, self.store, self.size, view)
            file = FeatureFile(self.folder, key, len(self.data.samples))
            if not file.open():
                started = time.monotonic()
                shape = self._shape(network, view)
                file.fill(shape, lambda some: self._compute(network, some, view))
                log.info(
                    "%s: features of %d pictures (%d each, view %s) in %.1f s, kept in %s.",
                    network.spec["backbone"],
                    file.rows,
                    file.array.shape[2],
                    view,
                    time.monotonic() - started,
                    file.data_file,
                )
            self._open[weights, view] = file.array
        return self._open[weights, view]

    @torch.inference_mode()
    def _shape(self, network: Network, view: str) -> tuple[int, int]:
        picture = torch.zeros(1, 3, *self.size, dtype=torch.uint8, device=self.device)
        network = network.to(self.device).eval()
        outputs = build_view(view)(network.prepare(picture))
        return len(outputs), network.own_pooled(outputs[0]).shape[1]

    def _compute(self, network: Network, rows: np.ndarray, view: str) -> Computed:
        network, of_view = network.to(self.device).eval(), build_view(view)
        loader = self.data.some(rows)
        bar = progress_bar(
            loader,
            f"features {view}",
            len(loader),
            unit="batch",
            leave=False,
            disable=not sys.stdout.isatty(),
        )
        for batch in bar:
            with torch.inference_mode():
                images = network.prepare(batch["image"].to(self.device))
                parts = [network.own_pooled(out).float() for out in of_view(images)]
                features = torch.stack(parts, dim=1).cpu().numpy()
            refuse_diverged(features.reshape(len(features), -1))
            yield batch["index"].numpy(), features

    @torch.inference_mode()
    def scores(self, rows: np.ndarray, head: nn.Module, task: Task, views: list[str]) -> Scores:
        """Scores of rows of the sample table, averaged over views.

        Args:
            rows: int64 ``[M]``.
            head: features ``[B, D]`` to outputs.
            task: turns outputs into scores.
            views: of test-time augmentation.
        """
        head = head.cpu().eval()

        def scored(view: str) -> Tensor:
            features = torch.from_numpy(self.of(rows, view))
            parts = [task.scores(head(features[:, k])) for k in range(features.shape[1])]
            return torch.stack(parts).mean(0)

        by_view = {view: scored(view) for view in views}
        plain = by_view["identity"] if "identity" in by_view else scored("identity")
        mean = torch.stack(list(by_view.values())).mean(0)
        return Scores(rows, mean.numpy(), plain.numpy())


def weights_digest(network: Network) -> str:
    """Digest of all that a network's own features depend on: no head, dropout or joined network."""
    hashed = hashlib.sha256()
    without = ("drop_rate", "drop_path_rate", "joined")
    spec = {k: v for k, v in network.spec.items() if k not in without}
    hashed.update(json.dumps(spec, sort_keys=True).encode())
    for name, value in sorted(network.state_dict().items()):
        if not name.startswith(("head.", "others.")):
            hashed.update(name.encode())
            hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return hashed.hexdigest()[:32]


def check_probe(config: DictConfig, task: Task) -> None:
    """Refuse settings that a probe cannot follow.

    Args:
        config: the run's config.
        task: fitted.

    Raises:
        UserError: several devices, adapters of the backbone, or joined networks without a probe.
    """
    if task.fits_features and config.finetune.get("lora") is not None:
        raise UserError(
            f"finetune.lora={config.finetune.lora} has no effect with task={task.name}, whose "
            f"backbone never learns; allowed: null."
        )
    if config.model.joined and not task.fits_features:
        raise UserError(
            f"model.joined={list(config.model.joined)} joins features of frozen networks, and "
            f"task={task.name} trains one; allowed: task=probe, or an empty list."
        )
    devices = BatchPlan.of(config).devices
    if task.fits_features and devices > 1:
        raise UserError(
            f"task={task.name} computes on one device, and trainer.devices and trainer.num_nodes "
            f"ask for {devices}; allowed: 1 of each."
        )


def fit_probe(
    plan: RunPlan,
    folder: RunFolder,
    module: ProductModule,
    data: ProductDataModule,
    trainer: pl.Trainer,
) -> PictureFeatures:
    """Fit the head of a probe, and write its checkpoint.

    Args:
        plan: the run's plan.
        folder: the run's folder, marked as running.
        module: gets the fitted head.
        data: the run's data.
        trainer: its device and loggers are used.

    Returns:
        The features, for predictions.

    Raises:
        UserError: the cache is refused, or features are not finite.
    """
    task = plan.task
    assert isinstance(task, Probe)
    trainer.loggers = begin_loggers(trainer.loggers, plan.config, folder)
    network = module.network
    device = trainer.strategy.root_device
    features = PictureFeatures(data, network, cache_folder(plan.config), plan.size, device)
    rows = data.indices("train")
    stacked = [features.of(rows, view) for view in task.views]
    columns = np.concatenate(stacked, axis=1)  # [N, V, D]
    started = time.monotonic()
    target = data.targets[rows]
    parts = inner_parts(data.samples.iloc[rows], target, plan.config)
    each = columns.shape[1]
    fitted, choice = fit_classifier(
        task.classifier,
        columns.reshape(-1, columns.shape[2]),
        target.repeat(each),
        parts.repeat(each),
        len(task.classes),
        int(plan.config.seed),
    )
    network.cpu()
    network.head = fitted.head()
    task.learned(network.head)
    log.info("%s: %s.", task.classifier, sentence(choice, time.monotonic() - started))
    _save(module, folder)
    _record(plan, folder, module, data, features, trainer)
    return features


def sentence(choice: Choice, seconds: float) -> str:
    """What was chosen, in words."""
    words = []
    if choice.setting is not None:
        words.append(f"setting {choice.setting:g}")
    if choice.temperature != 1:
        words.append(f"temperature {choice.temperature:.3g}")
    if choice.loss is not None and np.isfinite(choice.loss):
        words.append(f"loss out of fold {choice.loss:.4f}")
    return ", ".join([*words, f"fitted in {seconds:.1f} s"])


def inner_parts(samples: pd.DataFrame, target: np.ndarray, config: DictConfig) -> np.ndarray:
    """The part of the training pictures that holds each of them out, int64 ``[N]``; -1 for none.

    Parts are made as the run's folds are: by view or by group where folds are.

    Args:
        samples: the training pictures.
        target: int64 ``[N]``.
        config: the run's config: ``folds``.
    """
    strategy, seed = config.folds.strategy, config.folds.seed
    if strategy == "view" and len(views_of(samples)[0]) > 1:
        return make_folds(samples, "view", label=config.task.label).to_numpy()
    if strategy == "stratified_group" and samples["group"].nunique() >= INNER_FOLDS:
        grouped = samples.assign(class_number=target.astype(str))
        try:
            return make_folds(
                grouped, "stratified_group", n_splits=INNER_FOLDS, seed=seed, label="class_number"
            ).to_numpy()
        except (ValueError, UserError):
            log.info("The training pictures have too few groups to choose settings by group.")
    return stratified_folds(target, INNER_FOLDS, seed)


def _save(module: ProductModule, folder: RunFolder) -> None:
    """Write the checkpoint of a run of one epoch."""
    content: dict[str, Any] = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": pl.__version__,
        "state_dict": module.state_dict(),
    }
    module.on_save_checkpoint(content)
    WholeCheckpoints().save_checkpoint(content, folder.best_checkpoint)
    restore_last(folder)


def _record(
    plan: RunPlan,
    folder: RunFolder,
    module: ProductModule,
    data: ProductDataModule,
    features: PictureFeatures,
    trainer: pl.Trainer,
) -> None:
    """Log the validation metrics, and write the monitored one to ``status.json``."""
    fields: dict[str, Any] = {"epoch": 1, "epochs": 1}
    if len(rows := data.indices("val")):
        task = plan.task
        scores = torch.from_numpy(
            features.scores(rows, module.network.head, task, ["identity"]).plain
        )
        target = torch.from_numpy(data.targets[rows])
        known = target >= 0
        least = torch.finfo(torch.float32).tiny
        logs = scores[known].clamp(min=least).log()
        values = {"val/loss": float(nll_loss(logs, target[known])) if known.any() else 0.0}
        for metrics in (module.val_metrics, module.own_metrics):
            metrics.update(scores, target)
            values |= {f"val/{name}": float(v) for name, v in metrics.compute().items()}
            metrics.reset()
        for logger in trainer.loggers:
            logger.log_metrics(values | {"epoch": 0}, step=0)
            logger.save()
        fields |= {"metric": plan.monitor, "value": values[plan.monitor]}
    folder.update_status(**fields)
