import io
import resource

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_ctxattr.data.decode import (
    apply_orientation,
    decode_image,
    read_encoded,
    read_orientation,
    read_region,
)
from tests.data.encoding import encode, make_exif, make_pixels

STRING = [tf.TensorSpec([], tf.string)]
decode = tf.function(decode_image, input_signature=STRING)
orientation_of = tf.function(read_orientation, input_signature=STRING)
PIXELS = make_pixels()


def read_with_pillow(encoded: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: int) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= tolerance


FORMATS = {
    "jpeg": (
        "JPEG",
        {"quality": 95, "subsampling": 0},
        4,
    ),  # the two inverse DCTs round differently
    "png": ("PNG", {}, 0),
    "webp": ("WEBP", {"lossless": True}, 0),
}


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", FORMATS)
def test_image_stands_upright_as_pillow_turns_it(
    name: str, orientation: int, byte_order: str
) -> None:
    kind, options, tolerance = FORMATS[name]
    encoded = encode(PIXELS, kind, exif=make_exif(orientation, byte_order), **options)
    assert orientation_of(encoded).numpy() == orientation
    assert_close(decode(encoded).numpy(), read_with_pillow(encoded), tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_turn_is_the_one_the_standard_names(orientation: int) -> None:
    # Exif 2.3, tag 274: what the 0th row and the 0th column of the stored pixels are in the scene.
    upright = np.arange(6).reshape(2, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],  # row 0 top, column 0 right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.T,  # left, top
        6: upright[:, ::-1].T,  # right, top
        7: upright[::-1, ::-1].T,  # right, bottom
        8: upright[::-1].T,  # left, bottom
    }[orientation]
    turned = apply_orientation(tf.constant(stored[:, :, None]), tf.constant(orientation))
    np.testing.assert_array_equal(turned.numpy()[:, :, 0], upright)


def make_jpeg_with_segments(*segments: bytes) -> bytes:
    encoded = encode(PIXELS, "JPEG")
    return encoded[:2] + b"".join(segments) + encoded[2:]


def make_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def test_orientation_is_found_behind_other_segments() -> None:
    exif = make_segment(0xE1, make_exif(6))
    xmp = make_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")
    photoshop = make_segment(0xED, b"Photoshop 3.0\0" + bytes(300))
    comment = make_segment(0xFE, b"hello")
    for before in ([], [photoshop], [xmp, comment], [b"\xff", comment], [comment] * 20):
        assert orientation_of(make_jpeg_with_segments(*before, exif)).numpy() == 6


def make_tiff(order: str, tag: int, kind: int, value: int, count: int = 1) -> bytes:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    name = "little" if order == "<" else "big"

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, name)

    entry = number(tag, 2) + number(kind, 2) + number(1, 4) + number(value, 2) + b"\0\0"
    return b"Exif\0\0" + head + number(8, 4) + number(count, 2) + entry + b"\0\0\0\0"


BROKEN_EXIF = {
    "empty": b"Exif\0\0",
    "byte order": b"Exif\0\0XX*\0" + bytes(20),
    "directory outside": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "directory cut": make_tiff("<", 0x0112, 3, 6)[:20],
    "value 0": make_tiff("<", 0x0112, 3, 0),
    "value 9": make_tiff(">", 0x0112, 3, 9),
    "another type": make_tiff("<", 0x0112, 2, 6),
    "another tag": make_tiff("<", 0x0113, 3, 6),
    "no entry": make_tiff("<", 0x0112, 3, 6, count=0),
    "not exif": b"http://ns.adobe.com/xap/1.0/\0",
}


@pytest.mark.parametrize("name", BROKEN_EXIF)
def test_broken_exif_leaves_the_image_as_stored(name: str) -> None:
    encoded = make_jpeg_with_segments(make_segment(0xE1, BROKEN_EXIF[name]))
    assert orientation_of(encoded).numpy() == 1
    plain = encode(PIXELS, "JPEG")
    np.testing.assert_array_equal(decode(encoded).numpy(), decode(plain).numpy())


def test_too_many_entries_do_not_hide_the_orientation() -> None:
    encoded = make_jpeg_with_segments(make_segment(0xE1, make_tiff("<", 0x0112, 3, 8, count=900)))
    assert orientation_of(encoded).numpy() == 8


def test_exif_marker_in_the_pixels_is_no_exif() -> None:
    encoded = encode(PIXELS, "JPEG") + make_segment(0xE1, make_exif(6))
    assert orientation_of(encoded).numpy() == 1


GREY = Image.fromarray(PIXELS).convert("L")
ALPHA = Image.fromarray(np.dstack([PIXELS, PIXELS[:, ::-1, 0]]))
PLAIN_FORMS = {
    "jpeg grey": (encode(GREY, "JPEG"), 0),
    "jpeg cmyk": (encode(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=95), 4),
    "jpeg progressive": (encode(PIXELS, "JPEG", progressive=True, quality=95, subsampling=0), 4),
    "png 1 bit": (encode(GREY.convert("1")), 0),
    "png grey": (encode(GREY), 0),
    "png palette": (encode(Image.fromarray(PIXELS).convert("P")), 0),
    "png grey alpha": (encode(GREY.convert("LA")), 0),
    "bmp grey": (encode(GREY, "BMP"), 0),
    "bmp palette": (encode(Image.fromarray(PIXELS).convert("P"), "BMP"), 0),
    "bmp colour": (encode(PIXELS, "BMP"), 0),
    "gif": (encode(PIXELS, "GIF"), 0),
    "webp lossy": (encode(PIXELS, "WEBP", quality=90), 0),
    "webp lossy alpha": (encode(ALPHA, "WEBP", quality=90), 0),
    "webp lossy exif": (encode(ALPHA, "WEBP", quality=90, exif=make_exif(7)), 0),
}


@pytest.mark.parametrize("name", PLAIN_FORMS)
def test_every_form_gives_the_pixels_that_pillow_reads(name: str) -> None:
    encoded, tolerance = PLAIN_FORMS[name]
    assert_close(decode(encoded).numpy(), read_with_pillow(encoded), tolerance)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_alpha_is_dropped_not_blended(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(encode(ALPHA, kind, **options)).numpy(), PIXELS)


def test_sixteen_bits_keep_the_upper_eight() -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    encoded = tf.io.encode_png(values[:, :, None] * 256 + 255).numpy()
    expected = np.repeat(values[:, :, None], 3, axis=2).astype(np.uint8)
    np.testing.assert_array_equal(decode(encoded).numpy(), expected)


def test_ycck_jpeg_is_the_cmyk_image_it_encodes() -> None:
    # Pillow writes no YCCK; an Adobe marker with transform 2 turns its CMYK file into one, which
    # Pillow then reads as such.
    encoded = encode(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=95)
    adobe = encoded.index(b"Adobe")
    ycck = encoded[: adobe + 11] + b"\x02" + encoded[adobe + 12 :]
    assert_close(decode(ycck).numpy(), read_with_pillow(ycck), 4)


def test_gif_gives_its_first_frame() -> None:
    others = [Image.fromarray(make_pixels(seed=seed)) for seed in (1, 2)]
    encoded = encode(PIXELS, "GIF", save_all=True, append_images=others)
    assert_close(decode(encoded).numpy(), read_with_pillow(encoded), 0)


BAD_BYTES = {
    "nothing": b"",
    "text": b"just some words, no image at all",
    "jpeg start only": b"\xff\xd8\xff",
    "jpeg cut": encode(make_pixels(64, 64), "JPEG")[:-300],
    "jpeg cut in exif": make_jpeg_with_segments(make_segment(0xE1, make_exif(6)))[:40],
    "png start only": b"\x89PNG\r\n\x1a\n",
    "png cut": encode(PIXELS)[:-40],
    "bmp start only": b"BM",
    "bmp of 1 bit": encode(GREY.convert("1"), "BMP"),
    "webp cut": encode(PIXELS, "WEBP")[:-30],
    "webp animated": encode(PIXELS, "WEBP", save_all=True, append_images=[GREY.convert("RGB")]),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bytes_that_are_no_whole_image_are_an_error(name: str) -> None:
    # What is told depends on which part of the graph is first to hear of the failed check.
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.CancelledError)):
        decode(BAD_BYTES[name])


def test_decoding_in_a_data_set_and_in_a_saved_model_agree(tmp_path) -> None:
    encoded = [encode(PIXELS, kind, **options) for kind, options, _ in FORMATS.values()] + [
        encode(PIXELS, "JPEG", exif=make_exif(5)),
        PLAIN_FORMS["bmp palette"][0],
    ]
    module = tf.Module()
    module.decode = tf.function(decode_image, input_signature=STRING)
    tf.saved_model.save(module, str(tmp_path / "module"))
    loaded = tf.saved_model.load(str(tmp_path / "module"))
    images = tf.data.Dataset.from_tensor_slices(encoded).map(decode_image, num_parallel_calls=2)
    assert images.element_spec.shape.as_list() == [None, None, 3]
    for one, image in zip(encoded, images, strict=True):
        np.testing.assert_array_equal(image.numpy(), decode(one).numpy())
        np.testing.assert_array_equal(image.numpy(), loaded.decode(one).numpy())


def test_ranges_and_whole_files_are_read(tmp_path) -> None:
    content = np.random.default_rng(0).bytes(5000)
    path = tmp_path / "container"
    path.write_bytes(content)
    ranges = [(0, 5000), (0, 1), (4999, 1), (1234, 2000), (0, 4000)]

    def read(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        offset, length = row[0], row[1]
        return (
            read_encoded(str(path), offset, length, 5000),
            read_region(path, 5000, offset, length),
        )

    rows = tf.data.Dataset.from_tensor_slices(tf.constant(ranges, tf.int64)).map(read)
    for (offset, length), both in zip(ranges, rows.as_numpy_iterator(), strict=True):
        assert both == (content[offset : offset + length],) * 2


def test_range_of_a_large_container_takes_no_memory_for_the_rest(tmp_path) -> None:
    # The runtime folded the mapped file as a constant: twice its size in memory at the first call.
    path, total, offset = tmp_path / "large", 3 * 2**29, 2**30 + 7
    with path.open("wb") as stream:  # sparse
        stream.truncate(total)
        stream.seek(offset)
        stream.write(b"hello")
    rows = tf.data.Dataset.from_tensors(tf.constant([offset, 5], tf.int64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    contents = list(rows.map(lambda row: read_region(path, total, row[0], row[1])))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert contents[0].numpy() == b"hello"
    assert after - before < 300_000  # KiB


def test_container_that_shrank_is_an_error_not_a_crash(tmp_path) -> None:
    path = tmp_path / "container"
    path.write_bytes(bytes(5000))
    read = tf.function(lambda offset: read_region(path, 5000, offset, tf.constant(10, tf.int64)))
    assert read(tf.constant(4990, tf.int64)).numpy() == bytes(10)
    path.write_bytes(bytes(100))
    with pytest.raises(tf.errors.OpError, match="wrong length"):
        read(tf.constant(4990, tf.int64))
