"""Formats and sizes of encoded images from their first bytes, without decoding them."""

import struct

_SUFFIXES = "jpg jpeg jpe jfif png bmp dib gif webp tif tiff heic heif avif jp2 ppm pgm pnm"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
# Markers that start a frame and carry its size: all of C0...CF but the tables DHT (C4), JPG (C8)
# and DAC (CC).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STAND_ALONE = frozenset([0x01, *range(0xD0, 0xD8)])  # TEM and RST: no length follows


def detect_format(head: bytes) -> str:
    """Gives the format of an image from its first 32 bytes, "" if they are not an image's.

    Example:
        >>> from keras_ctxattr.data.manifest.headers import detect_format
        >>> detect_format(b"GIF89a"), detect_format(b"%PDF-1.4")
        ('gif', '')
    """
    starts = {
        b"\xff\xd8\xff": "jpeg",
        b"\x89PNG\r\n\x1a\n": "png",
        b"GIF87a": "gif",
        b"GIF89a": "gif",
        b"II*\0": "tiff",
        b"MM\0*": "tiff",
        b"II+\0": "tiff",
        b"MM\0+": "tiff",
        b"\0\0\0\x0cjP  ": "jpeg2000",
    }
    for start, name in starts.items():
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return "avif" if head[8:12] in (b"avif", b"avis") else "heif" * (head[8:12] in _HEIF_BRANDS)
    if head[:2] == b"BM" and len(head) >= 26 and head[14:18] in _BMP_HEADER_SIZES:
        return "bmp"
    if head[:2] in (b"P5", b"P6") and head[2:3].isspace():
        return "pnm"
    return ""


_BMP_HEADER_SIZES = frozenset(
    size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)
)


def needs_conversion(name: str, encoded: bytes) -> bool:
    """Tells whether `decode_image` does not read this format, or not this kind of it."""
    if name == "bmp":
        header_size, bits = struct.unpack_from("<I", encoded, 14)[0], encoded[28:30]
        is_plain = encoded[30:34] == b"\0\0\0\0" and bits in (b"\x08\0", b"\x18\0", b"\x20\0")
        return header_size < 40 or not is_plain
    if name == "webp":
        return encoded[12:16] == b"VP8X" and len(encoded) > 20 and bool(encoded[20] & 0x02)
    return name not in ("jpeg", "png", "gif")


def read_size(name: str, encoded: bytes) -> tuple[int, int] | None:
    """Gives the (height, width) that the header states, as stored; None where it does not say."""
    readers = {
        "jpeg": _read_jpeg_size,
        "png": lambda data: struct.unpack_from(">II", data, 16)[::-1],
        "gif": lambda data: struct.unpack_from("<HH", data, 6)[::-1],
        "bmp": _read_bmp_size,
        "webp": _read_webp_size,
        "tiff": _read_tiff_size,
    }
    try:
        return readers[name](encoded) if name in readers else None
    except (struct.error, IndexError):
        return None


def _read_jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(encoded):
        if encoded[position] != 0xFF:
            return None
        marker = encoded[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _STAND_ALONE:
            position += 2
            continue
        if marker in _START_OF_FRAME:
            return struct.unpack_from(">HH", encoded, position + 5)
        if marker == 0xDA:
            return None
        position += 2 + struct.unpack_from(">H", encoded, position + 2)[0]
    return None


def _read_bmp_size(encoded: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", encoded, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", encoded, 18)
    else:
        width, height = struct.unpack_from("<ii", encoded, 18)
    return abs(height), abs(width)


def _read_webp_size(encoded: bytes) -> tuple[int, int] | None:
    kind = encoded[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(encoded[24:27], "little") + 1
        return int.from_bytes(encoded[27:30], "little") + 1, width
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", encoded, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", encoded, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None


def _read_tiff_size(encoded: bytes) -> tuple[int, int] | None:
    tags = _read_tiff_tags(encoded)
    if not {256, 257} <= tags.keys():
        return None
    return tags[257], tags[256]  # ImageLength, ImageWidth


def has_transparency(name: str, encoded: bytes) -> bool:
    """Tells whether an image is a TIFF whose colours stand beside an alpha channel, unmixed."""
    try:
        return name == "tiff" and _read_tiff_tags(encoded).get(338) == 2  # ExtraSamples
    except (struct.error, IndexError):
        return False


def _read_tiff_tags(encoded: bytes) -> dict[int, int]:
    """Gives the tags of the first image that hold one whole number."""
    order = "<" if encoded[:2] == b"II" else ">"
    is_big = encoded[2:4] in (b"+\0", b"\0+")  # BigTIFF
    place, number, size, value = ("QQ", "Q", 20, 12) if is_big else ("II", "H", 12, 8)
    directory = struct.unpack_from(order + place[0], encoded, 8 if is_big else 4)[0]
    count = struct.unpack_from(order + number, encoded, directory)[0]
    first = directory + struct.calcsize(order + number)
    tags = {}
    for entry in range(first, min(first + size * count, len(encoded)), size):
        tag, kind = struct.unpack_from(order + "HH", encoded, entry)
        num_values = struct.unpack_from(order + place[1], encoded, entry + 4)[0]
        if num_values == 1 and kind in _TIFF_INTEGERS:
            code = order + _TIFF_INTEGERS[kind]
            tags[tag] = struct.unpack_from(code, encoded, entry + value)[0]
    return tags


_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
