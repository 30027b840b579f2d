"""Where frames are: which reader, which of them are learnt from and which are held out."""

import dataclasses
from pathlib import Path
from typing import Any

from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.data.nyu import NyuFrames
from keras_ctxattr.data.rgbd import ColourCamera, RgbdFrames, RgbdSource
from keras_ctxattr.tasks.normals.frames import hold_out_block


@dataclasses.dataclass(frozen=True, kw_only=True)
class FramesPlace:
    """A data set of frames.

    Attributes:
        frames: a folder or tar archive of RGB-D frames, or `nyu_depth_v2_labeled.mat`.
        splits: NYU's `splits.mat`.
        colour_focal: focal length of a colour camera of another view than the depth's, in pixels.
        colour_offset: metres from the depth's camera to it, to the right.

    Raises:
        ValueError: if settings do not belong together.
    """

    frames: str
    splits: str | None = None
    colour_focal: float | None = None
    colour_offset: float = 0.0

    def __post_init__(self) -> None:
        """Checks what belongs together."""
        if self.splits is not None and not self.is_nyu:
            raise ValueError(
                "`splits` belongs to nyu_depth_v2_labeled.mat. "
                f"Received: splits={self.splits} for {self.frames}"
            )
        if self.is_nyu and self.colour_focal is not None:
            raise ValueError(
                "`colour_focal` belongs to folders and archives of frames; NYU's depth is of the "
                f"photographs' view. Received: colour_focal={self.colour_focal} for {self.frames}"
            )
        if self.colour_focal is None and self.colour_offset:
            raise ValueError(
                "`colour_offset` needs `colour_focal`. "
                f"Received: colour_offset={self.colour_offset}"
            )

    @property
    def is_nyu(self) -> bool:
        """Whether it is NYU Depth v2."""
        return Path(self.frames).suffix == ".mat"

    def open(self, part: str | None = None) -> RgbdSource:
        """Opens all frames, or those of a part of NYU's split.

        Raises:
            CollectionError: if they cannot be read.
        """
        if self.is_nyu:
            return NyuFrames(self.frames, split=self.splits if part else None, part=part or "train")
        camera = None
        if self.colour_focal is not None:
            camera = ColourCamera(focal=self.colour_focal, offset=self.colour_offset)
        return RgbdFrames(self.frames, colour_camera=camera)

    def describe(self) -> dict[str, Any]:
        """Gives the arguments, as JSON types."""
        return dataclasses.asdict(self)


def divide_frames(
    place: FramesPlace, held_out: float, block: int | None = None
) -> tuple[RgbdSource, tuple[int, ...], tuple[str, ...]]:
    """Gives the frames to learn from, which rows of them, and the names of those held out.

    That is NYU's own split where it is given, else a block of frames that follow each other.

    Args:
        place: of the frames.
        held_out: share of the frames, over 0 and under 1; of no use with a split.
        block: see `hold_out_block`.
    """
    if place.splits is not None:
        source = place.open("train")
        tested = place.open("test")
        return source, tuple(range(len(source.names))), tuple(tested.names)
    source = place.open()
    rows, held = hold_out_block(len(source.names), held_out, block)
    return source, rows, tuple(source.names[row] for row in held)


def rows_of(source: RgbdSource, names: tuple[str, ...], what: str) -> tuple[int, ...]:
    """Gives the places of frames by name.

    Raises:
        CollectionError: if one is not there.
    """
    places = {name: row for row, name in enumerate(source.names)}
    missing = [name for name in names if name not in places]
    if missing:
        raise CollectionError(
            f"{what} must hold the frames that the run held out: give `--frames` where they are "
            f"now. Received: {len(missing)} of {len(names)} missing, such as {missing[0]}"
        )
    return tuple(places[name] for name in names)
