"""What is seen in rendered pictures: geometry with figures derived by hand, light, groups."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from product_cls.data.rendered import build_catalogue
from product_cls.data.rendered.artwork import draw_atlas
from product_cls.data.rendered.geometry import (
    MARGIN,
    atlas_offsets,
    camera_distance,
    focal_length,
    march,
    surface_normals,
    texel_density,
    width_along,
)
from product_cls.data.rendered.picture import _place, draw_product
from product_cls.data.rendered.render import Lookup, lookup
from product_cls.data.rendered.shapes import FORMS
from product_cls.data.rendered.words import SIZES

BOX, CAN = FORMS["box", "tall", "regular"], FORMS["can", "drink", "regular"]


def extent(table: Lookup) -> tuple[float, float, float, float]:
    """Left, right, top, bottom of the product on the canvas, in rays from the canvas's centre."""
    y, x = np.nonzero(table.mask)
    half = table.backdrop.shape[0] / 2
    left, top = table.columns.start - half, table.rows.start - half
    return x.min() + left, x.max() + 1 + left, y.min() + top, y.max() + 1 + top


def texel_at(table: Lookup, x: float, y: float) -> tuple[float, float]:
    """Column and row of the atlas that the ray at (x, y), from the canvas's centre, sees."""
    half = table.backdrop.shape[0] // 2
    place = int(half + y) - table.rows.start, int(half + x) - table.columns.start
    column, row = table.texels[0][place]
    return float(column), float(row)


def test_front_of_a_box_fills_the_expected_rectangle() -> None:
    # The front plane is half the depth (0.24) nearer than the centre; similar triangles.
    table = lookup(BOX, 0, 0, 128)
    scale = focal_length(128) / (camera_distance(BOX) - 0.12)
    expected = (-0.35 * scale, 0.35 * scale, -0.5 * scale, 0.5 * scale)
    assert extent(table) == pytest.approx(expected, abs=1.5)


def test_centre_of_the_picture_is_the_centre_of_the_front() -> None:
    for shape, name in ((BOX, "front"), (CAN, "label")):
        index = [panel.name for panel in shape.panels].index(name)
        left, width, height = atlas_offsets(shape, texel_density(shape, 128))[index]
        column, row = texel_at(lookup(shape, 0, 0, 128), 0, 0)
        assert column == pytest.approx(left + width / 2, abs=2)
        if shape is BOX:  # the label of a can is not centred on its height
            assert row == pytest.approx(MARGIN + height / 2, abs=2)


def test_a_positive_roll_takes_the_front_to_the_right() -> None:
    # A quarter turn shows the left side; half a turn shows the back.
    places = atlas_offsets(BOX, texel_density(BOX, 128))
    for roll, index in ((90, 2), (180, 1), (270, 3)):
        left, width, _ = places[index]
        assert texel_at(lookup(BOX, roll, 0, 128), 0, 0)[0] == pytest.approx(
            left + width / 2, abs=2
        )
    # A can's label turned by 30 degrees shows what was 30 degrees to the left.
    left, width, _ = atlas_offsets(CAN, texel_density(CAN, 128))[0]
    column = texel_at(lookup(CAN, 30, 0, 128), 0, 0)[0]
    assert column == pytest.approx(left + width * (0.5 - 30 / 360), abs=2)


def share_of(table: Lookup, panel: str) -> float:
    """Share of the product's rays that see the panel of a can."""
    index = [p.name for p in CAN.panels].index(panel)
    left, width, _ = atlas_offsets(CAN, texel_density(CAN, 64))[index]
    columns = table.texels[0][table.mask > 0][:, 0]
    return float(((columns >= left - MARGIN) & (columns < left + width + MARGIN)).mean())


def test_lid_of_a_can_shows_from_above_only() -> None:
    shares = [share_of(lookup(CAN, 0, pitch, 64), "lid") for pitch in (0, 30, 60)]
    assert shares[0] == 0
    assert 0.05 < shares[1] < shares[2]


def test_every_pose_stays_in_the_frame_and_fills_it() -> None:
    for shape in FORMS.values():
        sides = []
        for pitch in (0, 30, 60):
            for roll in (0, 35, 70):
                left, right, top, bottom = extent(lookup(shape, roll, pitch, 64))
                # In shares of the frame (128 rays); the centring jitter adds 3 % of the side,
                # and the zoom up to 1 / 0.95.
                assert max(-left, right, -top, bottom) / 64 <= 0.87
                sides.append(max(right - left, bottom - top) / 128)
        assert 0.5 < np.mean(sides) < 0.85


def test_distance_is_a_distance() -> None:
    # 0.1 in front of the middle of a side, and in the middle of it: 0.1 outside, 0.12 inside.
    points = np.array([[0, 0], [-0.22, 0], [0, 0]], np.float32)
    assert BOX.distance(points) == pytest.approx([0.1, -0.12], abs=1e-6)
    points = np.array([[0, 0], [-0.385, -0.185], [0, 0]], np.float32)
    assert CAN.distance(points) == pytest.approx([0.1, -0.1], abs=1e-6)  # radius 0.285


def test_march_meets_a_sphere() -> None:
    def sphere(points: np.ndarray) -> np.ndarray:
        return np.sqrt((points * points).sum(0)) - np.float32(1)

    camera = np.array([[0], [-3], [0]], np.float32)
    directions = np.array([[0, 0.6, 1], [1, 0.8, 0], [0, 0, 0]], np.float32)
    travelled = march(sphere, camera, directions, np.zeros(3, np.float32), 9.0, 0.0)
    assert travelled == pytest.approx([2, 9, 9], abs=1e-3)  # the others pass it by
    point = camera + 2 * directions[:, :1]
    assert surface_normals(sphere, point)[:, 0] == pytest.approx([0, -1, 0], abs=1e-3)


def look_apart(first: Any, second: Any, pitch: float = 0) -> float:
    """Share of the pixels that differ clearly between two products in the same pose and light."""
    pictures = []
    for product in (first, second):
        shape = FORMS[product.shape, product.form, product.size]
        atlas = draw_atlas(product, 96)
        rng = np.random.default_rng(0)
        pictures.append(draw_product(lookup(shape, 0, pitch, 96), atlas, 96, rng).astype(int))
    return float((np.abs(pictures[0] - pictures[1]).max(2) > 40).mean())


def test_twins_differ_in_flavour_only_but_visibly() -> None:
    first, second, other = build_catalogue(3, seed=0, twins=2)
    assert first.twin_group == second.twin_group != other.twin_group
    assert (first.brand, first.form, first.base) == (second.brand, second.form, second.base)
    assert first.flavour != second.flavour and first.name_ko != second.name_ko
    assert 0.02 < look_apart(first, second) < 0.6
    assert look_apart(first, second, pitch=60) > 0.01


@pytest.mark.parametrize("form", sorted({(shape, form) for shape, form, _ in FORMS}))
def test_every_shape_and_its_sizes_look_different(form: tuple[str, str]) -> None:
    """All panels are drawn, every ray that meets the solid lands inside a panel, and sizes have
    other proportions, with the amount printed on them."""
    product = next(p for p in build_catalogue(600, seed=0, twins=4) if (p.shape, p.form) == form)
    proportions = []
    for size in SIZES:
        shape = FORMS[*form, size]
        atlas = draw_atlas(dataclasses.replace(product, size=size), 48)
        for roll, pitch in ((0, 0), (97.5, 30), (180, 60)):
            table = lookup(shape, roll, pitch, 48)
            seen = table.texels[0][table.mask > 0]
            assert seen.min() >= 0
            assert (seen < (atlas.shape[1], atlas.shape[0])).all()
            picture = draw_product(table, atlas, 48, np.random.default_rng(0))
            assert picture.shape == (48, 48, 3) and picture.std() > 5
        left, right, top, bottom = extent(lookup(shape, 0, 0, 96))
        proportions.append((bottom - top) / (right - left))
    assert min(abs(np.diff(sorted(proportions)))) > 0.04


def test_solids_are_solid() -> None:
    """Outside the distance is positive, inside negative, and never more than the way to a point of
    the surface: that is what sphere tracing needs."""
    rng = np.random.default_rng(0)
    for shape in FORMS.values():
        box = np.array([[shape.radius], [shape.radius], [shape.height / 2]])
        points = (rng.uniform(-1.5, 1.5, (3, 4000)) * box).astype(np.float32)
        distance = shape.distance(points)
        beyond = (np.hypot(points[0], points[1]) > shape.radius + 2e-3) | (
            np.abs(points[2]) > shape.height / 2 + 2e-3
        )
        assert (distance[beyond] > 0).all()
        assert (distance < 0).mean() > 0.03
        # No jump: two points are no nearer to each other than their distances differ.
        moved = points + rng.normal(0, 0.01, points.shape).astype(np.float32)
        step = np.sqrt(((moved - points) ** 2).sum(0))
        outside = (distance > 0) & (shape.distance(moved) > 0)
        slope = np.abs(shape.distance(moved) - distance)[outside] / step[outside]
        assert slope.max() < 1.05


def test_groups_show_several_items_of_which_none_leaves_the_frame() -> None:
    product = build_catalogue(1, seed=0, twins=1)[0]
    atlas = draw_atlas(product, 64)
    shape = FORMS[product.shape, product.form, product.size]
    for pitch in (0, 30, 60):
        table = lookup(shape, 0, pitch, 64)
        counts = set()
        for seed in range(20):
            group = _place(table, 64, np.random.default_rng(seed))
            counts.add(len(group))
            assert [item.scale for item in group] == sorted(item.scale for item in group)
            for scale, right, down in group:
                left, until, top, bottom = (edge * scale for edge in extent(table))
                assert max(abs(left + right), abs(until + right)) < 0.95 * 64
                assert max(abs(top + down), abs(bottom + down)) < 0.95 * 64
        assert counts == {2, 3}
        alone, several = (
            draw_product(table, atlas, 64, np.random.default_rng(3), items=items)
            for items in (0.0, 1.0)
        )
        assert np.abs(alone.astype(int) - several).mean() > 5


def test_scaled_items_have_no_dark_edge() -> None:
    # White items before a white backdrop in even light: all that could be dark is an artefact.
    table = lookup(BOX, 30, 0, 64)
    white = np.full_like(table.backdrop, 255)
    table = dataclasses.replace(
        table,
        shade=np.repeat(table.mask[:, :, None] // 255 * np.uint8(128), 3, 2),
        shine=np.zeros_like(table.shine),
        backdrop=white,
        shadow=white,
    )
    atlas = np.full_like(draw_atlas(build_catalogue(1, 0, 1)[0], 64), 255)
    for seed in range(4):
        picture = draw_product(table, atlas, 64, np.random.default_rng(seed), items=1.0, light=0.0)
        assert picture.min() > 210  # the backdrop's tint begins at 218


def test_width_along_a_bearing() -> None:
    # The tall box is 0.70 wide and 0.24 deep; a quarter turn swaps them.
    for roll, bearing, width in ((0, 0, 0.70), (0, 90, 0.24), (90, 0, 0.24), (180, 0, 0.70)):
        assert width_along(BOX, roll, bearing) == pytest.approx(width, abs=0.05)
    assert width_along(CAN, 30, 77) == pytest.approx(2 * 0.285, abs=0.03)


def test_light_colours_what_it_meets() -> None:
    shape = BOX
    even, standard = (lookup(shape, 30, 30, 64, light=light) for light in (0.0, 1.0))

    def spread(table: Lookup) -> float:
        return float(table.shade[table.mask > 0].astype(float).std())

    assert spread(standard) > 2 * spread(even)
    warm = standard.shade[standard.mask > 0].astype(int)
    assert (warm[:, 2] - warm[:, 0]).std() > 1  # red and blue part ways from side to side
    assert even.shine.max() == 0 < standard.shine.max()


def test_pitch_changes_the_picture() -> None:
    product = build_catalogue(2, seed=0, twins=2)[0]
    shape, atlas = FORMS[product.shape, product.form, product.size], draw_atlas(product, 64)
    low, high = (
        draw_product(lookup(shape, 0, pitch, 64), atlas, 64, np.random.default_rng(0)).astype(int)
        for pitch in (0, 60)
    )
    assert np.abs(low - high).mean() > 5
