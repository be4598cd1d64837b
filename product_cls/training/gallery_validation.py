"""Validation of retrieval: searches a gallery of the training pictures for validation pictures."""

from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from product_cls.config.values import batch_limit
from product_cls.data.datamodule import ProductDataModule
from product_cls.distributed.collectives import gathered
from product_cls.inference.scoring import predict_scores
from product_cls.metrics.epoch import macro_f1
from product_cls.neighbours.metrics import retrieval_measures
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.gallery import neighbour_scores


def joined(columns: list[Any]) -> list[np.ndarray]:
    """Each column concatenated over all ranks, in the order of the ranks.

    Args:
        columns: arrays of one length, ``[N, ...]``; N may differ between ranks.
    """
    return [np.concatenate(parts) for parts in zip(*gathered(columns), strict=True)]


class GalleryValidation(Callback):
    """Logs ``val/accuracy`` and ``val/f1`` (macro) of the neighbours' vote, ``val/recall@1``,
    ``val/recall@5`` and ``val/mAP@R``.

    The queries are the embeddings that validation steps return. The training pictures are embedded
    for each search.

    Args:
        vote: turns neighbours into scores.
        every: epochs between searches, 1 or more; the last epoch always has one.
    """

    def __init__(self, vote: Vote, every: int = 1) -> None:
        self.vote, self.every = vote, every
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
            columns = outputs["embedding"], outputs["scores"], batch["target"]
            self._queries.append(tuple(column.cpu() for column in columns))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._due(trainer):
            return
        columns = [torch.cat(parts).numpy() for parts in zip(*self._queries, strict=True)]
        self._queries.clear()
        # Each rank embeds its share of the pictures, and then searches with all of them, so that
        # all ranks log the same values.
        queries, class_scores, targets = joined(columns)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ProductDataModule)
        module: Any = pl_module
        loader = data.loader("train")
        scores = predict_scores(
            module.network,
            module.task,
            loader,
            ["identity"],
            device=pl_module.device,
            bf16=str(trainer.precision).startswith("bf16"),
            limit=batch_limit(trainer.limit_val_batches, loader),
        )
        index, gallery = joined([scores.index, scores.embedding])
        labels, device = data.targets[index], pl_module.device
        measures = retrieval_measures(queries, targets, gallery, labels, device=device)
        voted = neighbour_scores(
            queries,
            gallery,
            labels,
            len(module.task.classes),
            self.vote,
            class_scores=class_scores,
            device=device,
        )
        measures |= module.task.evaluate(voted, targets)
        measures["f1"] = macro_f1(voted.argmax(axis=1), targets)
        pl_module.log_dict({f"val/{name}": value for name, value in measures.items()})

    def _due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        return epoch % self.every == 0 or epoch == trainer.max_epochs
