"""NYU Depth v2: the labelled frames as distributed, one MATLAB file, and their official split."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from keras_ctxattr.data.manifest.table import CollectionError
from keras_ctxattr.data.rgbd import RgbdFrame

SPLITS = ("train", "test")
VALID_ROWS, VALID_COLUMNS = slice(44, 471), slice(40, 601)
"""What photograph and depth both show: rows 45 to 471 and columns 41 to 601, counted from 1, of the
toolbox's `get_projection_mask`. Around it there is a white border."""

# The colour camera's, to which depth is projected, from the toolbox's `camera_params`. There pixels
# are counted from 1 (`rgb_plane2rgb_world` takes `meshgrid(1:W, 1:H)`), here from 0.
_INTRINSICS = ((518.85790, 0, 325.58245 - 1), (0, 519.46961, 253.73617 - 1), (0, 0, 1))
_ARRAYS = {"images": 4, "depths": 3, "rawDepths": 3}


class NyuFrames:
    """The frames of `nyu_depth_v2_labeled.mat`, each read when it is asked for.

    A frame is cut to what both cameras see (`VALID_ROWS`, `VALID_COLUMNS`), 427 x 561 pixels. Its
    depth is the one filled in, `depths`, but for the pixels that the sensor has not seen, where
    `rawDepths` is 0: these are not known.

    Args:
        path: The file. It is MATLAB's version 7.3, which is HDF5, with every array transposed.
        split: `splits.mat`, for the frames of a split alone.
        part: `"train"` or `"test"`.

    Attributes:
        names: Of the frames, `"0001"` to `"1449"`: their numbers in the file, counted from 1.

    Raises:
        CollectionError: If the file is another one, or the split is not of it.
        ValueError: If `part` is none.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        split: str | PathLike[str] | None = None,
        part: str = "train",
    ) -> None:
        self.path = Path(path)
        with self._open() as file:
            count = len(file["images"])
        numbers: Sequence[int] = range(1, count + 1)
        if split is not None:
            numbers = read_nyu_split(split, part, num_frames=count)
        self.names: Sequence[str] = tuple(f"{number:04d}" for number in numbers)
        self.intrinsics = _cropped_intrinsics()

    def __len__(self) -> int:
        """Gives the number of frames."""
        return len(self.names)

    def read(self, row: int) -> RgbdFrame:
        """Gives a frame by its place in `names`."""
        name = self.names[row]
        place = int(name) - 1
        with self._open() as file:
            # HDF5 has MATLAB's axes in reverse: [frame, channel, column, row].
            pixels = file["images"][place].transpose(2, 1, 0)
            depth, raw = (file[key][place].T for key in ("depths", "rawDepths"))
        known = np.where((raw > 0) & np.isfinite(depth), depth, 0).astype(np.float32)
        return RgbdFrame(
            name=name,
            pixels=np.ascontiguousarray(pixels[VALID_ROWS, VALID_COLUMNS]),
            depth=known[VALID_ROWS, VALID_COLUMNS],
            intrinsics=self.intrinsics,
        )

    def _open(self) -> h5py.File:
        try:
            file = h5py.File(self.path, "r")
        except OSError as error:
            raise CollectionError(
                "NYU Depth v2 must be nyu_depth_v2_labeled.mat as distributed, a file of HDF5. "
                f"Received: {self.path}: {str(error).splitlines()[0]}"
            ) from error
        _check_arrays(self.path, file)
        return file


def read_nyu_split(
    path: str | PathLike[str], part: str, *, num_frames: int | None = None
) -> tuple[int, ...]:
    """Gives the frames of a part of the official split.

    Args:
        path: `splits.mat`, with `trainNdxs` and `testNdxs`.
        part: `"train"` or `"test"`.
        num_frames: How many there are; None to check no number.

    Returns:
        Numbers of the frames, counted from 1, as they are listed.

    Raises:
        CollectionError: If the file is another one, or names a frame that is not there.
        ValueError: If `part` is none.
    """
    if part not in SPLITS:
        raise ValueError(f"`part` must be one of {', '.join(SPLITS)}. Received: {part!r}")
    try:
        numbers = scipy.io.loadmat(str(path))[f"{part}Ndxs"].ravel().astype(np.int64)
    except Exception as error:  # damaged bytes fail in scipy in many ways
        lines = str(error).splitlines() or [type(error).__name__]
        raise CollectionError(
            "NYU Depth v2's split must be splits.mat as distributed, with trainNdxs and testNdxs. "
            f"Received: {path}: {lines[0]}"
        ) from error
    last = num_frames or numbers.max(initial=1)
    wrong = numbers[(numbers < 1) | (numbers > last)]
    if not len(numbers) or len(wrong):
        raise CollectionError(
            f"{part}Ndxs must name frames from 1 to {last}. Received: {path} with "
            f"{wrong[0] if len(wrong) else 'none'}"
        )
    return tuple(int(number) for number in numbers)


def _cropped_intrinsics() -> np.ndarray:
    """Gives the camera of what is cut out: its centre moves with the corner."""
    matrix = np.array(_INTRINSICS, np.float64)
    matrix[:2, 2] -= [VALID_COLUMNS.start, VALID_ROWS.start]
    return matrix


def _check_arrays(path: Path, file: h5py.File) -> None:
    shapes = {name: np.shape(file[name]) if name in file else () for name in _ARRAYS}
    count, *_ = shapes["images"] or (0,)
    known = {"images": (count, 3, 640, 480), **dict.fromkeys(("depths", "rawDepths"))}
    known = {name: shape or (count, 640, 480) for name, shape in known.items()}
    if not count or shapes != known:
        told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items() if shape)
        file.close()
        raise CollectionError(
            "NYU Depth v2 must have images [n, 3, 640, 480], depths and rawDepths [n, 640, 480], "
            f"as nyu_depth_v2_labeled.mat has. Received: {path} with {told or 'none of these'}"
        )
