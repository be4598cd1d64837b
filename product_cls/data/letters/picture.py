"""Draw one picture: letters in many fonts, sizes and rotations, with clutter and noise."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from product_cls.data.letters.glyphs import ALPHABET, SIDE, WEIGHTS, glyph

PAINTER = 1  # version of the drawing; raise it whenever a change alters a picture
SMALLEST = 256  # smaller pictures are drawn at this size and downsampled
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Style:
    """Settings shared by all pictures of a set.

    Attributes:
        size: side in pixels.
        seed: selects the set.
        fewest, most: number of different letters per picture, 1 to 26.
        noise: strength of noise and clutter, 0 (none) to 2.
        fonts: number of fonts, 1 to ``FONTS``.
        turn: largest rotation of a letter, in degrees.
    """

    size: int
    seed: int
    fewest: int
    most: int
    noise: float
    fonts: int
    turn: float


def letters_of(style: Style, split: str, number: int) -> list[str]:
    """Letters shown by a picture, in alphabetical order."""
    return sorted(_chosen(_generator(style, split, number), style))


def draw_letters(style: Style, split: str, number: int) -> np.ndarray:
    """Draw a grey picture, uint8 ``[size, size]``; the same arguments give the same picture.

    Each letter is placed in a grid cell, up to a seventh of a cell off centre, then rotated,
    sheared and stretched. It differs from its background by 70 to 150 grey levels.
    """
    rng = _generator(style, split, number)
    letters = _chosen(rng, style)
    side = max(style.size, SMALLEST)
    ground = rng.uniform(40, 215)
    canvas: np.ndarray = ground + _cloud(rng, side, 5, 14.0)
    _clutter(rng, canvas, ground, style.noise)
    cells = math.ceil(math.sqrt(style.most))
    for letter, cell in zip(letters, rng.permutation(cells**2), strict=False):
        row, column = divmod(int(cell), cells)
        across, down = (np.array((column, row)) + 0.5 + rng.uniform(-0.14, 0.14, 2)) / cells
        _stamp(rng, canvas, letter, (across * side, down * side), side / cells, ground, style)
    _cross_out(rng, canvas, ground, style.noise)
    canvas += _cloud(rng, side, 16, 8.0 * style.noise)
    if side != style.size:
        canvas = cv2.resize(canvas, (style.size, style.size), interpolation=cv2.INTER_AREA)
    grain = rng.uniform(10, 30) * style.noise
    canvas += grain * rng.standard_normal(canvas.shape, np.float32)
    dots = rng.random(canvas.shape, np.float32)
    share = 0.015 * style.noise * rng.random()
    canvas[dots < share], canvas[dots > 1 - share] = 0, 255
    return canvas.clip(0, 255).round().astype(np.uint8)


def _generator(style: Style, split: str, number: int) -> np.random.Generator:
    return np.random.default_rng((style.seed, SPLITS.index(split), number))


def _chosen(rng: np.random.Generator, style: Style) -> list[str]:
    count = int(rng.integers(style.fewest, style.most + 1))
    return [ALPHABET[k] for k in rng.permutation(len(ALPHABET))[:count]]


def _cloud(rng: np.random.Generator, side: int, cells: int, strength: float) -> np.ndarray:
    """Smooth brightness variation [side, side] with ``cells`` control points per side."""
    coarse = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) * strength


def _ink(rng: np.random.Generator, ground: float, least: float, most: float) -> float:
    """Grey level that differs from ``ground`` and stays within the range of a picture."""
    step = rng.uniform(least, most)
    lighter = rng.random() < 0.5
    if ground + step > 250:
        lighter = False
    elif ground - step < 5:
        lighter = True
    return ground + step if lighter else ground - step


def _stamp(
    rng: np.random.Generator,
    canvas: np.ndarray,
    letter: str,
    centre: tuple[float, float],
    cell: float,
    ground: float,
    style: Style,
) -> None:
    """Draw a letter, 0.6 to 0.85 of a cell high before rotation."""
    x, y = centre
    mask = glyph(letter, int(rng.integers(style.fonts)), int(rng.integers(len(WEIGHTS))))
    height = cell * rng.uniform(0.6, 0.85)
    turn, shear = np.radians(style.turn * rng.uniform(-1, 1)), rng.uniform(-0.15, 0.15)
    stretch = rng.uniform(0.85, 1.15)
    scale = height / (SIDE / 2)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = turned @ np.array([[stretch, shear], [0, 1]]) * scale
    reach = int(SIDE * scale) + 2
    left, top = int(x) - reach // 2, int(y) - reach // 2
    move = np.array([x - left, y - top]) - matrix @ np.array([SIDE / 2, SIDE / 2])
    small = cv2.warpAffine(mask, np.column_stack([matrix, move]), (reach, reach))
    rows = slice(max(top, 0), min(top + reach, len(canvas)))
    columns = slice(max(left, 0), min(left + reach, len(canvas)))
    seen = small[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    share = seen.astype(np.float32) / 255
    place = canvas[rows, columns]
    place += share * (_ink(rng, ground, 70, 150) - place)


def _clutter(rng: np.random.Generator, canvas: np.ndarray, ground: float, noise: float) -> None:
    """Draw dots, arcs and bars behind the letters, with less contrast than the letters."""
    side = len(canvas)
    for _ in range(rng.poisson(14 * noise)):
        x, y = (int(v) for v in rng.uniform(0, side, 2))
        grey = _ink(rng, ground, 25, 70)
        thick, reach = int(rng.integers(1, 4)), int(rng.uniform(4, side / 12))
        kind = rng.integers(3)
        if kind == 0:
            cv2.circle(canvas, (x, y), reach // 2, grey, int(rng.choice((-1, thick))), cv2.LINE_AA)
        elif kind == 1:
            turn, span = rng.uniform(0, 360), rng.uniform(40, 150)
            cv2.ellipse(canvas, (x, y), (reach, reach), turn, 0, span, grey, thick, cv2.LINE_AA)
        else:
            turn = rng.uniform(0, np.pi)
            end = int(x + reach * np.cos(turn)), int(y + reach * np.sin(turn))
            cv2.line(canvas, (x, y), end, grey, thick, cv2.LINE_AA)


def _cross_out(rng: np.random.Generator, canvas: np.ndarray, ground: float, noise: float) -> None:
    """Draw thin lines over the whole picture."""
    side = len(canvas)
    for _ in range(rng.poisson(2 * noise)):
        first, second = (tuple(int(v) for v in rng.uniform(0, side, 2)) for _ in range(2))
        cv2.line(canvas, first, second, _ink(rng, ground, 40, 110), 1, cv2.LINE_AA)
