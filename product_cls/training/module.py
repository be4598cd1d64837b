"""ProductModule: the training and validation step, the same for all tasks."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric, MetricCollection

from product_cls.data.mix import Mix
from product_cls.data.samplers import derive_seed
from product_cls.distributed.collectives import average_statistics, summed
from product_cls.models.network import Network
from product_cls.optim.groups import Finetune, parameter_groups
from product_cls.optim.sam import SAM, frozen_statistics, same_draws
from product_cls.tasks import Task

Batch = dict[str, Any]


class ProductModule(LightningModule):
    """A network that learns a task.

    Args:
        network: maps uint8 pictures, normalised by ``Network.prepare``, to the head's outputs.
        task: provides the loss, the metrics, and its own description for the checkpoint.
        optimizer: builds the optimiser from parameter groups.
        scheduler: builds the scheduler from the optimiser and the total number of steps; it is
            stepped after each optimiser step.
        lr: learning rate of the optimiser.
        weight_decay: of all parameters except norms and biases.
        finetune: learning rates of layers and head, and how long the backbone is frozen.
        mix: mixes training batches; None for no mixing.
        seed: of mixing and dropout.
        image: ``{"size": [H, W], "fit": ...}``, how the store resized the pictures; the checkpoint
            keeps it so that new pictures are resized alike.
        metrics: further validation metrics by name, updated with scores and targets batch by batch.
    """

    def __init__(
        self,
        network: Network,
        task: Task,
        *,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler],
        lr: float,
        weight_decay: float,
        finetune: Finetune,
        mix: Mix | None,
        seed: int,
        image: dict[str, Any],
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.task = network, task
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.lr, self.weight_decay, self.finetune = lr, weight_decay, finetune
        self.mix, self.seed, self.image = mix, seed, image
        self.val_metrics = task.metrics()
        self.own_metrics = MetricCollection(dict(metrics or {}), compute_groups=False)
        self._batches = 0  # mixed so far in this epoch
        self._second_pass = False
        self._val_loss = torch.zeros(2)  # sum over the validation pictures, and their number
        self._backbone = [p for p in network.backbone.parameters() if p.requires_grad]

    def on_train_epoch_start(self) -> None:
        self._batches = 0
        # Dropout's draws depend only on seed, epoch and rank, so that a resumed run repeats them.
        torch.manual_seed(derive_seed(self.seed, self.current_epoch, self.global_rank, 1))
        assert self.trainer.max_epochs is not None
        self.task.begin_epoch(self.current_epoch / self.trainer.max_epochs)
        frozen = self.finetune.frozen(self.current_epoch)
        for parameter in self._backbone:
            parameter.requires_grad_(not frozen)
        self.network.backbone.train(not frozen)  # in eval mode batch norms keep their statistics

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise on the device and, in training, mix.

        Mixing happens once a batch and before the step, so that an optimiser that evaluates the
        loss twice sees the same pictures twice.
        """
        images = self.network.prepare(batch["image"])
        if self.trainer.training and self.mix is not None:
            # Batches are counted, not steps, because accumulated batches share a step.
            draw = derive_seed(self.seed, self.current_epoch, self._batches, self.global_rank, 2)
            self._batches += 1
            mixed = self.mix(images, np.random.default_rng(draw))
            return batch | {"image": mixed.images, "perm": mixed.perm, "lam": mixed.lam}
        return batch | {"image": images}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Scalar loss of ``image`` float ``[B, 3, H, W]`` and ``target`` int64 ``[B, ...]``.

        Mixed batches have ``lam`` in [0, 1] and ``perm``, int64 ``[B]``, the partner of each
        picture. Batches of a run with a teacher have ``answer`` float ``[B, C]`` and
        ``answer_weight`` float ``[B]``.
        """
        outputs, target = self.network(batch["image"]), batch["target"]
        names = ("target", "answer", "answer_weight")
        learned = [batch[name] for name in names if name in batch]
        compute = self.task.loss if len(learned) == 1 else self.task.taught_loss
        loss = compute(outputs, *learned)
        if (lam := batch.get("lam", 1.0)) < 1.0:
            partners = [part[batch["perm"]] for part in learned]
            loss = lam * loss + (1.0 - lam) * compute(outputs, *partners)
        if self._second_pass:
            return loss
        # Training accuracy is not logged: it is meaningless for mixed pictures.
        count = len(target)
        self.log(
            "train/loss",
            loss,
            prog_bar=True,
            logger=False,  # the epoch's value: see EpochRecord
            on_epoch=True,
            on_step=True,
            batch_size=count,
            sync_dist=True,
        )
        self.log("train/loss_step", loss, batch_size=count, sync_dist=True)
        # The first group has the highest rate.
        self.log("lr", self.optimizers().param_groups[0]["lr"], prog_bar=True)  # type: ignore[union-attr]
        return loss

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One step; for SAM, two passes over the same batch with the same dropout.

        The first pass is logged and updates batch norms. Lightning clips gradients after the
        closure that it gets, which is the second pass.
        """
        sam = self.optimizers(use_pl_optimizer=False)
        if not isinstance(sam, SAM):
            return super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        assert optimizer_closure is not None
        strategy = self.trainer.strategy
        # Each rank ascends the gradient of its own batch, as published; only the second gradients
        # are averaged.
        unsynced = (
            strategy.block_backward_sync()
            if isinstance(strategy, ParallelStrategy)
            else nullcontext()
        )
        with unsynced, same_draws(self.device):
            optimizer_closure()

        def second_pass() -> Any:
            self._second_pass = True
            try:
                with sam.perturbed(), frozen_statistics(self.network):
                    return optimizer_closure()
            finally:
                self._second_pass = False

        super().optimizer_step(epoch, batch_idx, optimizer, second_pass)

    def on_train_epoch_end(self) -> None:
        average_statistics(self.network)  # for the checkpoints

    def on_validation_epoch_start(self) -> None:
        average_statistics(self.network)
        self._val_loss = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor | None]:
        """Scores ``[B, C]`` and embeddings ``[B, D]`` (or None), for ``GalleryValidation``."""
        outputs, target = self.network(batch["image"]), batch["target"]
        scores = self.task.scores(outputs)
        self.val_metrics.update(scores, target)
        self.own_metrics.update(scores, target)
        count = len(target)
        # Summed here, because self.log rounds down the mean number of pictures on the ranks.
        loss = self.task.loss(outputs, target)
        self._val_loss += torch.stack([loss * count, loss.new_tensor(count)])
        return {"scores": scores, "embedding": self.task.embedding(outputs)}

    def on_validation_epoch_end(self) -> None:
        total, count = summed(self._val_loss)
        self.log("val/loss", total / count)
        values = {**self.val_metrics.compute(), **self.own_metrics.compute()}
        self.log_dict({f"val/{name}": value for name, value in values.items()}, prog_bar=True)
        self.val_metrics.reset()
        self.own_metrics.reset()

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.network, self.weight_decay, self.lr, self.finetune)
        optimizer = self.make_optimizer(groups)
        scheduler = self.make_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Plain containers only, because checkpoints are loaded with weights_only=True.
        checkpoint["hyper_parameters"] = {
            "network": self.network.spec,
            "task": self.task.spec(),
            "image": self.image,
        }
