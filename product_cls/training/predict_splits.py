"""Predict a run's splits: predictions files and metrics."""

import logging
import os
import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from product_cls.config.values import batch_limit
from product_cls.core.tables import write_csv
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.faults import listed
from product_cls.inference.predictions import Predictions, summarise
from product_cls.inference.predictions_table import predictions_table
from product_cls.inference.predictor import Predictor
from product_cls.inference.scoring import Scores, predict_scores
from product_cls.inference.truth import Truth
from product_cls.models.network import Network
from product_cls.retrieval.gallery import Gallery, retrieval_summary, vote_by_neighbours
from product_cls.runs.folder import RunFolder
from product_cls.tasks import Task
from product_cls.training.adapted_scores import adapt_scores
from product_cls.training.plan import RunPlan
from product_cls.training.probe import PictureFeatures

log = logging.getLogger(__name__)


def predict_splits(
    plan: RunPlan,
    folder: RunFolder,
    data: ProductDataModule,
    network: Network,
    trainer: pl.Trainer,
    features: PictureFeatures | None = None,
) -> dict[str, Any]:
    """Predict the validation and test splits with the best checkpoint and write their files.

    Args:
        plan: the run's plan.
        folder: the run's folder; the predictions and, if the task needs one, the gallery are
            written there.
        data: the run's data module.
        network: the trained network, whose memory format is used.
        trainer: its device and precision are used.
        features: of the pictures, which a probe has; None computes them.

    Returns:
        ``{"val": {...}, "test": {...}}``: metrics of each split that has pictures.

    Raises:
        UserError: scores are not finite.
    """
    predictor = Predictor.load(folder.best_checkpoint)
    predictor.network.memory_format = network.memory_format
    task, device = predictor.task, trainer.strategy.root_device
    vote = task.vote
    limit = plan.config.trainer.limit_val_batches

    def score(network: Network, loader: DataLoader[Any], split: str, most: int | None) -> Scores:
        return predict_scores(
            network,
            task,
            loader,
            plan.config.tta,
            device=device,
            # Embeddings become an index for float32 queries, so they must be float32, too.
            bf16=str(trainer.precision).startswith("bf16") and not task.needs_gallery,
            limit=most,
            description=f"predict {split}" if sys.stdout.isatty() else None,
        )

    def scores_of(split: str) -> Scores:
        if features is not None:
            views = list(plan.config.tta)
            return features.scores(data.indices(split), predictor.network.head, task, views)
        loader = data.loader(split)
        scores = score(predictor.network, loader, split, batch_limit(limit, loader))
        return _in_order(scores, data.indices(split))  # shards are read in another order

    def adapted_scores(split: str) -> Scores:
        def of_rows(network: Network, rows: np.ndarray) -> Scores:
            return _in_order(score(network, data.some(rows), split, None), rows)

        return adapt_scores(
            scored[split], split, data, predictor.network, plan.config, device, of_rows, task
        )

    splits = ("train", "val", "test") if task.needs_gallery else ("val", "test")
    scored = {split: scores_of(split) for split in splits if len(data.ids[split])}
    gallery = None
    if vote is not None:
        gallery = _gallery(data, [scored[k] for k in ("train", "val") if k in scored], task)
        gallery.save(folder.predictions_file("gallery"))
    names = data.samples["id"].to_numpy(dtype=np.str_)
    Truth(names, data.targets).save(folder.labels_file)
    metrics: dict[str, Any] = {}

    def predicted(split: str, scores: Scores) -> tuple[Predictions, dict[str, Any]]:
        """Predictions of a split, and their metrics."""
        rows = data.samples.iloc[scores.index]
        predictions = Predictions(
            id=rows["id"].to_numpy(dtype=np.str_),
            scores=scores.tta,
            scores_no_tta=scores.plain,
            classes=np.asarray(task.classes),
            task=task.spec(),
            target=data.targets[scores.index],
            view=_view_column(rows),
            embedding=scores.embedding,
            embedding_no_tta=scores.embedding_plain,
            asked=_asked(plan.samples, data.samples) if split == "test" else None,
        )
        if gallery is not None and vote is not None:
            # A picture must not find itself.
            others = gallery.without(predictions.id)
            predictions = vote_by_neighbours(predictions, others, vote, device)
            return predictions, summarise(predictions, task) | retrieval_summary(
                predictions, others, device
            )
        return predictions, summarise(predictions, task)

    for split in ("val", "test"):
        if split not in scored:
            continue
        predictions, metrics[split] = predicted(split, scored[split])
        if plan.config.adapt is not None:
            before = metrics[split]
            predictions, metrics[split] = predicted(split, adapted_scores(split))
            metrics[split] |= {"unadapted": before}
        file = folder.predictions_file(split)
        predictions.save(file)
        write_csv(file.with_suffix(".csv"), predictions_table(predictions))
    return metrics


def _asked(samples: pd.DataFrame, readable: pd.DataFrame) -> np.ndarray | None:
    """Ids of all test pictures, if some could not be read, which a warning names."""
    asked = samples["id"][samples["split"] == "test"]
    absent = asked[~asked.isin(readable["id"])]
    if absent.empty:
        return None
    log.warning(
        "%d of %d test pictures cannot be decoded and have no prediction (%s); a submission "
        "answers them by default.",
        len(absent),
        len(asked),
        listed(absent, 20),
    )
    return asked.to_numpy(dtype=np.str_)


def _in_order(scores: Scores, index: np.ndarray) -> Scores:
    """Scores sorted into the order of ``index``, int64 ``[M]``, rows of the sample table."""
    position = {row: k for k, row in enumerate(index.tolist())}
    order = np.argsort([position[row] for row in scores.index.tolist()], kind="stable")
    columns: dict[str, Any] = vars(scores)
    columns = {name: None if v is None else v[order] for name, v in columns.items()}
    return Scores(**columns)


def _gallery(data: ProductDataModule, parts: Sequence[Scores], task: Task) -> Gallery:
    """Embeddings of the labelled pictures: the training and the validation split."""
    index = np.concatenate([part.index for part in parts])
    rows = data.samples.iloc[index]
    return Gallery(
        id=rows["id"].to_numpy(dtype=np.str_),
        path=np.array([os.path.abspath(path) for path in rows["path"]]),
        target=data.targets[index],
        classes=np.asarray(task.classes),
        embedding=np.concatenate([part.embedding for part in parts if part.embedding is not None]),
        embedding_no_tta=np.concatenate(
            [part.embedding_plain for part in parts if part.embedding_plain is not None]
        ),
    )


def _view_column(rows: pd.DataFrame) -> np.ndarray | None:
    """Views of the rows, ``[N]``, as numbers or text, because predictions files hold no objects.

    None if no view is known.
    """
    if "view" not in rows or rows["view"].isna().all():
        return None
    if pd.api.types.is_numeric_dtype(rows["view"]):
        return rows["view"].to_numpy()
    return rows["view"].astype(object).where(rows["view"].notna(), "").to_numpy(dtype=np.str_)


def log_metrics(metrics: dict[str, Any], folder: RunFolder) -> None:
    """Log one line per split, with the metrics by view if views are known."""
    for split, values in metrics.items():
        shown = {k: v for k, v in values.items() if isinstance(v, float)}
        text = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        views: Collection[tuple[str, Any]] = values.get("by_view", {}).items()
        for view, measures in views:
            several = len(measures) > 1
            words = [f"{k} {v:.4f}" if several else f"{v:.4f}" for k, v in measures.items()]
            text += f"  view {view}: " + " ".join(words)
        log.info("%s (%d pictures): %s", split, values["count"], text or "labels unknown")
    log.info("Results: %s", folder.path)
