"""What decoding an image file would cost, from its structure alone.

A few bytes can ask for a lot: a header that claims a huge canvas, a GIF of ten thousand frames (all
are decoded to take the first), a JPEG of ten thousand scans, a million empty chunks to look for the
orientation in. Nothing here decodes pixels, and every loop ends early.
"""

import struct
from collections.abc import Iterator

from keras_ctxattr.data.manifest.headers import read_size

MAX_PARTS = 10_000
"""Segments, chunks or frames of a file; photographs have some dozens, long PNG files thousands."""

MAX_SCANS = 100
"""Of a JPEG: progressive ones have about ten, and each goes over all pixels."""


class TooCostlyError(Exception):
    """A file that asks for more than any photograph does; the message says of what."""


def count_pixels(name: str, encoded: bytes) -> tuple[int, int, int] | None:
    r"""Gives how large an image is by its header, and how many pixels are decoded for it.

    Args:
        name: format, as `detect_format` names it: jpeg, png, gif, bmp or webp.
        encoded: contents of the file.

    Returns:
        Height and width as stored, and pixels; None where the header does not say.

    Raises:
        TooCostlyError: if the file has more parts than decoding it is worth.

    Example:
        >>> import struct
        >>> from keras_ctxattr.serving.costs import count_pixels
        >>> head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
        >>> count_pixels("png", head)
        (480, 640, 307200)
    """
    try:
        if name == "gif":
            return _count_gif_pixels(encoded)
        size = read_size(name, encoded)
        for number, _ in enumerate(_WALKS[name](encoded) if name in _WALKS else ()):
            if number >= MAX_PARTS:
                raise TooCostlyError(f"more than {MAX_PARTS} segments")
    except (struct.error, IndexError):
        return None
    # Entropy-coded bytes never hold this marker; a thumbnail in the head holds a few of its own.
    if name == "jpeg" and encoded.count(b"\xff\xda") > MAX_SCANS:
        raise TooCostlyError(f"more than {MAX_SCANS} scans")
    return None if size is None else (*size, size[0] * size[1])


def _walk_jpeg(encoded: bytes) -> Iterator[int]:
    """Goes over the segments before the first scan, and the bytes that fill between them."""
    position = 2
    while position + 4 <= len(encoded) and encoded[position] == 0xFF:
        yield position
        marker = encoded[position + 1]
        if marker == 0xDA:
            return
        size = struct.unpack_from(">H", encoded, position + 2)[0]
        position += 1 if marker == 0xFF else 2 + max(size, 2)


def _walk_png(encoded: bytes) -> Iterator[int]:
    position = 8
    while position + 8 <= len(encoded):
        yield position
        position += 12 + struct.unpack_from(">I", encoded, position)[0]


def _walk_webp(encoded: bytes) -> Iterator[int]:
    position = 12
    while position + 8 <= len(encoded):
        yield position
        size = struct.unpack_from("<I", encoded, position + 4)[0]
        position += 8 + size + size % 2


_WALKS = {"jpeg": _walk_jpeg, "png": _walk_png, "webp": _walk_webp}


def _count_gif_pixels(encoded: bytes) -> tuple[int, int, int] | None:
    """Gives the largest frame's sides and the pixels of all frames: the decoder reads all."""
    height, width, pixels = 0, 0, 0
    for number, frame in enumerate(_walk_gif(encoded)):
        if number >= MAX_PARTS:
            raise TooCostlyError(f"more than {MAX_PARTS} blocks")
        if frame is not None:
            height, width = max(height, frame[0]), max(width, frame[1])
            pixels += frame[0] * frame[1]
    return (height, width, max(pixels, height * width)) if pixels else None


def _walk_gif(encoded: bytes) -> Iterator[tuple[int, int] | None]:
    """Goes over the blocks of a GIF; gives (height, width) of frames, None for other blocks."""
    position = 13 + _table_size(encoded[10])
    while position < len(encoded):
        kind = encoded[position]
        if kind == 0x2C:  # a frame
            width, height = struct.unpack_from("<HH", encoded, position + 5)
            yield height, width
            position += 11 + _table_size(encoded[position + 9])
        elif kind == 0x21:  # an extension
            yield None
            position += 2
        else:
            return
        while position < len(encoded) and encoded[position]:
            position += 1 + encoded[position]
        position += 1


def _table_size(flags: int) -> int:
    """Gives the bytes of the colour table that a byte of flags announces."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
