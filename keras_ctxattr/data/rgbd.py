"""Photographs with their depth: a folder or tar archive of frames of a depth camera."""

import contextlib
import dataclasses
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from keras_ctxattr.data.manifest.table import CollectionError

INTRINSICS = "camera-intrinsics.txt"
COLOURS, DEPTH = (".color.jpg", ".color.png"), ".depth.png"
MISSING = (0, 65535)
"""Depths, in the file, that are none: 0 everywhere, 65535 in 7-Scenes as well."""

_FRAME = re.compile(r"((?:.*/)?(frame-[^/]+))(\.color\.jpg|\.color\.png|\.depth\.png)")
_MILLIMETRES = 1000.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RgbdFrame:
    """A photograph and the depth of what it shows.

    Attributes:
        name: Of the frame, in its data set.
        pixels: Uint8 `[height, width, 3]`, RGB.
        depth: Float32 `[rows, columns]`, metres along the optical axis, 0 where it is not known;
            of the same view as the photograph, perhaps of another size.
        intrinsics: Float64 `[3, 3]`, of the depth's pixels; the upper left one's centre is (0, 0).
    """

    name: str
    pixels: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray


class RgbdSource(Protocol):
    """Frames that are read one at a time.

    Attributes:
        names: Of the frames, in their order.
    """

    names: Sequence[str]

    def read(self, row: int) -> RgbdFrame:
        """Gives a frame by its place in `names`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColourCamera:
    """A camera for colour that looks as the one for depth does, from beside it.

    Attributes:
        focal: Focal length in pixels of the photographs, whose middle the optical axis is at.
        offset: Metres from the depth's camera to this one, to the right.

    Raises:
        ValueError: If a number is impossible.
    """

    focal: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not (0 < self.focal < np.inf and abs(self.offset) < 1):
            raise ValueError(
                "`focal` of a colour camera must be over 0 pixels, and `offset` within a metre. "
                f"Received: focal={self.focal}, offset={self.offset}"
            )


class RgbdFrames:
    """The frames of a folder or tar archive, each read when it is asked for.

    A frame is `frame-NAME.color.jpg` or `.png`, and `frame-NAME.depth.png` (16 bits, millimetres,
    0 or 65535 where it is not known); `camera-intrinsics.txt` beside them or in a folder above, 3 x
    3 numbers, is of the depth. Several sequences may lie in a folder each.

    Args:
        source: The folder or archive; the files may be in folders below.
        colour_camera: Where photographs are not of the view of the depth: what they were taken
            by. Each is then brought to the depth's view and size, by the depth's median where the
            cameras stand apart. None where both are of one view.

    Attributes:
        names: Of the frames, sorted; with the folder where there are several.

    Raises:
        CollectionError: If there are no frames or intrinsics, or a frame is not whole.
    """

    def __init__(
        self, source: str | PathLike[str], *, colour_camera: ColourCamera | None = None
    ) -> None:
        self.source = str(source)
        self.colour_camera = colour_camera
        self._container = _Container(self.source)
        self._members = _find_frames(self.source, self._container.names)
        self.names: Sequence[str] = tuple(self._members)
        cameras = _read_intrinsics(self.source, self._container)
        folders = [depth.rpartition("/")[0] for _, depth in self._members.values()]
        self._intrinsics = [_nearest_camera(self.source, cameras, one) for one in folders]

    def __len__(self) -> int:
        """Gives the number of frames."""
        return len(self.names)

    def read(self, row: int) -> RgbdFrame:
        """Gives a frame by its place in `names`.

        Raises:
            CollectionError: If a picture is damaged.
        """
        name = self.names[row]
        colour, depth = self._members[name]
        pixels = self._decode(colour, cv2.IMREAD_COLOR)
        stored = self._decode(depth, cv2.IMREAD_UNCHANGED)
        if stored.dtype != np.uint16 or stored.ndim != 2:
            raise CollectionError(
                "Depth must be a grey PNG of 16 bits, in millimetres. Received: "
                f"{self.source}: {depth} of {stored.dtype} {list(stored.shape)}"
            )
        metres = np.where(np.isin(stored, MISSING), 0, stored / _MILLIMETRES).astype(np.float32)
        pixels = np.ascontiguousarray(pixels[..., ::-1])
        intrinsics = self._intrinsics[row]
        if self.colour_camera is not None:
            pixels = to_depth_view(pixels, metres, intrinsics, self.colour_camera)
        return RgbdFrame(name=name, pixels=pixels, depth=metres, intrinsics=intrinsics)

    def _decode(self, member: str, mode: int) -> np.ndarray:
        content = self._container.read(member)
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), mode) if content else None
        if picture is None:
            raise CollectionError(
                "A frame's files must be whole pictures; copy or download them again. "
                f"Received: {self.source}: {member}"
            )
        return picture


def to_depth_view(
    pixels: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, camera: ColourCamera
) -> np.ndarray:
    """Gives a photograph as the depth's camera would have taken it.

    What is nearer or farther than the median of the depth comes out beside its place, where the
    cameras stand apart: by 6 pixels at twice the median, for a Kinect in a room.

    Args:
        pixels: Uint8 `[height, width, 3]`.
        depth: Float32 `[rows, columns]`, metres, 0 where it is not known.
        intrinsics: Float64 `[3, 3]`, of the depth.
        camera: What took the photograph.

    Returns:
        Uint8 `[rows, columns, 3]`; black where the photograph shows nothing.
    """
    known = depth[depth > 0]
    shift = camera.focal * camera.offset / float(np.median(known)) if known.size else 0.0
    middle = (np.array(pixels.shape[1::-1]) - 1) / 2 - [shift, 0.0]
    scale = camera.focal / intrinsics[[0, 1], [0, 1]]
    # From the depth's pixels to the photograph's.
    across, down = middle - scale * intrinsics[:2, 2]
    matrix = np.array([[scale[0], 0, across], [0, scale[1], down]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, matrix, depth.shape[::-1], flags=flags)


def _find_frames(source: str, members: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Gives the two files of each frame, by its name: with its folder if there are several."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for member in members:
        if (match := _FRAME.fullmatch(member)) is not None:
            folder = member.rpartition("/")[0]
            found.setdefault((folder, match[2]), {})[match[3]] = member
    if not found:
        raise CollectionError(
            f"Frames must be files frame-NAME{COLOURS[0]} and frame-NAME{DEPTH}, in a folder or "
            f"tar archive. Received: {source}, with none"
        )
    is_single = len({folder for folder, _ in found}) == 1
    places = {}
    for (folder, frame), files in sorted(found.items()):
        name = frame if is_single or not folder else f"{folder}/{frame}"
        colour = next((files[kind] for kind in COLOURS if kind in files), None)
        if colour is None or DEPTH not in files:
            missing = name + (COLOURS[0] if colour is None else DEPTH)
            raise CollectionError(
                "Every frame must have a photograph and its depth. "
                f"Received: {source}, without {missing}"
            )
        places[name] = (colour, files[DEPTH])
    return places


def _read_intrinsics(source: str, container: "_Container") -> dict[str, np.ndarray]:
    """Gives the cameras' matrices by the folders that they lie in."""
    found = [member for member in container.names if member.rpartition("/")[2] == INTRINSICS]
    cameras = {}
    for member in found:
        text = container.read(member).decode(errors="replace").split()
        try:
            matrix = np.array([float(word) for word in text]).reshape(3, 3)
        except ValueError:
            matrix = np.zeros((3, 3))
        if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
            raise CollectionError(
                f"{INTRINSICS} must be 3 x 3 numbers, focal lengths over 0. "
                f"Received: {source}: {member}: {' '.join(text)[:80]}"
            )
        cameras[member.rpartition("/")[0]] = matrix
    return cameras


def _nearest_camera(source: str, cameras: dict[str, np.ndarray], folder: str) -> np.ndarray:
    """Gives the camera of a folder, or of the nearest one above."""
    places = [folder]
    while places[-1]:
        places.append(places[-1].rpartition("/")[0])
    found = next((cameras[place] for place in places if place in cameras), None)
    if found is None:
        raise CollectionError(
            f"Frames need their camera's {INTRINSICS} beside them, or in a folder above. "
            f"Received: {source}, without it"
        )
    return found


class _Container:
    """The files of a folder or tar archive: listed once, each read when it is asked for."""

    def __init__(self, source: str) -> None:
        self.path = Path(source)
        with self._told():
            self._members = self._list()
        self.names = list(self._members)

    def _list(self) -> dict[str, Path | tarfile.TarInfo]:
        if self.path.is_dir():
            files = sorted([*self.path.glob("*.*"), *self.path.glob("*/*.*")])
            return {file.relative_to(self.path).as_posix(): file for file in files}
        with tarfile.open(self.path) as archive:
            return {one.name.removeprefix("./"): one for one in archive if one.isfile()}

    def read(self, name: str) -> bytes:
        """Gives the bytes of a file."""
        member = self._members[name]
        with self._told():
            if isinstance(member, Path):
                return member.read_bytes()
            with tarfile.open(self.path) as archive:
                stream = archive.extractfile(member)  # knows where it begins
                return stream.read() if stream is not None else b""

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Makes what cannot be read an error of one line."""
        try:
            yield
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            reason = str(getattr(error, "strerror", None) or error).splitlines()[0]
            raise CollectionError(
                "Frames must be in a folder or a whole tar archive that exists and can be read. "
                f"Received: {self.path}: {reason}"
            ) from error
