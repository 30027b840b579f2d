"""Contours of BSDS500: annotators' boundary maps, and binary patches cut around their contours."""

import bisect
import contextlib
import dataclasses
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from keras_ctxattr.data.manifest.table import CollectionError

SPLITS = ("train", "val")
GROUND_TRUTH = "groundTruth"
_PARTS = ("*/", "")  # below groundTruth: a folder for each split, or none
MAX_DEPTH = 4  # folders between the root and groundTruth: none to BSR/BSDS500/data, as distributed

_BATCH_ROWS = 1024  # at most: 6 MB of 45 x 45 patches
_MEMBER = re.compile(rf"(?:(.+)/)?{GROUND_TRUTH}/(?:([^/]+)/)?([^/.][^/]*)\.mat")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BsdsImage:
    """What people marked in one image.

    Attributes:
        name: The image's number in the data set ("100075").
        split: "train", "val" or "test"; "" where the files are in no such folder.
        key: The image's path relative to the root or in the archive: the key that `scan_images` of
            the same source gives. Whether it is there is not looked at.
        boundaries: Bool `[annotators, height, width]`, True on the one-pixel contours that each
            annotator drew.
    """

    name: str
    split: str
    key: str
    boundaries: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ContourPatches:
    """Binary patches around contours, of which any range can be had; made by `contour_patches`.

    Attributes:
        source: The folder or archive.
        size: Side of a patch in pixels.
        seed: Seed of all draws.
        splits: What is read.
        keys: From the number of each image, 0...n-1 in the order read, to its key.
        shares: Int64 `[images]`, how many patches each image gives.
        digest: 32 hexadecimal digits of the ground truth read.
    """

    source: str
    size: int
    seed: int
    splits: tuple[str, ...]
    keys: dict[int, str]
    shares: np.ndarray
    digest: str

    @property
    def num_patches(self) -> int:
        """Patches in all."""
        return int(self.shares.sum())

    @property
    def config(self) -> dict[str, Any]:
        """What the patches follow from, as JSON types; the place of the data set is not in it."""
        return {
            "unit": "contour",
            "seed": self.seed,
            "splits": list(self.splits),
            "num_patches": self.num_patches,
            "ground_truth": self.digest,
        }

    def batches(self, first_row: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Gives the patches from a row on: those that `batches(0)` gives from there on.

        Args:
            first_row: Number of the first patch wanted, at least 0.

        Yields:
            Up to 1 024 patches of one image: `image_ids` int64 `[b]`; `boxes` float32 `[b, 4]`,
            (left, top, right, bottom) in pixels of the image; `pixels` uint8 `[b, size, size, 3]`,
            255 on contours and 0 elsewhere, three equal channels.

        Raises:
            CollectionError: If the data set can no longer be read.
        """
        ends = np.cumsum(self.shares)
        start = int(np.searchsorted(ends, first_row, side="right"))
        skipped = first_row - int(ends[start] - self.shares[start]) if start < len(ends) else 0
        images = _stream(self.source, self.splits, start)
        for image_id, (image, _) in enumerate(images, start):
            rng = _generator(self.seed, image.name)
            share = int(self.shares[image_id])
            places = _draw_places(image.boundaries, self.size, share, rng)[skipped:]
            skipped = 0
            for row in range(0, len(places), _BATCH_ROWS):
                part = places[row : row + _BATCH_ROWS]
                image_ids = np.full(len(part), image_id, np.int64)
                yield image_ids, _boxes(part, self.size), _cut(image.boundaries, part, self.size)


def read_bsds(
    source: str | PathLike[str], splits: str | Sequence[str] | None = SPLITS
) -> Iterator[BsdsImage]:
    """Reads the boundary maps of a data set one image after the other.

    Args:
        source: A folder or tar archive with `groundTruth/SPLIT/*.mat` and `images/SPLIT/*.jpg`, or
            with a few folders above them (`BSDS500`, `BSR/BSDS500/data`); or a folder of `.mat`
            files itself.
        splits: Which parts, of "train", "val" and "test"; None for all that are there.

    Returns:
        The images by split, in the order of `splits`, and by name. One is in memory at a time.

    Raises:
        CollectionError: If there is no such place or part; while reading, if a file is damaged.
    """
    wanted = _check_splits(source, splits)
    return (image for image, _ in _stream(str(source), wanted))


def contour_patches(
    source: str | PathLike[str],
    *,
    num_patches: int,
    size: int = 45,
    seed: int = 0,
    splits: str | Sequence[str] = SPLITS,
) -> ContourPatches:
    """Draws binary patches around contour pixels.

    A patch is the cutout of one annotator's boundary map around one of its contour pixels, which
    lies at row and column `size // 2`. Only pixels whose cutout lies inside the image are drawn,
    none twice. All images give equally many patches and so do all annotators of an image, to within
    one, except for those that have not enough contour pixels and give all they have. Which pixels
    of an image are drawn follows from the seed, the image's name, its boundary maps and its share.

    Reads the whole ground truth once, to count (a few seconds for BSDS500).

    Args:
        source: As for `read_bsds`.
        num_patches: How many, at least 1.
        size: Side of a patch in pixels, at least 1.
        seed: Seed of all draws, at least 0.
        splits: Which parts, of "train", "val" and "test".

    Returns:
        The patches, to be cut as they are asked for.

    Raises:
        ValueError: If a setting is impossible, or there are fewer contour pixels than patches.
        CollectionError: If there is no such data set or part, or a file is damaged.

    Reference:
        Huang, Loy, Tang 2016, section 3.1 and 5 (45 x 45 pixels, one million patches).
    """
    if num_patches < 1 or size < 1 or seed < 0:
        raise ValueError(
            "`num_patches` and `size` must be at least 1 and `seed` at least 0. "
            f"Received: num_patches={num_patches}, size={size}, seed={seed}"
        )
    wanted = _check_splits(source, splits)
    keys, counts, digest = [], [], hashlib.blake2b(digest_size=16)
    for image, content in _stream(str(source), wanted):
        keys.append(image.key)
        counts.append(np.count_nonzero(_corners(image.boundaries, size)))
        digest.update(content)
    if sum(counts) < num_patches:
        raise ValueError(
            f"`num_patches` must be at most {sum(counts)}, the contour pixels of all annotators "
            f"with room for size={size}. Received: num_patches={num_patches}"
        )
    return ContourPatches(
        source=str(source),
        size=size,
        seed=seed,
        splits=wanted,
        keys=dict(enumerate(keys)),
        shares=equal_shares(np.array(counts), num_patches),
        digest=digest.hexdigest(),
    )


def equal_shares(capacities: np.ndarray, total: int) -> np.ndarray:
    """Divides a number as equally as capacities allow; what is left over goes to the first.

    Args:
        capacities: Int `[n]`, the largest share of each, at least 0; their sum at least `total`.
        total: What is divided, at least 0.

    Returns:
        Int64 `[n]`, its sum is `total`.

    Example:
        >>> equal_shares(np.array([9, 2, 0, 9]), 13).tolist()
        [6, 2, 0, 5]
    """
    levels = range(int(capacities.max(initial=0)) + 1)
    level = bisect.bisect_right(levels, total, key=lambda n: np.minimum(capacities, n).sum()) - 1
    shares = np.minimum(capacities, level).astype(np.int64)
    shares[np.flatnonzero(capacities > level)[: total - shares.sum()]] += 1
    return shares


# --- Drawing and cutting ---


def _generator(seed: int, name: str) -> np.random.Generator:
    """Gives the generator of one image: draws do not depend on which others there are."""
    return np.random.default_rng([seed, int.from_bytes(name.encode(), "big")])


def _corners(boundaries: np.ndarray, size: int) -> np.ndarray:
    """Gives where cutouts may begin: bool `[annotators, top, left]`, their centre is a contour."""
    _, height, width = boundaries.shape
    margin = size // 2
    rows = slice(margin, margin + max(height - size + 1, 0))
    columns = slice(margin, margin + max(width - size + 1, 0))
    return boundaries[:, rows, columns]


def _draw_places(
    boundaries: np.ndarray, size: int, share: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws cutouts of one image: int `[share, 3]` of (annotator, top, left), none twice."""
    candidates = [np.argwhere(corners) for corners in _corners(boundaries, size)]
    order = rng.permutation(len(candidates))  # so that what is left over goes to any annotator
    shares = equal_shares(np.array([len(candidates[k]) for k in order]), share)
    places = [
        np.insert(rng.choice(candidates[k], count, replace=False, shuffle=False), 0, k, axis=1)
        for k, count in zip(order, shares, strict=True)
        if count
    ]
    return rng.permutation(np.concatenate(places)) if places else np.zeros((0, 3), np.int64)


def _boxes(places: np.ndarray, size: int) -> np.ndarray:
    corners = places[:, :0:-1]  # (left, top)
    return np.concatenate([corners, corners + size], axis=1).astype(np.float32)


def _cut(boundaries: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(boundaries, (size, size), axis=(1, 2))
    patches = windows[tuple(places.T)].astype(np.uint8) * 255
    return np.repeat(patches[..., None], 3, axis=-1)


# --- Reading ---


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the ground truth of one image is."""

    name: str
    split: str
    key: str
    member: str


def _check_splits(
    source: str | PathLike[str], splits: str | Sequence[str] | None
) -> tuple[str, ...]:
    """Refuses a source that is none or lacks a split, before anything is read."""
    with _opened(str(source)) as (names, _):
        known = {place.split for place in _list_places(names)}
    if splits is None:
        wanted = tuple(sorted(known))
    else:
        wanted = (splits,) if isinstance(splits, str) else tuple(splits)
    if not wanted or not known.issuperset(wanted):
        raise CollectionError(
            f"A BSDS data set must have {GROUND_TRUTH}/SPLIT/*.mat for every split wanted "
            f"({', '.join(wanted) or 'name at least one'}). "
            f"Received: {source} with the splits: {', '.join(sorted(known)) or 'none'}"
        )
    return wanted


def _stream(
    source: str, splits: tuple[str, ...], start: int = 0
) -> Iterator[tuple[BsdsImage, bytes]]:
    """Gives the images from a number on, each with the bytes of its ground truth."""
    with _opened(source) as (names, read):
        places = _list_places(names)
        chosen = [place for split in splits for place in places if place.split == split]
        for place in chosen[start:]:
            content = read(place.member)
            boundaries = _parse_boundaries(place.member, content)
            yield (
                BsdsImage(name=place.name, split=place.split, key=place.key, boundaries=boundaries),
                content,
            )


def _list_places(names: Sequence[str]) -> list[_Place]:
    places = []
    for member in names:
        if (match := _MEMBER.fullmatch(member)) is not None:
            prefix, split, name = match.groups(default="")
            key = "/".join(part for part in (prefix, "images", split, f"{name}.jpg") if part)
            places.append(_Place(name=name, split=split, key=key, member=member))
    has_splits = any(place.split for place in places)
    chosen = (place for place in places if bool(place.split) == has_splits)
    return sorted(chosen, key=lambda place: (place.name, place.key))


@contextlib.contextmanager
def _opened(source: str) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """Gives the names in a folder or archive, and what reads one."""
    path = Path(source)
    try:
        if path.is_dir():
            found = _list_folder(path)
            yield list(found), lambda name: found[name].read_bytes()
            return
        with tarfile.open(path) as archive:
            members = {member.name.removeprefix("./"): member for member in archive}

            def read(name: str) -> bytes:
                stream = archive.extractfile(members[name])
                return stream.read() if stream is not None else b""

            yield list(members), read
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise CollectionError(
            "A BSDS data set must be a folder or a whole tar archive that exists and can be read. "
            f"Received: {source}: {str(getattr(error, 'strerror', None) or error).splitlines()[0]}"
        ) from error


def _list_folder(path: Path) -> dict[str, Path]:
    """Gives the .mat files below a folder, by the names that they would have in an archive."""
    patterns = [
        f"{'*/' * n}{GROUND_TRUTH}/{part}*.mat" for n in range(MAX_DEPTH) for part in _PARTS
    ]
    found = {file.relative_to(path).as_posix(): file for one in patterns for file in path.glob(one)}
    return found or {
        f"{GROUND_TRUTH}/{file.relative_to(path).as_posix()}": file
        for part in _PARTS
        for file in path.glob(f"{part}*.mat")
    }


def _parse_boundaries(member: str, content: bytes) -> np.ndarray:
    """Gives the boundary maps in a .mat file: bool `[annotators, height, width]`."""
    try:
        annotators = scipy.io.loadmat(io.BytesIO(content))["groundTruth"].ravel()
        maps = [annotator["Boundaries"][0, 0] for annotator in annotators]
        if len({(found.ndim, found.shape) for found in maps}) != 1 or maps[0].ndim != 2:
            raise ValueError(f"boundary maps of shapes {[found.shape for found in maps]}")
        return np.stack(maps).astype(bool)
    except Exception as error:  # damaged bytes fail in scipy in many ways
        lines = str(error).splitlines()
        raise CollectionError(
            f"Ground truth of BSDS must be a whole .mat file with {GROUND_TRUTH}{{k}}.Boundaries, "
            "maps of one size; copy or download it again. "
            f"Received: {member}: {lines[0] if lines else type(error).__name__}"
        ) from error
