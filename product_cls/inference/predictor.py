"""A network rebuilt from a checkpoint, to score new pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from product_cls.core.checkpoint_file import read_checkpoint
from product_cls.core.errors import UserError, reason
from product_cls.core.names import shown
from product_cls.data.pictures import check_shape, load_picture, resize
from product_cls.models.lora import has_adapters
from product_cls.models.network import Network
from product_cls.tasks import Task, build_task


def _checked_image(image: Any) -> tuple[tuple[int, int], Any]:
    """Size (height, width) and fit of a checkpoint's pictures.

    Raises:
        ValueError: a size or a fit that no training can have.
    """
    height, width = image["size"]
    if type(height) is not int or type(width) is not int:
        raise ValueError(f"image.size={shown(image['size'])}; allowed: two whole numbers")
    check_shape((height, width), image["fit"])
    return (height, width), image["fit"]


def _check_size(spec: Any, task: Task, weights: dict[str, Tensor]) -> None:
    """Check that a network is not larger than its weights, before its memory is allocated.

    A damaged or hostile checkpoint can ask for an embedding of 10^9 numbers.

    Raises:
        ValueError: a layer has another shape than its weights.
    """
    with torch.device("meta"):  # shapes without numbers
        planned = Network.from_spec(spec, task.head).state_dict()
    for name, tensor in planned.items():
        held = weights.get(name)
        if held is None or held.shape != tensor.shape:
            what = "does not hold it" if held is None else f"holds {list(held.shape)}"
            raise ValueError(f"{name} is to be of shape {list(tensor.shape)}, and the file {what}")


@dataclass(frozen=True)
class Predictor:
    """A network with its task and preprocessing.

    Attributes:
        network: in evaluation mode.
        task: turns the network's outputs into scores and decisions.
        size: height and width in pixels that pictures are resized to.
        fit: how pictures are resized, see ``data.pictures.resize``.
    """

    network: Network
    task: Task
    size: tuple[int, int]
    fit: Any

    @classmethod
    def load(cls, checkpoint: Path) -> "Predictor":
        """Rebuild a network from its checkpoint alone, on the CPU.

        Raises:
            UserError: the file is missing, damaged or not a product_cls checkpoint, or weights in
                it are NaN or infinite.
        """
        if not checkpoint.is_file():
            raise UserError(f"There is no checkpoint {checkpoint}.")
        try:
            content = read_checkpoint(checkpoint)
            specs, state = content["hyper_parameters"], content["state_dict"]
            spec, image = specs["network"], specs["image"]
            size, fit = _checked_image(image)  # before anything of that size is allocated
            odd = [k for k, v in state.items() if not torch.isfinite(v).all()]
            task = build_task(specs["task"])
            prefix = "network."
            weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if has_adapters(weights):
                raise UserError(
                    f"{checkpoint} holds LoRA's matrices, which a run merges into its weights at "
                    f"its end; let the run finish and use its best.ckpt."
                )
            _check_size(spec, task, weights)
            network = Network.from_spec(spec, task.head)
            network.load_state_dict(weights)
        except UserError:
            raise
        except Exception as error:
            # A checkpoint of another program lacks what is read here, in many ways.
            first_sentence = reason(error).partition(". ")[0]
            raise UserError(
                f"{checkpoint} is not a product_cls checkpoint: {first_sentence}."
            ) from None
        if odd:
            raise UserError(
                f"{checkpoint} holds weights that are NaN or infinite ({shown(odd[0])}): its "
                "training has diverged, or the file is damaged."
            )
        return cls(network.eval(), task, size, fit)

    def picture(self, path: Path) -> Tensor:
        """A picture as training saw it before augmentation, uint8 ``[3, H, W]``.

        Raises:
            OSError: the picture cannot be decoded.
        """
        pixels = resize(load_picture(path), self.size, self.fit)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
