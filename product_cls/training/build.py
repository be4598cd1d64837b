"""From the config to the parts of a run: data, network, module."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from omegaconf import DictConfig
from timm.layers import convert_sync_batchnorm

from product_cls.config.batch import world_size
from product_cls.config.border import keys_for_arguments, keys_for_node
from product_cls.config.checks import check_sam
from product_cls.config.instantiate import build, to_plain, try_out
from product_cls.config.values import image_size, loader_workers, on_gpu, parse_fold
from product_cls.core.errors import UserError
from product_cls.data.augment import Augment, step_names, unknown_step
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.folds import groups_in_several_folds, load_or_make_folds, split_rows
from product_cls.data.mix import MIX_NAMES, Mix
from product_cls.data.samples import take_subset
from product_cls.data.stream.reading import StreamStore
from product_cls.models.network import Network
from product_cls.optim.groups import Finetune, backbone_depths
from product_cls.optim.sam import SAM
from product_cls.tasks import Task
from product_cls.tasks.retrieval import Retrieval
from product_cls.training.data_source import assemble_store, cache_folder
from product_cls.training.module import ProductModule

log = logging.getLogger(__name__)


TRIALS = 20  # draws of the augmentation, so that a step of p .5 is all but sure to be among them


def assemble_samples(config: DictConfig) -> "tuple[pd.DataFrame, Task, pd.Series[int]]":
    """The sample table (or the part of it that ``data.limit`` leaves), the task that has seen it,
    and its folds.

    Raises:
        UserError: whatever readers, task and folds refuse.
    """
    samples: pd.DataFrame = build(config.data.samples)
    task: Task = build(config.task)
    if config.data.limit is not None:
        with keys_for_node(config.task):
            label = task.stratify_by(samples)
        samples = take_subset(samples, config.data.limit, label=label, seed=config.folds.seed)
    with keys_for_node(config.task):
        task.fit(samples)
    return samples, task, assemble_folds(config, samples, task)


def assemble_run(
    config: DictConfig,
    samples: pd.DataFrame,
    task: Task,
    folds: "pd.Series[int]",
    first_epoch: int,
    *,
    rank: int | None = None,
) -> tuple[ProductModule, ProductDataModule]:
    """Module and data of a run, or of one of its ranks; the same seed makes the same weights.

    Raises:
        UserError: whatever the parts refuse; what a wrong value can stop comes before the pictures,
            which can take minutes.
    """
    pl.seed_everything(int(config.seed), verbose=False)
    augment, mix = assemble_augmentation(config, task)
    network = assemble_network(config, task)
    module = assemble_module(config, task, network, mix)
    return module, assemble_data(config, samples, folds, task, augment, first_epoch, rank=rank)


def assemble_folds(config: DictConfig, samples: pd.DataFrame, task: Task) -> "pd.Series[int]":
    """Folds from their file, made first where there is none; ``fold`` is among them.

    Raises:
        UserError: whatever ``load_or_make_folds``, ``split_rows`` and the task refuse.
    """
    given = config.folds
    name = f"folds-{task.label}-{given.strategy}-{given.n_splits}-seed{given.seed}.csv"
    folds = load_or_make_folds(
        Path(given.file or cache_folder(config) / name),
        samples,
        given.strategy,
        n_splits=given.n_splits,
        seed=given.seed,
        label=task.stratify_by(samples),
    )
    targets, ids = task.encode(samples), samples["id"]
    parts = split_rows(folds, parse_fold(config.fold))
    with keys_for_arguments("task"):
        sentences = task.check_parts(*(targets[ids.isin(part)] for part in parts))
    for sentence in sentences:
        log.warning(sentence)
    if given.strategy == "stratified" and (torn := groups_in_several_folds(samples, folds)):
        log.warning(
            "%d groups (people, films) have pictures in several folds, so validation knows them "
            "from training; folds.strategy=stratified_group keeps them together.",
            torn,
        )
    return folds


def assemble_data(
    config: DictConfig,
    samples: pd.DataFrame,
    folds: "pd.Series[int]",
    task: Task,
    augment: Augment,
    first_epoch: int,
    *,
    rank: int | None = None,
) -> ProductDataModule:
    """Store and loaders for the samples, as the config says.

    Args:
        samples: the sample table.
        folds: from ``assemble_folds``.
        task: fitted; encodes the labels.
        augment: for training pictures.
        first_epoch: that training begins with.
        rank: of several that share the pictures; None for all of them.

    Raises:
        UserError: whatever store or loaders refuse; one picture a batch where the head has a batch
            norm over embeddings; fewer pictures than several devices can share.
    """
    if isinstance(task, Retrieval) and config.data.batch_size == 1:
        raise UserError(
            "data.batch_size=1 is too few for task=retrieval, whose batch norm learns from the "
            "embeddings of a batch; allowed: 2 or more."
        )
    fold, size = parse_fold(config.fold), image_size(config.data.size)
    gpu = on_gpu(config.trainer)
    if config.data.per_class is not None and not isinstance(task.stratify_by(samples), str):
        raise UserError(
            f"data.per_class={config.data.per_class} is for one label a picture; allowed with "
            f"several: null."
        )
    store = assemble_store(config, samples, size, warn=log.warning)
    kept = set(store.ids)
    samples = samples[samples["id"].isin(kept)].reset_index(drop=True)
    train_ids, val_ids = split_rows(folds[folds.index.isin(kept)], fold)
    if isinstance(store, StreamStore):
        store.check_room(store.rows(train_ids.tolist()))
    devices = world_size(config.trainer)
    if devices > 1 and (len(train_ids) < 2 * devices or 0 < len(val_ids) < devices):
        raise UserError(
            f"{len(train_ids)} pictures to learn from and {len(val_ids)} held out are too few for "
            f"{devices} devices (trainer.devices, trainer.num_nodes), each of which takes at least "
            f"2 and 1."
        )
    log.info(
        "%s: %d classes; %d pictures to learn from, %d held out, %d in the test part; fold %s.",
        config.data.name,
        len(task.classes),
        len(train_ids),
        len(val_ids),
        (samples["split"] == "test").sum(),
        fold,
    )
    return ProductDataModule(
        samples,
        store,
        task.encode(samples),
        train_ids=train_ids,
        val_ids=val_ids,
        batch_size=config.data.batch_size,
        per_class=config.data.per_class,
        augment=augment,
        num_workers=loader_workers(
            config.data.num_workers, gpu, 1 if rank is None else config.trainer.devices
        ),
        pin_memory=gpu,
        seed=int(config.seed),
        first_epoch=first_epoch,
        rank=rank or 0,
        ranks=1 if rank is None else devices,
    )


def assemble_augmentation(config: DictConfig, task: Task) -> tuple[Augment, Mix | None]:
    """Augmentation and mixing without what ``exclude`` names.

    Raises:
        UserError: a name that is in use in neither, a step or value that they refuse, or mixing
            for a task that cannot learn from mixed pictures.
    """
    steps = {k: step for k, step in to_plain(config.augment).items() if step is not None}
    mixing = [name for name in MIX_NAMES if config.mix.get(name, 0) > 0]
    known = [*step_names(steps), *mixing]
    for name in config.exclude:
        if name not in known:
            raise UserError(unknown_step(name, known))
    left = [name for name in config.exclude if name not in mixing]
    augment = Augment(steps, left, engine=config.augment_engine)
    # Tried here, because what it raises in a loader's worker arrives as that worker's traceback.
    blank = np.zeros((*image_size(config.data.size), 3), np.uint8)
    for seed in range(TRIALS):
        augment(blank, seed)
    left_out = {name: 0.0 for name in MIX_NAMES if name in config.exclude}
    mix: Mix = build(config.mix, **left_out)
    mixes = bool(mix.alphas and mix.p > 0)
    if mixes and not task.mixes:
        raise UserError(
            "loss=triplet compares whole pictures, which mixed ones are not; set mix=none."
        )
    return augment, mix if mixes else None


def assemble_network(config: DictConfig, task: Task) -> Network:
    """The network of ``config.model`` with the task's head.

    Raises:
        UserError: whatever the network refuses.
    """
    model = config.model
    with keys_for_arguments("model"):
        network = Network(
            model.backbone,
            task.head,
            pooling=model.pooling,
            weights=str(model.weights),
            drop_rate=model.drop_rate,
            drop_path_rate=model.drop_path_rate,
            channels_last=model.channels_last,
        )
    log.info("%s, weights: %s.", model.backbone, network.weights.source)
    if config.trainer.get("sync_batchnorm"):
        # timm's: torch's, which is Lightning's, loses the activations inside timm's batch norms.
        network = convert_sync_batchnorm(network)
    if model.compile:
        network.compile()  # in place: torch.compile(network) would rename the parameters
    return network


def assemble_module(
    config: DictConfig, task: Task, network: Network, mix: Mix | None
) -> ProductModule:
    """Network, task, optimiser and schedule as one LightningModule.

    Raises:
        UserError: an argument that optimiser or scheduler does not take, values of ``finetune`` out
            of range, or a trainer that the optimiser does not go with.
    """
    optimizer, scheduler = build(config.optimizer), build(config.scheduler)
    trial = try_out(optimizer, scheduler)
    if isinstance(trial, SAM):
        check_sam(config.trainer)
        if config.oom_retries:
            raise UserError(
                f"oom_retries={config.oom_retries} does not go with SAM, which takes one batch a "
                f"step; set it to 0."
            )
    finetune: Finetune = build(config.finetune)
    if finetune.layer_decay is not None:
        with keys_for_arguments(f"finetune.layer_decay={finetune.layer_decay:g}"):
            backbone_depths(network)  # may refuse
    if finetune.freeze != "all" and finetune.freeze >= config.trainer.max_epochs:
        log.warning(
            "finetune.freeze=%d is all of trainer.max_epochs=%d: only the head learns.",
            finetune.freeze,
            config.trainer.max_epochs,
        )
    return ProductModule(
        network,
        task,
        optimizer=optimizer,
        scheduler=scheduler,
        lr=float(trial.defaults["lr"]),
        weight_decay=float(config.optimizer.get("weight_decay", 0.0)),
        finetune=finetune,
        mix=mix,
        seed=int(config.seed),
        image={"size": list(image_size(config.data.size)), "fit": config.data.fit},
    )
