"""Lightning callbacks of every run: progress, checkpoints, and averaged weights."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch import Tensor

from product_cls.core.errors import UserError
from product_cls.distributed.collectives import average_statistics
from product_cls.runs.folder import RunFolder

log = logging.getLogger(__name__)


class EpochRecord(Callback):
    """Logs the training loss and one line per epoch, and writes the epoch and the best metric to
    ``status.json``.

    Lightning would log the epoch's training loss after its checkpoint, and a kill in between would
    lose it: the run goes on with the next epoch.

    Args:
        folder: the run's folder.
        monitor: name of the validation metric; None without validation.
        mode: ``max`` or ``min``, whether higher or lower values of it are better.
        keep: ``best`` records the best value so far, ``last`` and ``average`` the latest.

    Raises:
        UserError: after an epoch whose training loss is not finite, or that a callback has ended
            before its last batch, so that its validation was of other weights.
    """

    def __init__(
        self, folder: RunFolder, monitor: str | None, mode: str = "max", keep: str = "best"
    ) -> None:
        self.folder, self.monitor, self.keep = folder, monitor, keep
        self.better = max if mode == "max" else min
        self._start = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # These values are equal on all ranks, so all ranks stop if the loss is not finite.
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        epoch = trainer.current_epoch + 1
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if done < trainer.num_training_batches:
            raise UserError(
                f"A callback ended epoch {epoch} after {done} of {trainer.num_training_batches} "
                f"batches, but a run trains whole epochs; let it act at the end of an epoch."
            )
        if not math.isfinite(values["train/loss_epoch"]):
            raise UserError(
                f"The training loss is {values['train/loss_epoch']} in epoch {epoch}; "
                f"lower optimizer.lr or set trainer.gradient_clip_val=1."
            )
        if not trainer.is_global_zero:
            return
        fields: dict[str, Any] = {"epoch": epoch, "epochs": trainer.max_epochs}
        line = f"epoch {epoch}/{trainer.max_epochs}  loss {values['train/loss_epoch']:.4f}"
        if self.monitor is not None:
            value = values[self.monitor]
            best = self.folder.best_value() if self.keep == "best" else None
            fields["metric"] = self.monitor
            fields["value"] = value if best is None else self.better(value, best)
            line += f"  {self.monitor} {value:.4f}"
        line += f"  lr {values['lr']:.2e}  {time.monotonic() - self._start:.1f} s"
        log.info(line)
        for logger in trainer.loggers:
            # The step of the epoch's last batch, as Lightning counts it for validation.
            logger.log_metrics(
                {"train/loss_epoch": values["train/loss_epoch"], "epoch": trainer.current_epoch},
                step=trainer.global_step - 1,
            )
            logger.save()
        self.folder.update_status(**fields)


class AveragedWeights(WeightAveraging):
    """A running average of the weights and buffers, also over several devices.

    Args:
        kept: from the number of averaged states to the share of the average that the next one
            keeps, in [0, 1].
    """

    def __init__(self, kept: Callable[[float], float]) -> None:
        def average(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
            if not mean.is_floating_point():  # the batch counter of a batch norm
                return new
            return torch.lerp(new, mean, kept(float(count)))

        super().__init__(use_buffers=True, avg_fn=average)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Lightning calls this before it moves the module, so the average would stay on the CPU.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self._average_model is not None:  # checkpoints hold the average
            average_statistics(self._average_model)


class WarmEma(AveragedWeights):
    """Exponential moving average of the weights and buffers.

    Validation, checkpoints and predictions use the average. After n steps the decay is
    ``min(decay, (1 + n) / (10 + n))``, as in TensorFlow's ExponentialMovingAverage; with a constant
    .999, short runs would stay close to their initial weights.

    Args:
        decay: share of the average that a step keeps, in [0, 1].

    Raises:
        ValueError: ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay={decay}; allowed: 0 to 1.")
        super().__init__(lambda n: min(decay, (1 + n) / (10 + n)))


class LastMean(AveragedWeights):
    """The mean of the weights and buffers after each of the last epochs (``keep=average``).

    Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407) at the end of a schedule
    that falls to a low rate. Earlier epochs are validated and stored as they are.

    Args:
        epochs: of the training, 1 or more.
    """

    EPOCHS = 3

    def __init__(self, epochs: int) -> None:
        self.first = max(0, epochs - self.EPOCHS)  # counted from 0
        super().__init__(lambda n: n / (n + 1))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return epoch_idx is not None and epoch_idx >= self.first

    @property
    def _begun(self) -> bool:
        return self._average_model is not None and bool(self._average_model.n_averaged)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning validates before the epoch ends; the mean needs this epoch's weights by then.
        super().on_train_epoch_end(trainer, pl_module)
        if self._begun:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._begun:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Before the mean begins, a checkpoint holds the weights as they are, in both places.
        weights = None if self._begun else dict(checkpoint["state_dict"])
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if weights is not None and "current_model_state" in checkpoint:
            checkpoint["state_dict"] = weights

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._begun:
            super().on_train_end(trainer, pl_module)


class LatestBest(ModelCheckpoint):
    """Keeps the best epoch, and of equally good ones the latest.

    Lightning keeps the earliest. With some hundred held-out pictures many epochs are equally good,
    and the later ones have learned longer at a lower rate.
    """

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        best = self.best_model_score
        tied = current is not None and best is not None and bool(current == best)
        # The metric is equal on all ranks, so all of them decide alike.
        return super().check_monitor_top_k(trainer, current) or tied


def checkpoint_callbacks(
    folder: Path, monitor: str | None, mode: str = "max"
) -> list[ModelCheckpoint]:
    """Callbacks that keep ``best.ckpt`` and ``last.ckpt``, which a run resumes from.

    Both are written after the validation of an epoch, so that a resumed run starts with the next
    epoch and not in the middle of one.

    Args:
        folder: for the checkpoints.
        monitor: metric that selects the epoch that ``best.ckpt`` keeps; None keeps the latest.
        mode: ``max`` or ``min``, whether higher or lower values of it are better.
    """
    best = LatestBest(
        folder,
        filename="best",
        monitor=monitor,
        mode=mode,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        folder,
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [best, last]
