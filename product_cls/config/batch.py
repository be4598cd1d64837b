"""How many pictures a step learns from, and what follows from it: the learning rate, and what to do
when they do not fit into memory."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf

from product_cls.core.errors import UserError

Rule = Literal["none", "linear", "sqrt"]


@dataclass(frozen=True)
class BatchPlan:
    """Pictures of a step: ``devices`` batches of ``per_device`` at once, ``accumulated`` times."""

    per_device: int
    devices: int
    accumulated: int

    @classmethod
    def of(cls, config: DictConfig) -> "BatchPlan":
        """As the config says."""
        trainer = config.trainer
        return cls(config.data.batch_size, world_size(trainer), trainer.accumulate_grad_batches)

    @property
    def pictures(self) -> int:
        return self.per_device * self.devices * self.accumulated

    def halved(self, times: int) -> "BatchPlan":
        """Of as many pictures in smaller batches: each time half the batch, twice as many.

        Raises:
            ValueError: the batch does not come out even.
        """
        if self.per_device % 2**times:
            raise ValueError(f"{self.per_device} cannot be halved {times} times")
        return BatchPlan(self.per_device // 2**times, self.devices, self.accumulated * 2**times)

    def sentence(self) -> str:
        """``Batch: 2 devices x 16 = 32 pictures a step.``"""
        devices = f"{self.devices} devices x " if self.devices > 1 else ""
        batches = f" x {self.accumulated} accumulated batches" if self.accumulated > 1 else ""
        total = f" = {self.pictures}" if devices or batches else ""
        return f"Batch: {devices}{self.per_device}{batches}{total} pictures a step."

    def record(self) -> dict[str, int]:
        """For ``metrics.json``."""
        return {
            "per_device": self.per_device,
            "devices": self.devices,
            "accumulated": self.accumulated,
            "step": self.pictures,
        }


def world_size(trainer: Any) -> int:
    """Processes that learn together: devices of a machine times machines."""
    return int(trainer["devices"]) * int(trainer.get("num_nodes", 1))


def can_halve(config: DictConfig, times: int) -> bool:
    """Whether the batch comes out even, and of two whole classes where ``data.per_class`` deals
    them."""
    size, rest = divmod(config.data.batch_size, 2**times)
    if (per_class := config.data.per_class) is None:
        return rest == 0
    return rest == 0 and size % per_class == 0 and size >= 2 * per_class


def with_step(config: DictConfig, step: BatchPlan) -> DictConfig:
    """The config with the batches of ``step``."""
    changed = config.copy()
    changed.data.batch_size = step.per_device
    changed.trainer.accumulate_grad_batches = step.accumulated
    return changed


def with_scaled_rates(config: DictConfig) -> tuple[DictConfig, str | None]:
    """The config with the learning rates that ``scale_lr`` comes to for its pictures a step.

    ``linear``: rates times pictures a step / ``scale_lr.base`` (Goyal et al. 2017, arXiv
    1706.02677, with a warm-up); ``sqrt``: times its root, which suits Adam (Krizhevsky 2014, arXiv
    1404.5997; Malladi et al. 2022, arXiv 2205.10287). ``scheduler.end_lr`` stays as it is.

    Returns:
        The config, and a sentence where something is scaled.

    Raises:
        UserError: an unknown rule, a base below 1, an optimiser without ``lr``.
    """
    rule, base = config.scale_lr.rule, config.scale_lr.base
    if rule not in get_args(Rule):
        raise UserError(f"scale_lr.rule={rule}; allowed: {', '.join(get_args(Rule))}.")
    if type(base) is not int or base < 1:
        raise UserError(f"scale_lr.base={base}; allowed: a number of pictures a step, 1 or more.")
    if rule == "none":
        return config, None
    if not isinstance(rate := config.optimizer.get("lr"), int | float):
        raise UserError(f"scale_lr.rule={rule} scales optimizer.lr, which is {rate}; set it.")
    pictures = BatchPlan.of(config).pictures
    factor = pictures / base if rule == "linear" else (pictures / base) ** 0.5
    changed = config.copy()
    # Rates that follow optimizer.lr by interpolation do so of the scaled one.
    OmegaConf.update(changed, "optimizer.lr", rate * factor)
    said = f"optimizer.lr={rate:g} x {factor:g} = {rate * factor:g}"
    if (head := config.finetune.head_lr) is not None:
        OmegaConf.update(changed, "finetune.head_lr", head * factor)
        said += f", finetune.head_lr={head:g} x {factor:g} = {head * factor:g}"
    return changed, f"{said}: scale_lr.rule={rule}, {pictures} pictures a step for {base}."
