"""Solids of revolution: cans, bottles and cups."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from product_cls.data.rendered.shapes.base import Floats, Panel, Shape
from product_cls.data.rendered.shapes.outline import Vertex, middle, section_distance

CHUNK = 8192  # points per step, so that intermediate arrays stay in the CPU cache


class Band(NamedTuple):
    """A panel, by index, wrapped around the axis from height ``top`` down to ``bottom``."""

    panel: int
    top: float
    bottom: float


class Disc(NamedTuple):
    """A panel, by index, on top: above height ``above`` and within ``radius`` of the axis."""

    panel: int
    radius: float
    above: float


class Turned:
    """An outline rotated about z, with artwork in bands around it and a disc on top."""

    period = 0.0

    def __init__(
        self,
        outline: Sequence[Vertex],
        panels: tuple[Panel, ...],
        bands: Sequence[Band],
        disc: Disc,
    ) -> None:
        """Args:
        outline: from the axis at the bottom, -height / 2, to the axis at the top.
        bands: from the top down, without gaps.
        """
        self.outline, self.panels, self.disc = tuple(outline), panels, disc
        self.height = max(v.z for v in outline) - outline[0].z
        self.radius = max(v.r for v in (*outline, *map(middle, outline, outline[1:])))
        self._panels = np.array([band.panel for band in bands], np.intp)
        self._tops = np.array([band.top for band in bands], np.float32)
        self._bottoms = np.array([band.bottom for band in bands], np.float32)

    def distance(self, points: Floats) -> Floats:
        result = np.empty(points.shape[1], np.float32)
        for start in range(0, result.size, CHUNK):
            x, y, z = points[:, start : start + CHUNK]
            r = np.sqrt(x * x + y * y)
            result[start : start + CHUNK] = section_distance(self.outline, r, z)
        return result

    def texture(self, points: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        x, y, z = points
        band = np.zeros(z.shape, np.intp)
        for bottom in self._bottoms[:-1]:
            band += z < bottom
        panel = self._panels[band]
        u = np.arctan2(x, -y) / np.float32(2 * np.pi) + np.float32(0.5)  # front at u = 0.5
        v = (self._tops[band] - z) / (self._tops - self._bottoms)[band]
        np.clip(v, 0, 1, out=v)
        index, radius, above = self.disc
        # Points lie slightly off the surface; without the margin the edge would be speckled.
        reach = np.float32(radius + 2e-3) ** 2
        top = np.flatnonzero((z > above) & (x * x + y * y < reach))
        panel[top] = index
        u[top] = x[top] / np.float32(2 * radius) + np.float32(0.5)
        v[top] = np.float32(0.5) - y[top] / np.float32(2 * radius)
        return panel, u, v


def can(
    radius: float,
    height: float,
    *,
    neck: float,
    shoulder: float,
    foot: float,
    rim: float = 0.018,
    recess: float = 0.03,
) -> Turned:
    """A can: a wrapped label between bare metal ends.

    Args:
        radius, height: of the whole can.
        neck: radius of the lid's rim.
        shoulder, foot: heights of the tapered bare metal above and below the label.
        rim: width of the rim.
        recess: depth of the lid below the rim.
    """
    top, bottom = height / 2, -height / 2
    label_top, label_bottom, inner = top - shoulder, bottom + foot, neck - rim
    outline = (
        Vertex(0, bottom),
        Vertex(neck, bottom),
        Vertex(radius, label_bottom),
        Vertex(radius, label_top),
        Vertex(neck, top - rim),
        Vertex(neck, top),
        Vertex(inner, top),
        Vertex(inner, top - recess),
        Vertex(0, top - recess),
    )
    panels = (
        Panel("label", 2 * np.pi * radius, label_top - label_bottom, 0.55),
        Panel("lid", 2 * inner, 2 * inner, 0.8),
        Panel("metal", 0.4, 0.1, 0.8),
    )
    bands = (
        Band(2, top, label_top),
        Band(0, label_top, label_bottom),
        Band(2, label_bottom, bottom),
    )
    return Turned(outline, panels, bands, Disc(1, inner, 0))


def _slope(outer: float, low: float, inner: float, high: float, share: float) -> list[Vertex]:
    """A shoulder of two arcs, vertical at both ends; ``share`` is the lower, convex part."""
    bulge = float(np.tan(np.arctan2(outer - inner, high - low) / 2))
    middle = outer + share * (inner - outer), low + share * (high - low)
    return [Vertex(outer, low, bulge), Vertex(*middle, -bulge), Vertex(inner, high)]


def bottle(
    radius: float,
    height: float,
    *,
    cap: tuple[float, float],
    neck: tuple[float, float],
    shoulder: tuple[float, float],
    label: tuple[float, float],
    ring: float = 0.0,
) -> Turned:
    """A bottle or jar: a wrapped label, bare plastic or glass around it, and a screw cap.

    Args:
        radius, height: of the whole bottle.
        cap: radius and height.
        neck: radius and height of its vertical part, including the ring.
        shoulder: height, and the share of it that is convex.
        label: heights of the label's lower and upper edge above the bottom.
        ring: width by which the ring under the cap exceeds the cap; 0 for no ring.
    """
    top, bottom, corner = height / 2, -height / 2, 0.15 * radius
    cap_radius, cap_bottom = cap[0], top - cap[1]
    round_edge = min(0.03, cap[1] / 3)
    shoulder_top = cap_bottom - neck[1]
    outline = [
        Vertex(0, bottom),
        Vertex(radius - corner, bottom, 0.4142),
        Vertex(radius, bottom + corner),
        *_slope(radius, shoulder_top - shoulder[0], neck[0], shoulder_top, shoulder[1]),
    ]
    if ring:
        outline += [
            Vertex(neck[0], cap_bottom - 0.016),
            Vertex(cap_radius + ring, cap_bottom - 0.016),
            Vertex(cap_radius + ring, cap_bottom),
        ]
    else:
        outline += [Vertex(neck[0], cap_bottom)]
    outline += [
        Vertex(cap_radius, cap_bottom),
        Vertex(cap_radius, top - round_edge, 0.4142),
        Vertex(cap_radius - round_edge, top),
        Vertex(0, top),
    ]
    label_bottom, label_top = bottom + label[0], bottom + label[1]
    cap_edge = cap_bottom + 0.003  # above the ring's upper side, which must get the ring's artwork
    flat, around = 2 * (cap_radius - round_edge / 2), 2 * np.pi * radius
    panels = (
        Panel("bottle label", around, label_top - label_bottom, 0.5),
        Panel("bottle shoulder", around / 2, cap_edge - label_top, 0.9),
        Panel("bottle foot", around / 2, label[0], 0.9),
        Panel("bottle cap side", 2 * np.pi * cap_radius, cap[1], 0.6),
        Panel("bottle cap top", flat, flat, 0.4),
    )
    bands = (
        Band(3, top, cap_edge),
        Band(1, cap_edge, label_top),
        Band(0, label_top, label_bottom),
        Band(2, label_bottom, bottom),
    )
    return Turned(outline, panels, bands, Disc(4, flat / 2, top - round_edge / 2))


def cup(
    name: str, radius: float, height: float, *, foot: float, rim: tuple[float, float], gloss: float
) -> Turned:
    """A cup that widens upwards, with a lid sealed onto its rim.

    Args:
        name: prefix of the panel names.
        radius, height: of the whole cup; the rim is its widest part.
        foot: radius of the wall at the bottom.
        rim: width by which it stands out, and its height.
        gloss: of the lid.
    """
    top, bottom = height / 2, -height / 2
    wall, low, high = radius - rim[0], bottom + 0.045, top - rim[1]
    lid = radius - rim[1] / 2
    outline = (
        Vertex(0, bottom),
        Vertex(foot - 0.022, bottom),
        Vertex(foot - 0.016, low - 0.008),
        Vertex(foot, low),
        Vertex(wall, high),
        Vertex(lid, high, 1.0),
        Vertex(lid, top),
        Vertex(lid - 0.02, top),
        Vertex(lid - 0.035, top - 0.01),
        Vertex(0, top - 0.01),
    )
    panels = (
        Panel(f"{name} label", np.pi * (wall + foot), high - low, 0.35),
        Panel(f"{name} lid", 2 * lid, 2 * lid, gloss),
        Panel(f"{name} rim", 0.4, 0.1, 0.5),
        Panel(f"{name} foot", 0.4, 0.1, 0.3),
    )
    edge = high - 0.003  # below the rim's underside
    bands = (Band(2, top, edge), Band(0, edge, low - 0.002), Band(3, low - 0.002, bottom))
    return Turned(outline, panels, bands, Disc(1, lid, top - 0.016))


CANS: dict[tuple[str, str, str], Shape] = {
    ("can", "drink", "small"): can(0.27, 0.76, neck=0.225, shoulder=0.08, foot=0.055),
    ("can", "drink", "regular"): can(0.285, 1.0, neck=0.235, shoulder=0.09, foot=0.06),
    ("can", "drink", "large"): can(0.285, 1.28, neck=0.235, shoulder=0.09, foot=0.06),
    ("can", "food", "small"): can(0.40, 0.58, neck=0.40, shoulder=0.03, foot=0.03),
    ("can", "food", "regular"): can(0.40, 0.86, neck=0.40, shoulder=0.03, foot=0.03),
    ("can", "food", "large"): can(0.42, 1.06, neck=0.42, shoulder=0.03, foot=0.03),
}

BOTTLES: dict[tuple[str, str, str], Shape] = {
    ("bottle", "drink", "small"): bottle(
        0.215, 0.82, cap=(0.098, 0.09), neck=(0.08, 0.04), shoulder=(0.17, 0.55),
        label=(0.12, 0.5), ring=0.014,
    ),
    ("bottle", "drink", "regular"): bottle(
        0.2, 1.08, cap=(0.085, 0.085), neck=(0.07, 0.04), shoulder=(0.25, 0.55),
        label=(0.15, 0.68), ring=0.013,
    ),
    ("bottle", "drink", "large"): bottle(
        0.215, 1.42, cap=(0.075, 0.08), neck=(0.062, 0.04), shoulder=(0.32, 0.55),
        label=(0.2, 0.94), ring=0.013,
    ),
    ("bottle", "sauce", "small"): bottle(
        0.34, 0.66, cap=(0.285, 0.11), neck=(0.265, 0.02), shoulder=(0.1, 0.6), label=(0.07, 0.42)
    ),
    ("bottle", "sauce", "regular"): bottle(
        0.3, 0.86, cap=(0.235, 0.12), neck=(0.215, 0.02), shoulder=(0.12, 0.6), label=(0.08, 0.58)
    ),
    ("bottle", "sauce", "large"): bottle(
        0.28, 1.12, cap=(0.19, 0.12), neck=(0.17, 0.025), shoulder=(0.18, 0.6), label=(0.09, 0.76)
    ),
}  # fmt: skip
_BOWL_RIM, _POT_RIM = (0.03, 0.045), (0.028, 0.022)
CUPS: dict[tuple[str, str, str], Shape] = {
    ("cup", "bowl", "small"): cup("cup", 0.5, 0.5, foot=0.36, rim=_BOWL_RIM, gloss=0.4),
    ("cup", "bowl", "regular"): cup("cup", 0.47, 0.7, foot=0.34, rim=_BOWL_RIM, gloss=0.4),
    ("cup", "bowl", "large"): cup("cup", 0.44, 0.94, foot=0.3, rim=_BOWL_RIM, gloss=0.4),
    ("cup", "pot", "small"): cup("pot", 0.37, 0.6, foot=0.27, rim=_POT_RIM, gloss=0.6),
    ("cup", "pot", "regular"): cup("pot", 0.34, 0.82, foot=0.24, rim=_POT_RIM, gloss=0.6),
    ("cup", "pot", "large"): cup("pot", 0.31, 1.06, foot=0.22, rim=_POT_RIM, gloss=0.6),
}
