"""Rooms of a floor and a wall, whose depth and normals are known in closed form."""

from pathlib import Path

import cv2
import numpy as np

from keras_ctxattr.data.rgbd import RgbdFrame

HEIGHT, WIDTH = 96, 128
INTRINSICS = np.array([[110.0, 0, 63.5], [0, 110.0, 31.5], [0, 0, 1]])
WALL, FLOOR = (0.0, 0.0, -1.0), (0.0, -1.0, 0.0)


def plane_depth(normal, distance, shape=(HEIGHT, WIDTH), intrinsics=INTRINSICS):
    """Gives the depth of the plane of the points p with normal . p = -distance; 0 behind us."""
    rows, columns = np.indices(shape)
    rays = np.stack([columns, rows, np.ones(shape)], axis=-1) @ np.linalg.inv(intrinsics).T
    facing = -(rays @ np.asarray(normal, float))
    return np.where(facing > 1e-6, distance / np.maximum(facing, 1e-6), 0)


def draw_room(seed):
    """Gives (photograph, depth in metres, normals): a red wall over a green floor, noise on both.

    Where the floor meets the wall differs from room to room.
    """
    generator = np.random.default_rng(seed)
    wall = plane_depth(WALL, generator.uniform(1.5, 3.0))
    floor = plane_depth(FLOOR, 0.7)
    is_floor = (floor > 0) & (floor < wall)
    depth = np.where(is_floor, floor, wall)
    colours = np.where(is_floor[..., None], (40, 170, 60), (190, 50, 50))
    pixels = np.clip(colours + generator.normal(0, 15, (HEIGHT, WIDTH, 3)), 0, 255)
    normals = np.where(is_floor[..., None], FLOOR, WALL)
    return pixels.astype(np.uint8), depth, normals


class Rooms:
    """Rooms as a source of frames."""

    def __init__(self, count):
        self.names = tuple(f"room-{number}" for number in range(count))

    def read(self, row):
        pixels, depth, _ = draw_room(row)
        return RgbdFrame(
            name=self.names[row],
            pixels=pixels,
            depth=depth.astype(np.float32),
            intrinsics=INTRINSICS,
        )


def write_rooms(folder: Path, count: int) -> Path:
    """Writes rooms as a depth camera's frames."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "camera-intrinsics.txt", INTRINSICS)
    for number in range(count):
        pixels, depth, _ = draw_room(number)
        write_frame(folder, f"frame-{number:06d}", pixels, depth)
    return folder


def write_frame(folder: Path, name: str, pixels, depth) -> None:
    """Writes a photograph and its depth, given in metres."""
    cv2.imwrite(str(folder / f"{name}.color.jpg"), pixels[..., ::-1])
    millimetres = np.round(depth * 1000).astype(np.uint16)
    cv2.imwrite(str(folder / f"{name}.depth.png"), millimetres)
