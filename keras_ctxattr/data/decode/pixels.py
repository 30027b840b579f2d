"""From the bytes of an image to its pixels, in graph."""

import tensorflow as tf

from keras_ctxattr.data.decode.octets import (
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
from keras_ctxattr.data.decode.orientation import (
    JPEG_START,
    find_orientation,
    find_orientation_in_jpeg,
    is_plain_jpeg,
    turn_upright,
)


@tf.autograph.experimental.do_not_convert
def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    r"""Gives the upright RGB pixels of one encoded image.

    Reads JPEG (colour, grey, CMYK, YCCK), PNG (every bit depth; of 16 bits the upper 8 are kept),
    BMP (8, 24 and 32 bits, uncompressed), GIF (the first frame) and WebP (no animations). Grey
    becomes three equal channels, alpha is dropped (not blended). The EXIF orientation of JPEG, PNG
    and WebP files is applied; where the EXIF block is broken, the image stays as it is stored.

    Args:
        encoded: String scalar, the contents of an image file.

    Returns:
        Uint8 `[height, width, 3]` in 0...255, upright.

    Raises:
        tf.errors.InvalidArgumentError: When run, if the bytes are not an image that can be decoded
        to its end; now and then it is a tf.errors.CancelledError, where another part of the graph
        hears of it first.

    Example:
        >>> import tensorflow as tf
        >>> from keras_ctxattr.data.decode import decode_image
        >>> encoded = tf.io.encode_png(tf.zeros([4, 6, 1], tf.uint8))
        >>> decode_image(encoded).shape
        TensorShape([4, 6, 3])
    """
    encoded = tf.convert_to_tensor(encoded, tf.string)
    kind = tf.where(
        is_plain_jpeg(encoded), 0, tf.where(tf.strings.substr(encoded, 0, 3) == JPEG_START, 1, 2)
    )
    image = tf.switch_case(
        kind,
        [
            lambda: tf.io.decode_jpeg(encoded, channels=3),
            lambda: _decode_jpeg_with_exif(encoded),
            lambda: _decode_any(encoded),
        ],
    )
    image.set_shape([None, None, 3])
    return image


@one_node
def _decode_jpeg_with_exif(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_jpeg(encoded, channels=3)
    orientation = find_orientation_in_jpeg(encoded)
    return tf.cond(orientation == 1, lambda: image, lambda: turn_upright(image, orientation))


@one_node
def _decode_any(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes an image of any supported format and stands it upright."""
    # Not `tf.io.decode_webp`: a SavedModel with that op cannot be loaded by older versions. Asked
    # for 3 channels, this op refuses animated WebP. It must: without a number of channels the
    # decoder of TensorFlow 2.21 writes past its memory on an animation without alpha.
    image = tf.cond(
        tf.strings.substr(encoded, 0, 2) == b"BM",
        lambda: _decode_bmp(encoded),
        lambda: tf.cond(
            _is_webp_with_alpha(encoded),
            lambda: tf.io.decode_image(encoded, channels=4, expand_animations=False)[:, :, :3],
            lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
        ),
    )
    orientation = find_orientation(encoded)
    return tf.cond(orientation == 1, lambda: image, lambda: turn_upright(image, orientation))


def _is_webp_with_alpha(encoded: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        tf.strings.substr(encoded, 0, 4) == b"RIFF", lambda: _has_webp_alpha(encoded), lambda: False
    )


@one_node
def _has_webp_alpha(encoded: tf.Tensor) -> tf.Tensor:
    """Tells whether TensorFlow sees an alpha channel in a WebP file without animation.

    It must be asked for exactly the channels that are there. What counts is a bit of the lossless
    image; of a lossy one, the file's own flag or a chunk with alpha before it.
    """

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        head = read_bytes(encoded, position, 14)
        size = little(head[4:8])
        is_lossless, is_lossy = equals(head, 0, b"VP8L"), equals(head, 0, b"VP8 ")
        is_found = equals(head, 0, b"ALPH") | (is_lossless & bit(head[12], 0x10))
        found = choose(is_found, 1, choose(is_lossless, -2, choose(is_lossy, 0, -1)))
        return position + 8 + size + size % 2, found

    head = read_bytes(encoded, 12, 9)
    is_extended = equals(head, 0, b"VP8X")
    flag, is_animated = is_extended & bit(head[8], 0x10), is_extended & bit(head[8], 0x02)
    found = walk(encoded, tf.constant(12, tf.int64), step)
    return is_webp(encoded) & ~is_animated & ((found == 1) | ((found == 0) & flag))


@one_node
def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a BMP; a palette is looked up, which TensorFlow takes for shades of grey."""
    head = read_bytes(encoded, 0, 54)
    header_size, bits = little(head[14:18]), little(head[28:30])
    compression = little(head[30:34])
    check = tf.debugging.Assert(
        (header_size >= 40) & (compression == 0) & is_one_of(bits, [8, 24, 32]),
        ["Of BMP files only uncompressed ones of 8, 24 or 32 bits can be decoded"],
    )
    with tf.control_dependencies([check] if check is not None else []):
        pixels = tf.io.decode_bmp(encoded, channels=0)

    def look_up() -> tf.Tensor:
        table = tf.reshape(read_bytes(encoded, 14 + header_size, 1024), [256, 4])
        colours = tf.cast(table[:, 2::-1], tf.uint8)  # stored blue first
        return tf.gather(colours, tf.cast(pixels[:, :, 0], tf.int32))

    return tf.cond(bits == 8, look_up, lambda: pixels[:, :, :3])
