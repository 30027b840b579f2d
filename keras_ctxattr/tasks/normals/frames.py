"""Frames of a depth camera as photographs with the normals of what they show."""

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from keras_ctxattr.data.rgbd import RgbdFrame, RgbdSource
from keras_ctxattr.tasks.normals.depth import Camera, normals_from_depth

Progress = Callable[[int, int | None], None]
RADIUS = 7
"""Pixels to each side that a normal is fitted to. A Kinect's depth has steps: on a wall 2.5 m away
normals of 7 x 7 pixels differ by tens of degrees from pixel to pixel, those of 15 x 15 by few."""

_MIN_SHARE = 0.5  # of what a pixel of a smaller label covers that must have a normal


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFrames:
    """Scaled photographs and their normals, all of one size, in memory.

    Attributes:
        names: of the frames.
        pixels: uint8 `[frames, height, width, 3]`, RGB.
        normals: float16 `[frames, height, width, 3]`, unit normals towards the camera, 0 where
            there is none. (Six bytes a pixel; float16 turns a normal by .03 degrees at most.)
    """

    names: tuple[str, ...]
    pixels: np.ndarray
    normals: np.ndarray

    def __len__(self) -> int:
        """Gives the number of frames."""
        return len(self.names)


def camera_of(intrinsics: np.ndarray) -> Camera:
    """Gives the camera of a matrix, float `[3, 3]`; its skew is left out."""
    return Camera(
        focal_x=float(intrinsics[0, 0]),
        focal_y=float(intrinsics[1, 1]),
        centre_x=float(intrinsics[0, 2]),
        centre_y=float(intrinsics[1, 2]),
    )


def normals_of_frame(frame: RgbdFrame, *, radius: int = RADIUS) -> np.ndarray:
    """Gives the normals of a frame at the depth's own size.

    Args:
        frame: as a reader gives it.
        radius: pixels to each side that a plane is fitted to.

    Returns:
        float32 `[rows, columns, 3]`, 0 where there is none; see `normals_from_depth`.
    """
    normals, _ = normals_from_depth(frame.depth, camera_of(frame.intrinsics), radius=radius)
    return normals


def has_normal(normals: np.ndarray) -> np.ndarray:
    """Tells where there is a normal: bool `[...]` of float `[..., 3]`."""
    return (np.square(normals, dtype=np.float32)).sum(axis=-1) > 0.25


def flip_normals(normals: np.ndarray) -> np.ndarray:
    """Gives the normals of the mirrored photograph: mirrored, and what pointed right points left.

    Args:
        normals: float `[..., height, width, 3]`.
    """
    return normals[..., ::-1, :] * np.array([-1, 1, 1], normals.dtype)


def scaled_shape(shape: Sequence[int], longer_side: int) -> tuple[int, int]:
    """Gives the (height, width) to which a photograph's longer side is scaled."""
    scale = longer_side / max(shape[:2])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def scale_photograph(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Gives a photograph, uint8 `[height, width, 3]`, at another (height, width)."""
    shrinks = shape[0] * shape[1] < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, shape[::-1], interpolation=method)


def scale_normals(normals: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Gives normals at another (height, width): the directions of means of those that are there.

    Args:
        normals: float `[height, width, 3]`, 0 where there is none.
        shape: the new height and width.

    Returns:
        float32 `[*shape, 3]`; 0 where less than half of what a pixel covers has a normal.
    """
    shrinks = shape[0] * shape[1] < normals.shape[0] * normals.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    is_there = has_normal(normals).astype(np.float32)
    share = cv2.resize(is_there, shape[::-1], interpolation=method)
    sums = cv2.resize(np.asarray(normals, np.float32), shape[::-1], interpolation=method)
    length = np.linalg.norm(sums, axis=-1)
    is_sure = (share >= _MIN_SHARE) & (length > 1e-3)
    return np.where(is_sure[..., None], sums / np.maximum(length, 1e-3)[..., None], 0)


def label_frames(
    source: RgbdSource,
    rows: Sequence[int],
    *,
    longer_side: int,
    radius: int = RADIUS,
    progress: Progress | None = None,
) -> LabelledFrames:
    """Reads frames one after the other, and keeps them scaled, with their normals.

    Args:
        source: of the frames.
        rows: which ones.
        longer_side: pixels that photographs are scaled to.
        radius: pixels to each side that a plane is fitted to, in the depth's own size.
        progress: called with (frames done, all of them).

    Raises:
        ValueError: if there are none, they differ in size, or none has a normal anywhere.
    """
    pixels, normals = [], []
    for done, row in enumerate(rows, start=1):
        frame = source.read(row)
        shape = scaled_shape(frame.pixels.shape, longer_side)
        pixels.append(scale_photograph(frame.pixels, shape))
        found = normals_of_frame(frame, radius=radius)
        normals.append(scale_normals(found, shape).astype(np.float16))
        if progress is not None:
            progress(done, len(rows))
    sizes = sorted({one.shape[:2] for one in pixels})
    if len(sizes) != 1:
        raise ValueError(
            "Frames to learn normals from must be at least one, and of one size. Received: "
            f"{', '.join(f'{height} x {width}' for height, width in sizes) or 'none'}"
        )
    if not any(has_normal(one).any() for one in normals):
        raise ValueError(
            "Depth must give a normal somewhere: look at its unit, millimetres, and at the "
            f"camera's intrinsics. Received: {len(rows)} frames without one"
        )
    return LabelledFrames(
        names=tuple(source.names[row] for row in rows),
        pixels=np.stack(pixels),
        normals=np.stack(normals),
    )


def hold_out_block(
    num_frames: int, share: float, block: int | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divides the frames of a moving camera, of which neighbours show the same things.

    Frames drawn at random would each have their neighbours among those learnt from. Here one block
    of frames that follow each other is held out; only its ends have neighbours on the other side.

    Args:
        num_frames: how many there are, in their order, at least 2.
        share: of the frames that is held out, over 0 and under 1.
        block: number of the block, counted from 0; None for the last one.

    Returns:
        (rows to learn from, rows held out).

    Raises:
        ValueError: if a number is impossible.

    Example:
        >>> hold_out_block(10, 0.2, 1)
        ((0, 1, 4, 5, 6, 7, 8, 9), (2, 3))
    """
    if num_frames < 2 or not 0 < share < 1:
        raise ValueError(
            "There must be two frames, and the share held out must be over 0 and under 1. "
            f"Received: {num_frames} frames, held_out={share}"
        )
    size = min(max(1, round(num_frames * share)), num_frames - 1)
    num_blocks = num_frames // size
    block = num_blocks - 1 if block is None else block
    if not 0 <= block < num_blocks:
        raise ValueError(
            f"`block` must be from 0 to {num_blocks - 1}, for {num_frames} frames of which "
            f"{size} are held out. Received: block={block}"
        )
    # What does not divide belongs to the first block's side, so that the last block ends the film.
    first = num_frames - (num_blocks - block) * size
    held_out = tuple(range(first, first + size))
    return tuple(row for row in range(num_frames) if row not in held_out), held_out
