"""One image looked at closely: what format it has, how large it is, whether it decodes."""

import dataclasses
import errno
import functools
import hashlib
import io
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image, read_orientation
from keras_ctxattr.data.manifest.cache import write_beside
from keras_ctxattr.data.manifest.headers import (
    IMAGE_SUFFIXES,
    detect_format,
    has_transparency,
    needs_conversion,
    read_size,
)
from keras_ctxattr.data.manifest.remote import StoreError, is_url, read_remote
from keras_ctxattr.data.manifest.sources import Entry
from keras_ctxattr.data.manifest.table import NOT_AN_IMAGE

MAX_ENCODED_BYTES = 2**29  # what TensorFlow's decoders take
UNREADABLE = "unreadable: "

# Besides that it was deleted. Whatever else keeps a file from being read keeps others, too.
_FAULTS_OF_A_FILE = {
    errno.EACCES,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,
    errno.EPERM,
}

_PILLOW_LOCK = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one entry after looking at its bytes; see the columns of `Manifest`."""

    entry: Entry
    height: int = 0
    width: int = 0
    format: str = ""
    orientation: int = 1
    digest: str = ""
    skip: str = ""


def inspect_entry(entry: Entry, *, max_pixels: int, cache_dir: Path) -> Facts:
    """Reads, checks and fully decodes one image; what is wrong becomes the reason to skip it.

    Args:
        entry: Where the bytes are.
        max_pixels: Images whose header states more are refused without decoding them.
        cache_dir: Where an image that TensorFlow does not read is kept as a PNG.
    """
    facts, encoded = load_entry(entry, max_pixels=max_pixels, cache_dir=cache_dir)
    if facts.skip:
        return facts
    try:
        height, width, orientation = measure()(encoded).numpy().tolist()
    except tf.errors.OpError as error:
        return dataclasses.replace(facts, skip=explain_undecodable(facts.format, error))
    return dataclasses.replace(facts, height=height, width=width, orientation=orientation)


def load_entry(
    entry: Entry, *, max_pixels: int, cache_dir: Path, insist: bool = False
) -> tuple[Facts, bytes]:
    """Reads and checks one image without decoding it, for those who decode it themselves.

    Args:
        entry: As for `inspect_entry`.
        max_pixels: As for `inspect_entry`.
        cache_dir: As for `inspect_entry`.
        insist: Whether a fault of the machine or its disk is an error, and no reason to skip.

    Returns:
        What is known, without size and orientation, and the bytes as `decode_image` takes them:
        those of a copy where the format is foreign to it, none where the image is to be skipped.

    Raises:
        StoreError: If `insist`, and the machine cannot read what it should.
    """
    if entry.skip:
        return Facts(entry=entry, skip=entry.skip), b""
    name = entry.key.rsplit("/", 1)[-1]
    should_be_image = Path(name).suffix.lower() in IMAGE_SUFFIXES or entry.must_be_image
    if name.startswith("."):
        return Facts(entry=entry, skip=NOT_AN_IMAGE), b""
    try:
        head = _read(entry, 32)
        found = detect_format(head)
        if not found:
            return Facts(entry=entry, skip=_explain_no_format(head, should_be_image)), b""
        if entry.length > MAX_ENCODED_BYTES:
            reason = f"too large: {entry.length} bytes, at most {MAX_ENCODED_BYTES} are read"
            return Facts(entry=entry, format=found, skip=reason), b""
        encoded = _read(entry, entry.length)
    except OSError as error:
        if insist and not _is_of_the_file(entry, error):
            raise StoreError(
                "Every photograph must be where it was listed, on each machine that reads it; "
                "look at the disk, and give the same command again. Received: "
                f"{entry.path}: {(error.strerror or str(error)).lower()}"
            ) from error
        reason = UNREADABLE + (error.strerror or str(error)).lower()
        return Facts(entry=entry, skip=reason), b""
    facts = Facts(
        entry=entry, format=found, digest=hashlib.blake2b(encoded, digest_size=16).hexdigest()
    )
    if len(encoded) < entry.length:
        return dataclasses.replace(facts, skip=UNREADABLE + "the file ends early"), b""
    return _check_content(facts, encoded, max_pixels, cache_dir)


def _check_content(
    facts: Facts, encoded: bytes, max_pixels: int, cache_dir: Path
) -> tuple[Facts, bytes]:
    size = read_size(facts.format, encoded)
    if size is not None and size[0] * size[1] > max_pixels:
        reason = f"too large: {size[0]}x{size[1]} (height x width), at most {max_pixels} pixels"
        return dataclasses.replace(facts, skip=reason), b""
    try:
        if needs_conversion(facts.format, encoded):
            encoded, facts = _convert(facts, encoded, cache_dir)
    except UnreadableError as error:
        return dataclasses.replace(facts, skip=UNREADABLE + str(error)), b""
    return facts, encoded


def explain_undecodable(name: str, error: tf.errors.OpError) -> str:
    """Gives the reason to skip an image of a format that TensorFlow could not decode."""
    return f"{UNREADABLE}{name.upper()}, {explain_error(error)}"


class UnreadableError(Exception):
    """An image that no reader here understands; the message is the reason."""


def _convert(facts: Facts, encoded: bytes, cache_dir: Path) -> tuple[bytes, Facts]:
    """Keeps an upright lossless copy of an image in the cache, named by its digest."""
    # "converted" without a number is from when transparent TIFFs were mixed with black.
    target = cache_dir / "converted-2" / f"{facts.digest}.png"
    if target.is_file():
        png = target.read_bytes()
    else:
        # OpenCV multiplies the colours of a TIFF by its alpha, even where it gives both.
        is_mixed = has_transparency(facts.format, encoded)
        readers = (_read_with_opencv, _read_with_pillow)
        tried = (read(encoded) for read in (readers[::-1] if is_mixed else readers))
        pixels = next((pixels for pixels in tried if pixels is not None), None)
        if pixels is None:
            raise UnreadableError(f"no reader for this {facts.format.upper()} file is installed")
        png = cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()
        with write_beside(target) as stream:
            stream.write(png)
    entry = dataclasses.replace(
        facts.entry, path=str(target), offset=0, length=len(png), total=len(png)
    )
    return png, dataclasses.replace(facts, entry=entry)


def _read_with_opencv(encoded: bytes) -> np.ndarray | None:
    """Gives upright RGB pixels, None if OpenCV does not read the bytes."""
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if pixels is None else pixels[:, :, ::-1]


def _read_with_pillow(encoded: bytes) -> np.ndarray | None:
    """Likewise with Pillow, which scikit-image brings, and its HEIF plug-in if there is one."""
    from PIL import Image, ImageOps

    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    try:
        with (
            _PILLOW_LOCK,  # the filters of warnings belong to the whole process
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(encoded)) as image,
        ):
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def upright_size(encoded: bytes) -> tuple[int, int]:
    """Gives the (height, width) of an image that `decode_image` reads, from its header alone."""
    height, width = read_size(detect_format(encoded[:32]), encoded) or (0, 0)
    return (width, height) if int(_orientation_reader()(encoded)) >= 5 else (height, width)


@functools.cache
def _orientation_reader() -> Callable[[tf.Tensor], tf.Tensor]:
    spec = [tf.TensorSpec([], tf.string)]
    return tf.function(read_orientation, input_signature=spec, autograph=False)


@functools.cache
def measure() -> Callable[[tf.Tensor], tf.Tensor]:
    """Gives a function from bytes to int32 (height, width, orientation), by decoding them."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def measure_encoded(encoded: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(decode_image(encoded))
        return tf.stack([shape[0], shape[1], read_orientation(encoded)])

    measure_encoded.get_concrete_function()
    return measure_encoded


def _read(entry: Entry, count: int) -> bytes:
    if is_url(entry.path):
        return read_remote(entry.path, entry.offset, min(count, entry.length))
    with open(os.fsencode(entry.path), "rb") as stream:  # noqa: PTH123 - a name need not be UTF-8
        stream.seek(entry.offset)
        return stream.read(min(count, entry.length))


def _is_of_the_file(entry: Entry, error: OSError) -> bool:
    """Tells a fault of one file, such as that it was deleted, from one of a whole disk."""
    if error.errno == errno.ENOENT:
        is_archive = (entry.offset, entry.length) != (0, entry.total)
        return not is_archive and Path(entry.path).parent.is_dir()
    return error.errno in _FAULTS_OF_A_FILE or is_url(entry.path)


def _explain_no_format(head: bytes, should_be_image: bool) -> str:
    if not should_be_image:
        return NOT_AN_IMAGE
    if not head:
        return UNREADABLE + "the file is empty"
    return UNREADABLE + "the content is in no known image format"


def explain_error(error: tf.errors.OpError) -> str:
    """Gives the one line of a TensorFlow error that says what was wrong.

    Args:
        error: as TensorFlow raised it, with the places in the graph that it went through.
    """
    if isinstance(error, tf.errors.CancelledError):  # says only that something else failed before
        return "cannot be decoded"
    places = (
        *("[[", "File ", "Detected at", "Graph execution", "Function call stack", "->"),
        "<stack traces",
    )
    lines = (line.strip() for line in error.message.splitlines())
    told = [line for line in lines if line and not line.startswith(places)]
    return told[0].split(" [Op:")[0] if told else "cannot be decoded"
