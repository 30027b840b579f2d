"""The EXIF orientation of JPEG, PNG and WebP files, found and applied in graph."""

import functools
from collections.abc import Callable

import tensorflow as tf

from keras_ctxattr.data.decode.octets import (
    big,
    bit,
    choose,
    equals,
    is_one_of,
    is_webp,
    little,
    one_node,
    read_bytes,
    walk,
)

ORIENTATION_TAG = 0x0112  # TIFF 6.0 / Exif 2.3, tag 274; its value is a SHORT (type 3)

MAX_HEAD_BYTES = 2**20  # of a JPEG, in which EXIF is looked for

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"


@tf.autograph.experimental.do_not_convert
def read_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Gives the EXIF orientation of an encoded image, 1 where there is none or it cannot be read.

    Args:
        encoded: String scalar, the contents of an image file.

    Returns:
        Int32 scalar in 1...8 as the Exif standard numbers them: 1 upright, 2 mirrored, 3 upside
        down, 4 mirrored upside down, 5 transposed, 6 to be turned clockwise, 7 transverse, 8 to be
        turned anticlockwise.
    """
    encoded = tf.convert_to_tensor(encoded, tf.string)
    return tf.cond(is_plain_jpeg(encoded), lambda: 1, lambda: find_orientation(encoded))


@tf.autograph.experimental.do_not_convert
def apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors stored pixels so that the image stands upright.

    Args:
        image: Any type, `[height, width, channels]` as stored.
        orientation: Int32 scalar in 1...8, see `read_orientation`.

    Returns:
        The upright image; height and width are exchanged for the orientations 5 to 8.
    """
    return turn_upright(image, tf.cast(orientation, tf.int32))


def is_plain_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Tells whether these bytes are a JPEG without EXIF, at next to no cost."""
    return tf.cond(_starts_plainly(encoded), lambda: True, lambda: _has_no_exif(encoded))


def _starts_plainly(encoded: tf.Tensor) -> tf.Tensor:
    """Tells from 22 bytes whether this is a JPEG without any application segment but JFIF's.

    The application segments come before the quantisation tables. Most photographs on the web are of
    this kind.
    """
    head = tf.strings.substr(encoded, 0, 22)
    jfif = tf.strings.substr(head, 0, 6) == b"\xff\xd8\xff\xe0\x00\x10"
    after_jfif = tf.strings.substr(head, tf.minimum(20, tf.strings.length(head)), 2) == b"\xff\xdb"
    return (jfif & after_jfif) | (tf.strings.substr(head, 0, 4) == b"\xff\xd8\xff\xdb")


def _has_no_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Tells whether this is a JPEG in whose head the word that introduces EXIF does not occur."""
    head = tf.strings.substr(encoded, 0, MAX_HEAD_BYTES)
    without = tf.strings.regex_replace(head, r"Exif\x00\x00", "", replace_global=False)
    is_absent = tf.strings.length(without) == tf.strings.length(head)
    return is_absent & (tf.strings.substr(head, 0, 3) == JPEG_START)


def find_orientation_in_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the orientation of bytes that are known to be a JPEG's."""
    start = _find_exif_in_jpeg(encoded)
    return tf.cond(start >= 0, lambda: _read_tiff_orientation(encoded, start), lambda: 1)


@one_node
def find_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Finds the EXIF block of a JPEG, PNG or WebP and reads the orientation in it."""
    is_jpeg = tf.strings.substr(encoded, 0, 3) == JPEG_START
    is_png = tf.strings.substr(encoded, 0, 8) == PNG_START
    kind = tf.where(is_jpeg, 1, tf.where(is_png, 2, tf.where(is_webp(encoded), 3, 0)))
    finders: list[Callable[[tf.Tensor], tf.Tensor]] = [
        lambda _: tf.constant(-1, tf.int64),
        _find_exif_in_jpeg,
        _find_exif_in_png,
        _find_exif_in_webp,
    ]
    start = tf.switch_case(kind, [functools.partial(find, encoded) for find in finders])
    return tf.cond(start >= 0, lambda: _read_tiff_orientation(encoded, start), lambda: 1)


def _find_exif_in_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Gives where the TIFF block of a JPEG's first Exif segment starts, -1 if there is none.

    Application segments and comments stand before everything else; the search ends behind them.
    """
    # Nearly always it is the first segment, or the second behind JFIF's of 16 bytes.
    head = read_bytes(encoded, 0, 30)
    is_first = equals(head, 2, b"\xff\xe1") & equals(head, 6, b"Exif\0\0")
    is_second = (
        equals(head, 2, b"\xff\xe0\0\x10")
        & equals(head, 20, b"\xff\xe1")
        & equals(head, 24, b"Exif\0\0")
    )
    start = choose(is_first, 12, choose(is_second, 30, -1))
    return tf.cond(start >= 0, lambda: start, lambda: _walk_jpeg(encoded))


@one_node
def _walk_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Looks for the Exif segment among all that stand before the tables."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        head = read_bytes(encoded, position, 10)
        marker, size = head[1], big(head[2:4])
        is_fill = (head[0] == 0xFF) & (marker == 0xFF)
        is_header = (head[0] == 0xFF) & (((marker >= 0xE0) & (marker <= 0xEF)) | (marker == 0xFE))
        is_exif = is_header & (marker == 0xE1) & equals(head, 4, b"Exif\0\0")
        after = position + choose(is_fill, 1, 2 + tf.maximum(size, 2))
        found = choose(is_exif, position + 10, choose(is_fill | is_header, -1, -2))
        return after, found

    return walk(encoded, tf.constant(2, tf.int64), step)


@one_node
def _find_exif_in_png(encoded: tf.Tensor) -> tf.Tensor:
    """Gives where the content of a PNG's eXIf chunk starts, -1 if there is none."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        head = read_bytes(encoded, position, 8)
        found = choose(
            equals(head, 4, b"eXIf"), position + 8, choose(equals(head, 4, b"IEND"), -2, -1)
        )
        return position + 12 + big(head[:4]), found

    return walk(encoded, tf.constant(8, tf.int64), step)


@one_node
def _find_exif_in_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Gives where the TIFF block of a WebP's EXIF chunk starts, -1 if there is none."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        head = read_bytes(encoded, position, 14)
        size = little(head[4:8])
        # Some writers keep the six bytes that introduce the block in a JPEG.
        start = position + choose(equals(head, 8, b"Exif\0\0"), 14, 8)
        found = choose(equals(head, 0, b"EXIF"), start, -1)
        return position + 8 + size + size % 2, found

    head = read_bytes(encoded, 12, 9)
    may_have_exif = equals(head, 0, b"VP8X") & bit(head[8], 0x08)
    begin = choose(may_have_exif, 12, 2**62)
    return walk(encoded, begin, step)


def _read_tiff_orientation(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Reads the orientation from the first directory of the TIFF block at byte `start`."""
    head = read_bytes(encoded, start, 8)
    is_little = equals(head, 0, b"II*\0")
    is_known = is_little | equals(head, 0, b"MM\0*")

    def number(values: tf.Tensor) -> tf.Tensor:
        return choose(is_little, little(values), big(values))

    directory = start + number(head[4:8])
    count = number(read_bytes(encoded, directory, 2))
    table = read_bytes(encoded, directory + 2, tf.cast(12 * count, tf.int32))
    entries = tf.reshape(table, [-1, 12])  # [entry, byte]: tag 2, type 2, count 4, value 4
    tags, kinds, values = number(entries[:, :2]), number(entries[:, 2:4]), number(entries[:, 8:10])
    matches = tf.where((tags == ORIENTATION_TAG) & (kinds == 3))[:, 0]
    value = tf.reduce_sum(tf.gather(values, matches[:1]))
    is_valid = is_known & (value >= 1) & (value <= 8)
    return tf.cast(choose(is_valid, value, 1), tf.int32)


@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Does what `apply_orientation` does, as one node of the graph."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(is_one_of(orientation, [2, 3, 6, 7]), lambda: image[:, ::-1], lambda: image)
    return tf.cond(is_one_of(orientation, [3, 4, 7, 8]), lambda: image[::-1], lambda: image)
