"""Test-time augmentation: the views of a batch over which scores are averaged."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from product_cls.core.errors import UserError
from product_cls.core.view_names import SIZE, check_view_names, steps_of

# From a batch [B, C, H, W] to one or more such batches.
View = Callable[[Tensor], list[Tensor]]

CROP_SHARE = 0.875  # of each side, for five_crop


def _five_crop(images: Tensor) -> list[Tensor]:
    """The four corners and the centre, each resized to the full size."""
    height, width = images.shape[-2:]
    h, w = round(height * CROP_SHARE), round(width * CROP_SHARE)
    corners = [(0, 0), (0, width - w), (height - h, 0), (height - h, width - w)]
    centre = ((height - h) // 2, (width - w) // 2)
    return [
        _resized(images[..., y : y + h, x : x + w], (height, width)) for y, x in (*corners, centre)
    ]


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _scaled(images: Tensor, longer: int) -> list[Tensor]:
    height, width = images.shape[-2:]
    scale = longer / max(height, width)
    return [_resized(images, (round(height * scale), round(width * scale)))]


def _quarter_turns(turns: int) -> View:
    """Rotation by quarter turns, counter-clockwise.

    Only for square pictures: others would take on a shape that the network has never seen.
    """

    def view(images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        if height != width:
            raise UserError(
                f"tta=rot90 and tta=rot270 need square pictures, and these have {height} x {width} "
                f"pixels; allowed: square pictures, or other views."
            )
        return [torch.rot90(images, turns, (-2, -1))]

    return view


VIEWS: dict[str, View] = {
    "identity": lambda images: [images],
    "hflip": lambda images: [images.flip(-1)],
    "vflip": lambda images: [images.flip(-2)],
    "rot90": _quarter_turns(1),
    "rot180": lambda images: [torch.rot90(images, 2, (-2, -1))],
    "rot270": _quarter_turns(3),
    "five_crop": _five_crop,
}


def _single(word: str) -> View:
    if match := SIZE.fullmatch(word):
        longer = int(match[1])
        return lambda images: _scaled(images, longer)
    return VIEWS[word]


def build_view(name: str) -> View:
    """A view by name: ``hflip``, ``size_128``, ``hflip+size_128``.

    Returns:
        A function from a batch float32 ``[B, C, H, W]`` to one or more such batches.

    Raises:
        UserError: an unknown name.
    """
    steps = [_single(word) for word in steps_of(name)]

    def view(images: Tensor) -> list[Tensor]:
        batches = [images]
        for step in steps:
            batches = [out for batch in batches for out in step(batch)]
        return batches

    return view


def build_views(names: Sequence[str]) -> dict[str, View]:
    """Views by name.

    Raises:
        UserError: no names, a repeated name, or an unknown name.
    """
    check_view_names(names)
    return {name: build_view(name) for name in names}


def check_views(
    names: Sequence[str],
    size: tuple[int, int],
    takes: Callable[[tuple[int, int]], None] = lambda size: None,
) -> None:
    """Check views before any picture is read.

    Args:
        names: names of the views.
        size: height and width of the pictures in pixels; other checks refuse sizes that are too
            small.
        takes: raises ValueError for a height and width that the network does not take.

    Raises:
        UserError: ``build_views`` refuses the names, or a view does not suit the size or the
            network.
    """
    # Shapes are enough, and take no memory.
    blank = torch.zeros(1, 3, max(size[0], 8), max(size[1], 8), device="meta")
    for name, view in build_views(names).items():
        for batch in view(blank):
            try:
                takes((batch.shape[-2], batch.shape[-1]))
            except ValueError as error:
                raise UserError(f"tta={name}: {error}.") from None
