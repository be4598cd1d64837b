"""Scores of a split by networks that are adapted to its unlabelled pictures, for ``adapt=``."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig

from product_cls.data.datamodule import ProductDataModule
from product_cls.data.samplers import EpochSampler
from product_cls.inference.adaptation import adapt_network, domains, refusal, too_few
from product_cls.inference.scoring import Scores
from product_cls.models.network import Network
from product_cls.tasks import Task

log = logging.getLogger(__name__)

# Scores the pictures of some rows of the sample table.
Scorer = Callable[[Network, np.ndarray], Scores]


def adapt_scores(
    scores: Scores,
    split: str,
    data: ProductDataModule,
    network: Network,
    config: DictConfig,
    device: torch.device,
    score: Scorer,
    task: Task,
) -> Scores:
    """Replace the scores of each domain by those of a copy of the network adapted to it.

    Labels are not read. A domain that is too small or seems to show one class keeps its scores,
    with a warning.

    Args:
        scores: of the split, by the network as it was trained.
        split: ``val`` or ``test``.
        data: the run's data module.
        network: the trained network.
        config: the run's config: ``adapt``, ``adapt_share``, ``adapt_views``.
        device: to compute on.
        score: scores rows of the sample table with a network, in their order.
        task: of the run.
    """
    views = data.samples.get("view")
    known = views is not None and views.notna().any()
    if split == "val" and not known:
        return scores  # held out from the training's own domain
    found = domains(
        views.iloc[scores.index] if views is not None else None,
        views.iloc[data.indices("train")] if views is not None else None,
        len(scores.index),
        config.adapt_views,
    )
    columns: dict[str, Any] = {k: None if v is None else v.copy() for k, v in vars(scores).items()}
    for name, rows in found.items():
        if (why := refusal(scores.plain[rows], len(rows))) is not None:
            log.warning("Not adapted: %s of the %s part %s.", name, split, why)
            continue
        index = scores.index[rows]
        informs = config.adapt == "infomax"
        if informs and (why := too_few(len(task.classes), len(rows))) is not None:
            log.warning("%s of the %s part: %s.", name[0].upper() + name[1:], split, why)
            informs = False

        def passes(number: int, size: int, index: np.ndarray = index) -> Iterable[dict[str, Any]]:
            loader = data.shuffled(index, size)
            cast(EpochSampler, loader.sampler).set_epoch(number)
            return loader

        changed = adapt_network(
            network,
            passes,
            len(index),
            config.adapt_share,
            device,
            task.scores if informs else None,
        )
        of_domain = vars(score(changed, index))
        for column, values in columns.items():
            if values is not None:
                values[rows] = of_domain[column]
        log.info("Adapted to %s of the %s part (%d pictures).", name, split, len(index))
    return Scores(**columns)
