"""Validation pictures searched in the training gallery, while the network learns."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from product_cls.data.datamodule import ProductDataModule
from product_cls.predict import Scores, predict_scores
from product_cls.retrieval.measures import retrieval_measures


class GalleryValidation(Callback):
    """Logs ``val/recall@1``, ``val/recall@5`` and ``val/mAP@R``.

    Args:
        every: epochs from one search to the next; the last epoch always has one.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every and epoch != trainer.max_epochs:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ProductDataModule)
        module: Any = pl_module
        limit = trainer.limit_val_batches

        def embed(split: str) -> Scores:
            return predict_scores(
                module.network,
                module.task,
                data.loader(split),
                ["identity"],
                device=pl_module.device,
                bf16=str(trainer.precision).startswith("bf16"),
                limit=limit if isinstance(limit, int) else None,
            )

        queries, gallery = embed("val"), embed("train")
        assert queries.embedding is not None and gallery.embedding is not None
        measures = retrieval_measures(
            queries.embedding,
            data.targets[queries.index],
            gallery.embedding,
            data.targets[gallery.index],
            device=pl_module.device,
        )
        pl_module.log_dict({f"val/{name}": value for name, value in measures.items()})
