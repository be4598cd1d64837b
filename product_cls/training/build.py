"""Build the parts of a run from its plan: augmentation, network, module and data."""

import logging
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from timm.layers import convert_sync_batchnorm

from product_cls.config.border import keys_for_arguments, keys_for_node
from product_cls.config.checks import check_sam
from product_cls.config.instantiate import build, to_plain, try_out
from product_cls.config.model_names import model_settings
from product_cls.config.values import loader_workers, on_gpu
from product_cls.core.errors import UserError
from product_cls.data.augment import VIEWPOINT, Augment
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.folds import split_rows
from product_cls.data.mix import MIX_NAMES, Mix
from product_cls.inference.adaptation import check_method
from product_cls.inference.tta import check_views
from product_cls.models.batch_norms import check_batch_norms
from product_cls.models.lora import add_adapters
from product_cls.models.network import Network
from product_cls.optim.groups import Finetune, backbone_depths
from product_cls.optim.sam import SAM
from product_cls.tasks import Task
from product_cls.training.class_checks import check_classes_left, unlearned_classes
from product_cls.training.data_source import build_picture_store
from product_cls.training.module import ProductModule
from product_cls.training.monitors import build_metrics
from product_cls.training.plan import RunPlan
from product_cls.training.probe import check_probe
from product_cls.training.teaching import answers, check_teacher, load_start

log = logging.getLogger(__name__)

TRIALS = 20  # test draws of the augmentation; all of them miss a step of p=0.5 once in 10^6


def build_parts(
    plan: RunPlan, *, rank: int | None = None
) -> tuple[ProductModule, ProductDataModule]:
    """Build module and data of a run or of one of its ranks; equal seeds give equal weights.

    The module is built first, so that wrong settings fail before pictures are prepared, which can
    take minutes.

    Args:
        plan: the run's plan.
        rank: the rank to build for; None for the run's own process.

    Raises:
        UserError: a part refuses its settings.
    """
    config, task = plan.config, plan.task
    check_teacher(config, task)
    check_probe(config, task)
    pl.seed_everything(int(config.seed), verbose=False)
    augment, mix = build_augmentation(config, task, plan.size)
    network = build_network(config, task, plan.size)
    if config.start is not None:
        load_start(network, task, Path(str(config.start)))
    if config.adapt is not None:
        with keys_for_arguments():
            check_batch_norms(network, f"model.backbone={config.model.backbone}")
            check_method(config.adapt, task)
    module = build_module(config, task, network, mix, plan.size)
    check_batch_size(plan, module)
    return module, build_data(plan, augment, rank=rank)


def check_batch_size(plan: RunPlan, module: ProductModule) -> None:
    """Refuse batches that are too small for the task, or batches of one picture for a network in
    which a batch norm gets one value per channel, from which it cannot learn.

    Args:
        plan: the run's plan.
        module: in training mode; unchanged.

    Raises:
        UserError: naming ``data.batch_size``.
    """
    batch_size, task = plan.batch.per_device, plan.task
    if batch_size < task.smallest_batch:
        raise UserError(
            f"data.batch_size={batch_size} is too small for task={task.name}; allowed: "
            f"{task.smallest_batch} or more."
        )
    if batch_size > 1 or plan.config.trainer.get("sync_batchnorm"):
        return
    trial = deepcopy(module.network)
    if module.finetune.freeze == "all":
        trial.backbone.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # the run's draws stay the same
        try:
            trial(trial.prepare(torch.zeros(1, 3, *plan.size, dtype=torch.uint8)))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                f"data.batch_size=1 is too small for the batch norms of this network with pictures "
                f"of {plan.size[0]} x {plan.size[1]} pixels; allowed: 2 or more."
            ) from None


def build_data(plan: RunPlan, augment: Augment, *, rank: int | None = None) -> ProductDataModule:
    """Build the store and the loaders of a run.

    Args:
        plan: the run's plan.
        augment: for training pictures.
        rank: the rank whose share of the pictures to load; None for all pictures.

    Raises:
        UserError: the store or the loaders refuse their settings, or there are too few pictures for
            the batch or the devices.
    """
    config, samples, task = plan.config, plan.samples, plan.task
    store = plan.store or build_picture_store(config, samples, plan.size)
    stored = set(store.ids)
    samples = samples[samples["id"].isin(stored)].reset_index(drop=True)
    check_classes_left(task, plan.samples, samples)
    train_ids, val_ids = split_rows(plan.folds[plan.folds.index.isin(stored)], plan.fold)
    with keys_for_arguments("data", window="data.stream.window", cache_gb="data.stream.cache_gb"):
        store.check_room(store.rows(train_ids.tolist()))
    devices = plan.batch.devices
    if devices > 1 and (len(train_ids) < 2 * devices or 0 < len(val_ids) < devices):
        raise UserError(
            f"{len(train_ids)} training and {len(val_ids)} validation pictures are too few for "
            f"{devices} devices (trainer.devices, trainer.num_nodes), each of which needs at least "
            f"2 and 1, respectively."
        )
    log.info(
        "%s: %d classes; %d pictures to learn from, %d held out, %d to test; fold %s.",
        config.data.name,
        len(task.classes),
        len(train_ids),
        len(val_ids),
        (samples["split"] == "test").sum(),
        plan.fold,
    )
    if rank is None:
        learned, held_out = (samples[samples["id"].isin(ids)] for ids in (train_ids, val_ids))
        test = samples[samples["split"] == "test"]
        warning = unlearned_classes(task, learned, held_out, test)
        if warning is not None:
            log.warning(warning)
    taught = answers(config, task, samples, val_ids)
    if taught is not None and rank is None:
        log.info(
            "The teacher answers for %d pictures; %d of them are test pictures without a label.",
            (taught.position >= 0).sum(),
            len(taught.unlabelled_rows),
        )
    gpu = on_gpu(config.trainer)
    with keys_for_node(config.data):
        data = ProductDataModule(
            samples,
            store,
            task.encode(samples),
            train_ids=train_ids,
            val_ids=val_ids,
            batch_size=plan.batch.per_device,
            per_class=config.data.per_class,
            augment=augment,
            num_workers=loader_workers(
                config.data.num_workers, gpu, 1 if rank is None else config.trainer.devices
            ),
            pin_memory=gpu,
            seed=int(config.seed),
            first_epoch=plan.first_epoch,
            rank=rank or 0,
            world_size=1 if rank is None else devices,
            taught=taught,
        )
    check_limits(config.trainer, data)
    return data


def check_limits(trainer: DictConfig, data: ProductDataModule) -> None:
    """Refuse shares of the batches that leave no batch.

    Raises:
        UserError: naming the key and the number of batches.
    """
    for split, part in (("train", "training"), ("val", "validation")):
        if not len(data.ids[split]):
            continue
        key = f"limit_{split}_batches"
        loader = data.loader(split, train=split == "train")
        if isinstance(trainer[key], float) and int(len(loader) * trainer[key]) == 0:
            raise UserError(
                f"trainer.{key}={trainer[key]} leaves none of the {len(loader)} {part} batches; "
                f"allowed: a share of at least {1 / len(loader):.2g}, or a number of batches."
            )


def build_augmentation(
    config: DictConfig, task: Task, size: tuple[int, int]
) -> tuple[Augment, Mix | None]:
    """Build augmentation and mixing, without the steps that ``exclude`` names.

    Args:
        config: the run's config.
        task: fitted.
        size: height and width of the pictures in pixels.

    Returns:
        The augmentation, and the mixing of batches; None without mixing.

    Raises:
        UserError: ``exclude`` names a step that is not in use, a step is refused, or the task
            cannot learn from mixed pictures.
    """
    steps = {k: step for k, step in to_plain(config.augment).items() if step is not None}
    mixing = [name for name in MIX_NAMES if config.mix.get(name, 0) > 0]
    with keys_for_arguments("augment", engine="augment_engine", exclude="exclude"):
        augment = Augment(
            steps,
            list(config.exclude),
            engine=config.augment_engine,
            elsewhere=mixing,
            ramp=config.augment_ramp * config.trainer.max_epochs,
        )
        # Tried here, because an error in a loader's worker would end in that worker's traceback.
        blank = np.zeros((*size, 3), np.uint8)
        for seed in range(TRIALS):
            augment(blank, seed)
    if config.augment_ramp and not augment.viewpoint:
        raise UserError(
            f"augment_ramp={config.augment_ramp} concerns the steps {', '.join(VIEWPOINT)}, and "
            f"none of them is in use; allowed: 0, or augment=viewpoint."
        )
    switched_off = {name: 0.0 for name in MIX_NAMES if name in config.exclude}
    mix: Mix = build(config.mix, **switched_off)
    mixes = bool(mix.alphas and mix.p > 0)
    if mixes and not task.mixes:
        raise UserError(
            "This loss compares whole pictures, so it cannot learn from mixed ones; set mix=none."
        )
    return augment, mix if mixes else None


def build_network(config: DictConfig, task: Task, size: tuple[int, int]) -> Network:
    """Build the network of ``config.model`` with the task's head.

    Args:
        config: the run's config.
        task: fitted.
        size: height and width of the pictures in pixels.

    Raises:
        UserError: the backbone, its weights or the pooling are refused, or the network does not
            take pictures of this size or of a view of ``tta``.
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
            size=size,
            joined=[model_settings(str(name)) for name in model.joined],
        )
    check_views(config.tta, size, network.check_size)
    for part in (network, *network.joined):
        log.info("%s, weights: %s.", part.spec["backbone"], part.weights.source)
    if config.trainer.get("sync_batchnorm"):
        # timm's converter: torch's, which Lightning would use, drops the activations inside timm's
        # batch norms.
        network = convert_sync_batchnorm(network)
    if model.compile:
        network.compile()  # in place: torch.compile(network) would rename the parameters
    return network


def build_module(
    config: DictConfig, task: Task, network: Network, mix: Mix | None, size: tuple[int, int]
) -> ProductModule:
    """Build the LightningModule from network, task, optimiser and schedule.

    Args:
        config: the run's config.
        task: fitted.
        network: with the task's head.
        mix: mixes training batches; None for no mixing.
        size: height and width of the pictures in pixels.

    Raises:
        UserError: the optimiser, the scheduler or ``finetune`` refuse their settings, or the
            trainer's do not suit the optimiser.
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
            backbone_depths(network)  # refuses networks whose order of layers is unknown
    if finetune.lora is not None:
        with keys_for_arguments(f"finetune.lora={finetune.lora}"):
            added = add_adapters(network, finetune.lora, finetune.lora_alpha)
        log.info("LoRA: %d parameters learn in place of the backbone.", added)
    if finetune.freeze != "all" and finetune.freeze >= config.trainer.max_epochs:
        log.warning(
            "finetune.freeze=%d covers all of trainer.max_epochs=%d: only the head learns.",
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
        image={"size": list(size), "fit": config.data.fit},
        metrics=build_metrics(config, task),
    )
