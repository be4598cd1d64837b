"""RandAugment and AutoAugment as steps of the pipeline: torchvision's, drawn from a picture's seed.

torchvision draws from torch's global stream. A step that moved it would shift dropout by how many
pictures were augmented before, in this process or in a worker; so each picture gets the stream to
itself, seeded, and it is put back as it was.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import albumentations as A
import numpy as np
import torch
from albumentations.core.transforms_interface import BaseTransformInitSchema
from pydantic import Field, field_validator
from torchvision.transforms import v2

Fill = Annotated[int, Field(ge=0, le=255)]


def torchvision_name(operation: str) -> str:
    """``shear_x`` as torchvision writes it: ``ShearX``."""
    return "".join(word.capitalize() for word in operation.split("_"))


OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
)


@contextmanager
def torch_stream(seed: int) -> Iterator[None]:
    """torch's global stream of the CPU, from ``seed``; afterwards it goes on as if not used.

    ``torch.manual_seed`` would also seed the GPU's, which in the main process (data.num_workers=0)
    dropout draws from.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


class _TorchvisionStep(A.ImageOnlyTransform):
    """A transform of torchvision that takes uint8 ``[3, H, W]``."""

    made: v2.Transform

    def get_params(self) -> dict[str, Any]:
        return {"seed": self.py_random.getrandbits(63)}

    def apply(self, img: np.ndarray, seed: int, **params: Any) -> np.ndarray:
        with torch_stream(seed):
            out = self.made(torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1))))
        return np.ascontiguousarray(out.numpy().transpose(1, 2, 0))


class RandAugment(_TorchvisionStep):
    """Operations drawn at random, all at one magnitude (Cubuk et al. 2020, arXiv 1909.13719).

    Args:
        num_ops: N, operations a picture, 1 or more; drawn with replacement.
        magnitude: M, 0 to 30. At 30 ``rotate`` turns by 30 degrees and ``shear`` by .3.
        operations: which to draw from, of ``OPERATIONS``.
        fill: 0 to 255, what comes into the picture from outside.
        p: share of the pictures.
    """

    class InitSchema(BaseTransformInitSchema):
        num_ops: int = Field(ge=1)
        magnitude: int = Field(ge=0, le=30)
        operations: Sequence[str] = Field(min_length=1)
        fill: Fill

        @field_validator("operations")
        @classmethod
        def known(cls, operations: Sequence[str]) -> Sequence[str]:
            if unknown := [name for name in operations if name not in OPERATIONS]:
                raise ValueError(f"'{unknown[0]}' is none of {', '.join(OPERATIONS)}")
            return operations

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        operations: Sequence[str] = OPERATIONS,
        fill: int = 128,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        made = v2.RandAugment(num_ops, magnitude, interpolation="bilinear", fill=fill)
        # Not public, but there is no other way to leave an operation out; a test holds it to that.
        space = made._AUGMENTATION_SPACE
        made._AUGMENTATION_SPACE = {name: space[name] for name in map(torchvision_name, operations)}
        self.made = made


class AutoAugment(_TorchvisionStep):
    """One of the pairs of operations that a search found (Cubuk et al. 2019, arXiv 1805.09501).

    Args:
        policy: the data that the search was made for: imagenet, cifar10 or svhn.
        fill: 0 to 255, what comes into the picture from outside.
        p: share of the pictures.
    """

    class InitSchema(BaseTransformInitSchema):
        policy: Literal["imagenet", "cifar10", "svhn"]
        fill: Fill

    def __init__(self, policy: str = "imagenet", fill: int = 128, p: float = 0.5) -> None:
        super().__init__(p=p)
        learnt = v2.AutoAugmentPolicy(policy)
        self.made = v2.AutoAugment(learnt, interpolation="bilinear", fill=fill)


STEPS: dict[str, type[A.BasicTransform]] = {
    "RandAugment": RandAugment,
    "AutoAugment": AutoAugment,
}
