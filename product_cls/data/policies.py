"""torchvision's RandAugment and AutoAugment as pipeline steps that depend on the picture's seed.

torchvision draws from torch's global generator. If a step advanced it, dropout would depend on how
many pictures were augmented before, and on whether a worker did so. So the generator is seeded anew
for each picture, and its state is restored afterwards.
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

from product_cls.data.shift_scale_rotate import ShiftScaleRotate
from product_cls.data.viewpoint import Foreshorten, Keystone, LensShift, TurnCylinder

Fill = Annotated[int, Field(ge=0, le=255)]


def torchvision_name(operation: str) -> str:
    """torchvision's spelling of an operation: ``shear_x`` is ``ShearX``."""
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
    """Seed torch's global CPU generator within the block, and restore its state afterwards.

    ``torch.manual_seed`` would also seed the GPU's generator, which dropout draws from when
    pictures are loaded in the main process (no loader workers).
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


class _TorchvisionStep(A.ImageOnlyTransform):
    """Applies a torchvision transform of uint8 ``[3, H, W]`` to pictures uint8 ``[H, W, 3]``."""

    policy_transform: v2.Transform

    def get_params(self) -> dict[str, Any]:
        return {"seed": self.py_random.getrandbits(63)}

    def apply(self, img: np.ndarray, seed: int, **params: Any) -> np.ndarray:
        chw = torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1)))
        with torch_stream(seed):
            out = self.policy_transform(chw)
        return np.ascontiguousarray(out.numpy().transpose(1, 2, 0))


class RandAugment(_TorchvisionStep):
    """Random operations, all at one magnitude (Cubuk et al. 2020, arXiv 1909.13719).

    Args:
        num_ops: N, operations per picture, 1 or more; drawn with replacement.
        magnitude: M, 0 to 30. At 30, ``rotate`` turns by 30 degrees and ``shear_*`` shears by 0.3.
        operations: names from ``OPERATIONS`` to draw from.
        fill: grey value of pixels from outside the picture, 0 to 255.
        p: share of the pictures to change, in [0, 1].
    """

    class InitSchema(BaseTransformInitSchema):
        num_ops: int = Field(ge=1)
        magnitude: int = Field(ge=0, le=30)
        operations: Sequence[str] = Field(min_length=1)
        fill: Fill

        @field_validator("operations")
        @classmethod
        def check_operations(cls, operations: Sequence[str]) -> Sequence[str]:
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
        transform = v2.RandAugment(num_ops, magnitude, interpolation="bilinear", fill=fill)
        # Operations can be left out only by this private attribute; a test checks that it exists.
        space = transform._AUGMENTATION_SPACE
        transform._AUGMENTATION_SPACE = {
            name: space[name] for name in map(torchvision_name, operations)
        }
        self.policy_transform = transform


class AutoAugment(_TorchvisionStep):
    """A random pair of operations from a searched policy (Cubuk et al. 2019, arXiv 1805.09501).

    Args:
        policy: data set of the search that found the policy: ``imagenet``, ``cifar10`` or ``svhn``.
        fill: grey value of pixels from outside the picture, 0 to 255.
        p: share of the pictures to change, in [0, 1].
    """

    class InitSchema(BaseTransformInitSchema):
        policy: Literal["imagenet", "cifar10", "svhn"]
        fill: Fill

    def __init__(self, policy: str = "imagenet", fill: int = 128, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.policy_transform = v2.AutoAugment(
            v2.AutoAugmentPolicy(policy), interpolation="bilinear", fill=fill
        )


STEPS: dict[str, type[A.BasicTransform]] = {
    "RandAugment": RandAugment,
    "AutoAugment": AutoAugment,
    "ShiftScaleRotate": ShiftScaleRotate,
    "Foreshorten": Foreshorten,
    "Keystone": Keystone,
    "LensShift": LensShift,
    "TurnCylinder": TurnCylinder,
}
