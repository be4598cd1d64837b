"""Config values that need parsing: image size, fold, accelerator, precision, loader workers."""

from collections.abc import Mapping, Sized
from typing import Any, cast

from omegaconf import OmegaConf

from product_cls.core.arguments import as_typed
from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError
from product_cls.core.names import shown
from product_cls.core.picture_sides import LARGEST, SMALLEST


def image_size(value: Any) -> tuple[int, int]:
    """``data.size`` as height and width in pixels; a single number stands for both.

    Raises:
        UserError: the value is neither one nor two whole numbers in the range of sides.
    """
    pair = [value, value] if isinstance(value, int) else value
    if OmegaConf.is_config(pair):
        pair = OmegaConf.to_container(pair)
    if not (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(x) is int and SMALLEST <= x <= LARGEST for x in pair)
    ):
        raise UserError(
            f"data.size={shown(as_typed(value))}; allowed: a number of pixels, {SMALLEST} to "
            f"{LARGEST}, or [height, width]."
        )
    return pair[0], pair[1]


def parse_fold(value: Any, strategy: str) -> int | float | str:
    """``fold``: a number, ``all``, or, with ``folds.strategy=view``, the name of a view.

    Raises:
        UserError: the value is anything else.
    """
    number = isinstance(value, int) and not isinstance(value, bool)
    view = strategy == "view" and isinstance(value, float | str) and value != ""
    if number or view or value == "all":
        return cast(int | float | str, value)
    also = ", the name of a view" if strategy == "view" else ""
    raise UserError(f"fold={shown(as_typed(value))}; allowed: the number of a fold{also}, or all.")


def on_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether Lightning resolves ``trainer.accelerator`` to a CUDA device."""
    import torch  # takes seconds, and mistakes on the command line should show at once

    return trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def trainer_precision(trainer: Mapping[str, Any]) -> str:
    """Lightning's precision for ``trainer.precision``.

    ``auto``, which Lightning lacks, is bfloat16 if the GPU supports it, otherwise float32.
    """
    if trainer["precision"] != "auto":
        return str(trainer["precision"])
    import torch

    # Older GPUs emulate bfloat16, which is slower than float32.
    bf16 = on_gpu(trainer) and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if bf16 else "32-true"


def batch_limit(limit: int | float, loader: Sized) -> int | None:
    """The number of batches that ``trainer.limit_..._batches`` leaves; None for all.

    Args:
        limit: a number of batches, or a share of them, above 0 and up to 1.0.
        loader: its length is the number of batches.
    """
    if isinstance(limit, int):
        return limit
    return None if limit == 1.0 else max(1, int(len(loader) * limit))


def loader_workers(value: int | str, gpu: bool, ranks: int = 1) -> int:
    """Number of loader processes.

    Args:
        value: ``data.num_workers``; ``auto`` is 0 on a CPU, where workers would compete with
            training for the cores.
        gpu: whether training uses a GPU.
        ranks: number of ranks on this machine, which share its cores.

    Raises:
        UserError: the value is neither ``auto`` nor a whole number.
    """
    if value == "auto":
        return min(8, max(1, usable_cores() // ranks)) if gpu else 0
    if type(value) is not int:
        raise UserError(f"data.num_workers={value}; allowed: auto, 0 or more.")
    return value
