"""A network rebuilt from a checkpoint, to score new pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from product_cls.core.checkpoint_file import read_checkpoint
from product_cls.core.errors import UserError, reason
from product_cls.data.pictures import load_picture, resize
from product_cls.models.network import Network
from product_cls.tasks import Task, build_task


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
            UserError: the file is missing, damaged or not a product_cls checkpoint.
        """
        if not checkpoint.is_file():
            raise UserError(f"There is no checkpoint {checkpoint}.")
        try:
            content = read_checkpoint(checkpoint)
            specs, state = content["hyper_parameters"], content["state_dict"]
            spec, image = specs["network"], specs["image"]
            task = build_task(specs["task"])
            network = Network.from_spec(spec, task.head)
            prefix = "network."
            network.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        except UserError:
            raise
        except Exception as error:
            # A checkpoint of another program lacks what is read here, in many ways.
            first_sentence = reason(error).partition(". ")[0]
            raise UserError(
                f"{checkpoint} is not a product_cls checkpoint: {first_sentence}."
            ) from None
        return cls(network.eval(), task, tuple(image["size"]), image["fit"])

    def picture(self, path: Path) -> Tensor:
        """A picture as training saw it before augmentation, uint8 ``[3, H, W]``.

        Raises:
            OSError: the picture cannot be decoded.
        """
        pixels = resize(load_picture(path), self.size, self.fit)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
