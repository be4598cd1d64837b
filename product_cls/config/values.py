"""Config values that need parsing: sizes, folds, devices, precision."""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import OmegaConf

from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError


def image_size(value: Any) -> tuple[int, int]:
    """``data.size`` as height and width: one number stands for both.

    Raises:
        UserError: it is neither a whole number nor two.
    """
    pair = [value, value] if isinstance(value, int) else value
    if OmegaConf.is_config(pair):
        pair = OmegaConf.to_container(pair)
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, int) for x in pair)):
        raise UserError(f"data.size={value}; allowed: a number of pixels or [height, width].")
    return pair[0], pair[1]


def parse_fold(value: Any) -> int | str:
    """``fold`` as a number or ``all``.

    Raises:
        UserError: it is something else.
    """
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise UserError(f"fold={value}; allowed: the number of a fold, or all.")


def on_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether Lightning's ``accelerator`` comes out as a CUDA device."""
    return trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def trainer_precision(trainer: Mapping[str, Any]) -> str:
    """Lightning's precision for ``trainer.precision``, of which ``auto`` is ours."""
    if trainer["precision"] != "auto":
        return str(trainer["precision"])
    # Emulated bf16, which older GPUs have, is slower than float32.
    bf16 = on_gpu(trainer) and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if bf16 else "32-true"


def loader_workers(value: int | str, gpu: bool, ranks: int = 1) -> int:
    """Loader processes; ``auto`` is none on a CPU, where they would only compete with training.

    Args:
        ranks: of this machine, which share its cores.

    Raises:
        UserError: neither ``auto`` nor a number.
    """
    if value == "auto":
        return min(8, max(1, usable_cores() // ranks)) if gpu else 0
    if not isinstance(value, int) or value < 0:
        raise UserError(f"data.num_workers={value}; allowed: auto, 0 or more.")
    return value
