"""Camera and lamp positions, and ray tracing of solids.

For lengths and the product's frame see `shapes.base`. The camera moves in the plane x = 0 of the
room. The product turns about z; a positive roll moves its front to the viewer's right.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from product_cls.data.rendered.shapes.base import Floats, Shape

SUPERSAMPLE = 2  # rays along each side of an output pixel, averaged for anti-aliasing
CANVAS = 2.4  # side of the traced square in output sides: SUPERSAMPLE plus room for jitter
FIELD_OF_VIEW = 28.0  # full angle in degrees: a short telephoto, as in product photography
FILL = 0.86  # largest share of the frame's side that a product fills, over all rolls and PITCHES
PITCHES = (0.0, 30.0, 60.0)
MARGIN = 2  # texels around each atlas panel, so that interpolation never reads a neighbour


def camera_distance(shape: Shape) -> float:
    """Distance from the camera to the product's centre, the same for all poses of a shape.

    At this distance the bounding cylinder fills `FILL` of the frame in the pose where it looks
    largest.
    """
    angle = np.linspace(0, 2 * np.pi, 64)
    x = np.tile(shape.radius * np.sin(angle), 2)
    y = np.tile(shape.radius * np.cos(angle), 2)
    z = np.repeat((shape.height / 2, -shape.height / 2), 64)
    needed = 0.0
    for pitch in np.radians(PITCHES):
        up = y * np.sin(pitch) + z * np.cos(pitch)
        nearer = z * np.sin(pitch) - y * np.cos(pitch)
        edge = FILL * np.tan(np.radians(FIELD_OF_VIEW / 2))
        needed = max(needed, float((np.maximum(np.abs(x), np.abs(up)) / edge + nearer).max()))
    return needed


@lru_cache(maxsize=64)
def _footprint(shape: Shape) -> Floats:
    """Floor positions [2, N] covered by the solid, from a grid of points inside it."""
    across, up = np.linspace(-shape.radius, shape.radius, 41), np.linspace(-0.5, 0.5, 11)
    x, y, z = np.meshgrid(across, across, up * shape.height, indexing="ij")
    points = np.stack([x, y, z]).reshape(3, -1).astype(np.float32)
    return points[:2, shape.distance(points) < shape.radius / 40]


def width_along(shape: Shape, roll: float, bearing: float) -> float:
    """Width of the product's footprint along a direction of the room.

    Two products with the same roll that are this far apart along the direction do not touch.

    Args:
        roll: of the product, in degrees.
        bearing: direction in degrees from the right; 90 points away from the camera.
    """
    angle = np.radians(bearing - roll)
    places = np.cos(angle) * _footprint(shape)[0] + np.sin(angle) * _footprint(shape)[1]
    return float(places.max() - places.min())


def focal_length(size: int) -> float:
    """Focal length in rays, for output pictures with sides of ``size`` pixels."""
    return SUPERSAMPLE * size / 2 / float(np.tan(np.radians(FIELD_OF_VIEW / 2)))


def texel_density(shape: Shape, size: int) -> float:
    """Texels per unit of length that give the nearest artwork about one texel per ray."""
    return focal_length(size) / (camera_distance(shape) - shape.radius)


def atlas_offsets(shape: Shape, density: float) -> list[tuple[int, int, int]]:
    """Left edge, width and height in texels of each panel; all panels are in one row."""
    placed, left = [], MARGIN
    for panel in shape.panels:
        width, height = round(panel.width * density), round(panel.height * density)
        placed.append((left, max(width, 2), max(height, 2)))
        left += max(width, 2) + 2 * MARGIN
    return placed


def turn(points: Floats, roll: float) -> Floats:
    """Turn points [3, N] about the vertical axis."""
    if roll == 0:
        return points
    sin, cos = np.float32(np.sin(np.radians(roll))), np.float32(np.cos(np.radians(roll)))
    return np.stack(
        [cos * points[0] - sin * points[1], sin * points[0] + cos * points[1], points[2]]
    )


def march(
    distance: Callable[[Floats], Floats],
    camera: Floats,
    directions: Floats,
    start: Floats,
    reach: float,
    spread: float,
) -> Floats:
    """Sphere tracing (Hart 1996): distance [N] along each ray to the solid.

    Args:
        distance: signed distance of points [3, N].
        camera: origin of the rays, [3, 1].
        directions: unit vectors [3, N].
        start: distance [N] at which to begin.
        reach: returned for rays that miss the solid.
        spread: half angle of a cone around each ray, in radians. Above 0 the result is where the
            solid first enters the cone; up to ``1 - 2 * spread`` of that distance is free.
    """
    hit = np.full(directions.shape[1], reach, np.float32)
    left = np.arange(directions.shape[1])
    travelled = start.copy()
    for _ in range(96):
        step = distance(camera + travelled * directions)
        close = step < np.maximum(np.float32(6e-4), np.float32(spread) * travelled)
        hit[left[close]] = travelled[close]
        travelled += step
        going = np.flatnonzero(~close & (travelled < reach))
        if going.size == 0:
            break
        if going.size < 0.9 * left.size:  # copying the remaining rays costs about as much as a step
            left, travelled = left[going], travelled[going]
            directions = directions.take(going, 1)
    return hit


def surface_normals(distance: Callable[[Floats], Floats], points: Floats) -> Floats:
    """Unit normals [3, N] from finite differences at the corners of a tetrahedron."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)[:, :, None]
    slope: Floats = sum(corner * distance(points + np.float32(1e-3) * corner) for corner in corners)
    slope /= np.sqrt((slope * slope).sum(0)) + np.float32(1e-12)
    return slope


# The light is fixed in the room: a large warm lamp at the upper left, a weaker cool lamp at the
# right, bright walls, two tall soft boxes in front and a ceiling light behind the product.
KEY, FILL_IN = (np.array(v) / np.linalg.norm(v) for v in ((-0.5, -0.6, 0.75), (0.8, -0.5, 0.3)))
KEY_COLOUR = np.array([[0.42], [0.47], [0.50]], np.float32)  # BGR
FILL_COLOUR = np.array([[0.22], [0.18], [0.15]], np.float32)
EVEN = 0.86  # lightness under even light, about the mean under the lamps


def lightness(normals: Floats, above_floor: Floats, light: float) -> Floats:
    """Factors [3, N] (BGR) that multiply a surface's colour; darker near the floor.

    Args:
        normals: unit normals [3, N].
        above_floor: heights above the floor [N], in product heights.
        light: 0 gives all normals the same factor; 1 gives about 0.6 to 1.1.
    """
    key, fill = np.maximum(KEY @ normals, 0), np.maximum(FILL_IN @ normals, 0)
    lamps = 0.52 + KEY_COLOUR * key + FILL_COLOUR * fill + 0.06 * normals[2]
    factors: Floats = (EVEN + light * (lamps - EVEN)) * (1 - 0.3 * np.exp(-above_floor / 0.05))
    return np.maximum(factors, 0.1)


def highlight(normals: Floats, directions: Floats) -> Floats:
    """Specular reflection [N], in [0, 1].

    The soft boxes show as strips on upright curved walls, the ceiling light on flat surfaces at a
    pitch near 60 degrees.

    Args:
        normals, directions: unit surface normals and ray directions, [3, N].
    """
    upright = np.hypot(normals[0], normals[1])
    mirrored = directions - 2 * (directions * normals).sum(0) * normals
    azimuth = np.arctan2(mirrored[0], -mirrored[1])  # 0 points back to the camera
    left = np.exp(-(((azimuth + 0.95) / 0.22) ** 2))
    right = 0.6 * np.exp(-(((azimuth - 1.35) / 0.15) ** 2))
    ceiling = np.exp(-(((mirrored[2] - 0.86) / 0.1) ** 2)) * (mirrored[1] > 0)
    return (0.45 * upright * (left + right) + 0.4 * (1 - upright) * ceiling).astype(np.float32)
