"""What an index remembers of images, and how it stands in its database."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

PLACE_COLUMNS = "path, offset, length, total, changed"
IMAGE_COLUMNS = f"id, source, name, {PLACE_COLUMNS}, height, width, format, digest"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where the bytes of an image lie, and what tells that they changed.

    Attributes:
        path: The file, or the container that holds the image.
        offset: First byte.
        length: Number of bytes.
        total: Bytes of the whole file.
        changed: When the file last changed, nanoseconds since 1970.
    """

    path: str
    offset: int
    length: int
    total: int
    changed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexedImage:
    """An image of an index.

    Attributes:
        image_id: Its number, never given twice; -1 as long as it has none.
        source: Number of the collection it came from.
        name: The collection's label, a slash, and the image's key in it. Unique.
        place: Where its bytes lie.
        height: Of the upright image in pixels.
        width: Likewise.
        format: `"jpeg"`, `"png"`, ...
        digest: BLAKE2b of its bytes, 32 hexadecimal digits.
    """

    image_id: int = -1
    source: int
    name: str
    place: Place
    height: int
    width: int
    format: str
    digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkippedImage:
    """A file that cannot be indexed, and why; it is looked at again when it has changed."""

    source: int
    name: str
    place: Place
    reason: str


def read_image(row: tuple[Any, ...]) -> IndexedImage:
    """Gives the image of a row with `IMAGE_COLUMNS`."""
    return IndexedImage(
        image_id=row[0],
        source=row[1],
        name=to_text(row[2]),
        place=read_place(row[3:8]),
        height=row[8],
        width=row[9],
        format=row[10],
        digest=row[11],
    )


def image_values(image: IndexedImage) -> tuple[Any, ...]:
    """Gives the values of `IMAGE_COLUMNS`."""
    return (
        image.image_id,
        image.source,
        to_sql(image.name),
        *place_values(image.place),
        image.height,
        image.width,
        image.format,
        image.digest,
    )


def read_place(row: Sequence[Any]) -> Place:
    """Gives the place of `PLACE_COLUMNS`."""
    path, offset, length, total, changed = row
    return Place(path=to_text(path), offset=offset, length=length, total=total, changed=changed)


def place_values(place: Place) -> tuple[Any, ...]:
    """Gives the values of `PLACE_COLUMNS`."""
    return to_sql(place.path), place.offset, place.length, place.total, place.changed


def to_sql(text: str) -> bytes:
    """Gives a text as the database has it: bytes, since a file name need not be valid UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def to_text(value: bytes) -> str:
    """Gives back what `to_sql` was given."""
    return value.decode("utf-8", "surrogateescape")
