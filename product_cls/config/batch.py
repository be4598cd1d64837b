"""Pictures per optimiser step: the batches that make them up, learning rates scaled to them, and
smaller batches when memory runs out."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from omegaconf import DictConfig

from product_cls.core.errors import UserError

Rule = Literal["none", "linear", "sqrt"]


@dataclass(frozen=True)
class BatchPlan:
    """How the pictures of one optimiser step are split into batches.

    Attributes:
        per_device: pictures in a batch on one device.
        devices: number of devices that take a batch each, over all machines.
        accumulated: batches whose gradients each device accumulates before a step.
    """

    per_device: int
    devices: int
    accumulated: int

    @classmethod
    def of(cls, config: DictConfig) -> "BatchPlan":
        """The batches that the config sets, before any halving."""
        trainer = config.trainer
        return cls(config.data.batch_size, world_size(trainer), trainer.accumulate_grad_batches)

    @property
    def pictures(self) -> int:
        """Pictures a step, over all devices."""
        return self.per_device * self.devices * self.accumulated

    def halved(self, times: int) -> "BatchPlan":
        """As many pictures per step in smaller batches: each halving also doubles the batches.

        Raises:
            ValueError: the batch size is not divisible by 2 that often.
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
        """Plain values, for ``metrics.json``."""
        return {
            "per_device": self.per_device,
            "devices": self.devices,
            "accumulated": self.accumulated,
            "step": self.pictures,
        }


def world_size(trainer: Any) -> int:
    """Number of ranks: devices per machine times machines."""
    return int(trainer["devices"]) * int(trainer.get("num_nodes", 1))


def can_halve(config: DictConfig, times: int) -> bool:
    """Whether ``data.batch_size`` can be halved that many times.

    With ``data.per_class``, a batch must still hold that many pictures of 2 or more classes.
    """
    size, rest = divmod(config.data.batch_size, 2**times)
    if (per_class := config.data.per_class) is None:
        return rest == 0
    return rest == 0 and size % per_class == 0 and size >= 2 * per_class


def scaled_rates(config: DictConfig) -> tuple[dict[str, float], str | None]:
    """The learning rates that ``scale_lr`` implies for the config's pictures a step.

    ``linear`` multiplies them by pictures a step / ``scale_lr.base`` (Goyal et al. 2017, arXiv
    1706.02677, with a warm-up); ``sqrt`` by its square root, which suits Adam (Krizhevsky 2014,
    arXiv 1404.5997; Malladi et al. 2022, arXiv 2205.10287). ``scheduler.end_lr`` is not scaled.

    Returns:
        Key -> rate, empty with ``none``; and a sentence about them, None with ``none``.

    Raises:
        UserError: the rule is unknown, the base is below 1, or the optimiser has no ``lr``.
    """
    rule, base = config.scale_lr.rule, config.scale_lr.base
    if rule not in get_args(Rule):
        raise UserError(f"scale_lr.rule={rule}; allowed: {', '.join(get_args(Rule))}.")
    if type(base) is not int or base < 1:
        raise UserError(f"scale_lr.base={base}; allowed: a number of pictures a step, 1 or more.")
    if rule == "none":
        return {}, None
    if not isinstance(rate := config.optimizer.get("lr"), int | float):
        raise UserError(f"scale_lr.rule={rule} scales optimizer.lr, which is {rate}; set it.")
    pictures = BatchPlan.of(config).pictures
    factor = pictures / base if rule == "linear" else (pictures / base) ** 0.5
    rates = {"optimizer.lr": rate * factor}
    note = f"optimizer.lr={rate:g} x {factor:g} = {rate * factor:g}"
    if (head_rate := config.finetune.head_lr) is not None:
        rates["finetune.head_lr"] = head_rate * factor
        note += f", finetune.head_lr={head_rate:g} x {factor:g} = {head_rate * factor:g}"
    return rates, f"{note}: scale_lr.rule={rule}, {pictures} pictures a step for {base}."
