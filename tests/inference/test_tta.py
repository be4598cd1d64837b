import pytest
import torch

from product_cls.core import view_names
from product_cls.core.errors import UserError
from product_cls.inference import tta
from product_cls.inference.tta import build_view, build_views, check_views

IMAGES = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).reshape(2, 3, 16, 16)


def test_flips_and_turns_undo_themselves() -> None:
    for name, times in (("hflip", 2), ("vflip", 2), ("rot90", 4), ("rot180", 2), ("rot270", 4)):
        images = IMAGES
        for _ in range(times):
            assert not images.equal(build_view(name)(images)[0])
            (images,) = build_view(name)(images)
        assert images.equal(IMAGES)


def test_hflip_mirrors_left_and_right() -> None:
    assert build_view("hflip")(IMAGES)[0][0, 0, 0, 0] == IMAGES[0, 0, 0, -1]


def test_five_crop_and_sizes() -> None:
    crops = build_view("five_crop")(IMAGES)
    assert [crop.shape for crop in crops] == [IMAGES.shape] * 5
    # Each corner's crop keeps that corner; bilinear resizing moves it by less than a pixel.
    assert crops[0][0, 0, 0, 0] < 1 and crops[3][0, 0, -1, -1] > IMAGES[0, 0].max() - 1
    (larger,) = build_view("size_24")(torch.zeros(1, 3, 16, 8))
    assert larger.shape == (1, 3, 24, 12)


def test_views_compose() -> None:
    both = build_view("hflip+five_crop")(IMAGES)
    assert len(both) == 5
    assert both[0].equal(build_view("five_crop")(IMAGES.flip(-1))[0])


def test_wrong_names() -> None:
    for names, words in (
        (["flip"], "'flip'; allowed: identity, hflip"),
        (["size_4"], "size_4"),
        (["identity", "identity"], "twice"),
        ([], "empty"),
    ):
        with pytest.raises(UserError, match=words):
            build_views(names)


def test_quarter_turns_need_square_pictures() -> None:
    check_views(["rot90", "hflip+rot270"], (32, 32))
    check_views(["identity", "hflip", "rot180", "five_crop", "size_48"], (32, 24))
    check_views(["identity"], (0, 0))  # the store refuses wrong sizes with its own message
    for name in ("rot90", "rot270", "hflip+rot90"):
        with pytest.raises(
            UserError,
            match=r"rot90 and tta=rot270 .* square .* 32 x 24 pixels; allowed: square pictures",
        ):
            check_views([name], (32, 24))


def test_the_names_are_those_of_the_views() -> None:
    assert tuple(tta.VIEWS) == view_names.NAMES
