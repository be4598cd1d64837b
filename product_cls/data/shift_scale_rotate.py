"""Shift, scale and rotation as the published recipes used them: both axes scaled alike."""

from typing import Any

import albumentations as A


class ShiftScaleRotate(A.ShiftScaleRotate):
    """albumentations' ``ShiftScaleRotate`` that keeps the aspect ratio of the picture.

    Since albumentations 2 it draws one scale for the width and another for the height, which
    changes the shape of a product. Version 1, which the published recipes used, drew one for both.

    Args:
        keep_ratio: scale width and height alike; false draws both, as albumentations 2 does.
        arguments: those of albumentations' class.

    Raises:
        ValueError: ``keep_ratio`` is neither true nor false, or albumentations refuses an argument.
    """

    def __init__(self, *, keep_ratio: bool = True, **arguments: Any) -> None:
        super().__init__(**arguments)
        if not isinstance(keep_ratio, bool):
            raise ValueError(f"keep_ratio={keep_ratio}; allowed: true, false")
        self.keep_ratio = keep_ratio

    def get_transform_init_args(self) -> dict[str, Any]:
        return {**super().get_transform_init_args(), "keep_ratio": self.keep_ratio}
