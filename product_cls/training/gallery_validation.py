"""Validation pictures searched in the training gallery, while the network learns."""

from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from product_cls.data.datamodule import ProductDataModule
from product_cls.distributed.collectives import gathered
from product_cls.inference.scoring import predict_scores
from product_cls.neighbours.metrics import retrieval_measures
from product_cls.retrieval.gallery import neighbour_scores


def joined(columns: list[Any]) -> list[np.ndarray]:
    """Arrays of one length, each with those of the other ranks behind or before it."""
    return [np.concatenate(parts) for parts in zip(*gathered(columns), strict=True)]


class GalleryValidation(Callback):
    """Logs ``val/accuracy`` of the neighbours' vote, ``val/recall@1``, ``val/recall@5`` and
    ``val/mAP@R``.

    Queries are what validation steps return; the training pictures are embedded for the search.

    Args:
        every: epochs from one search to the next; the last epoch always has one.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self._queries: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._due(trainer):
            kept = outputs["embedding"], outputs["scores"], batch["target"]
            self._queries.append(tuple(part.cpu() for part in kept))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._due(trainer):
            return
        mine = [torch.cat(part).numpy() for part in zip(*self._queries, strict=True)]
        self._queries.clear()
        # Each rank has seen and embeds its share of the pictures; each searches them all, so that
        # all come to the same values.
        queries, class_scores, targets = joined(mine)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ProductDataModule)
        module: Any = pl_module
        limit = trainer.limit_val_batches
        scores = predict_scores(
            module.network,
            module.task,
            data.loader("train"),
            ["identity"],
            device=pl_module.device,
            bf16=str(trainer.precision).startswith("bf16"),
            limit=limit if isinstance(limit, int) else None,
        )
        index, gallery = joined([scores.index, scores.embedding])
        labels, device = data.targets[index], pl_module.device
        measures = retrieval_measures(queries, targets, gallery, labels, device=device)
        voted = neighbour_scores(
            queries,
            gallery,
            labels,
            len(module.task.classes),
            module.task.vote,
            class_scores=class_scores,
            device=device,
        )
        measures |= module.task.evaluate(voted, targets)
        pl_module.log_dict({f"val/{name}": value for name, value in measures.items()})

    def _due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        return epoch % self.every == 0 or epoch == trainer.max_epochs
