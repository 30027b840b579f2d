"""Surface normals of a depth map, by a plane through the points around each pixel."""

import dataclasses

import cv2
import numpy as np

_MIN_SHARE = 0.5  # of the pixels around that must have a depth
_MIN_COSINE = 0.1  # of a normal and the ray to the camera: planes seen edge on join two things


@dataclasses.dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera.

    Attributes:
        focal_x: focal length in pixels, across.
        focal_y: the same, down.
        centre_x: column of the optical axis, in pixels.
        centre_y: its row.
    """

    focal_x: float
    focal_y: float
    centre_x: float
    centre_y: float


def back_project(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Gives the point in space that each pixel shows.

    Args:
        depth: float `[height, width]`, metres along the optical axis; 0 where it is not known.
        camera: what the depth was taken by.

    Returns:
        float64 `[height, width, 3]`, metres: x to the right, y down, z forward.
    """
    rows, columns = np.indices(depth.shape)
    z = np.asarray(depth, np.float64)
    x = (columns - camera.centre_x) / camera.focal_x * z
    y = (rows - camera.centre_y) / camera.focal_y * z
    return np.stack([x, y, z], axis=-1)


def normals_from_depth(
    depth: np.ndarray, camera: Camera, *, radius: int = 3, roughness: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """Fits a plane to the points around each pixel.

    Args:
        depth: float `[height, width]`, metres; 0, or not finite, where it is not known.
        camera: what the depth was taken by.
        radius: pixels to each side that are looked at.
        roughness: how far points may lie from their plane, as a root mean square over the depth; a
            place where they lie farther, as at the edge of a thing, has no normal.

    Returns:
        (float32 `[height, width, 3]`, unit normals towards the camera in its coordinates, x to the
        right, y down, z forward, 0 where there is none; bool `[height, width]`, where there is
        one: its own depth and that of at least half the pixels around is known, and they are flat
        and not seen edge on, by 84 degrees or more).

    Raises:
        ValueError: if the depth is no map, or a number is impossible.
    """
    if np.ndim(depth) != 2 or radius < 1 or roughness <= 0:
        raise ValueError(
            "`depth` must be [height, width], `radius` at least 1 and `roughness` over 0. "
            f"Received: shape {np.shape(depth)}, radius={radius}, roughness={roughness}"
        )
    metres = np.nan_to_num(np.asarray(depth, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    is_known = metres > 0
    points = back_project(np.where(is_known, metres, 0.0), camera)
    count = _sum_around(is_known.astype(np.float64), radius)
    weights = 1 / np.maximum(count, 1)
    means = _sum_around(points, radius) * weights[..., None]
    products = points[..., :, None] * points[..., None, :]
    moments = _sum_around(products.reshape(*depth.shape, 9), radius).reshape(products.shape)
    spread = moments * weights[..., None, None] - means[..., :, None] * means[..., None, :]
    is_possible = is_known & (count >= _MIN_SHARE * (2 * radius + 1) ** 2)
    normals = np.zeros((*depth.shape, 3), np.float32)
    is_flat = np.zeros(depth.shape, bool)
    sizes, directions = np.linalg.eigh(spread[is_possible])
    across = directions[..., 0]
    own = points[is_possible]
    facing = (across * own).sum(axis=-1) / np.linalg.norm(own, axis=-1)
    across *= -np.sign(facing[:, None])  # towards the camera
    distance = np.sqrt(np.maximum(sizes[:, 0], 0)) / own[:, 2]
    # A line of points has a plane in every direction.
    is_plane = (distance < roughness) & (sizes[:, 1] > 1e-3 * sizes[:, 2])
    is_flat[is_possible] = is_plane & (np.abs(facing) > _MIN_COSINE)
    normals[is_possible] = across
    normals[~is_flat] = 0
    return normals, is_flat


def _sum_around(values: np.ndarray, radius: int) -> np.ndarray:
    """Gives the sums over squares around pixels; beyond the edges there is nothing."""
    side = 2 * radius + 1
    planes = [
        cv2.boxFilter(
            np.ascontiguousarray(plane),
            -1,
            (side, side),
            normalize=False,
            borderType=cv2.BORDER_CONSTANT,
        )
        for plane in np.moveaxis(np.atleast_3d(values), -1, 0)
    ]
    return planes[0] if values.ndim == 2 else np.stack(planes, axis=-1)
