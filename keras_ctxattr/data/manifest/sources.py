"""Where images are: folders, archives, TFRecord files and TFDS data sets, listed only."""

import dataclasses
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_ctxattr.data.manifest.cache import decompress
from keras_ctxattr.data.manifest.headers import IMAGE_SUFFIXES, detect_format
from keras_ctxattr.data.manifest.table import NOT_AN_IMAGE, CollectionError
from keras_ctxattr.data.manifest.tfds import materialise_tfds

TAR_SUFFIXES = (".tar",)
RECORD_MARKS = (".tfrecord", ".tfrecords")
COMPRESSED_TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TAR_BLOCK = 512  # bytes; every header and every member starts at a multiple


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """The place of one file that may be an image.

    Attributes:
        key: Its name in the collection.
        path: The file, or the container it lies in.
        offset: First byte.
        length: Number of bytes.
        total: Bytes of the whole file `path`.
        must_be_image: True if anything but an image is a fault, whatever the name says.
        skip: A reason already known at listing, or "".
    """

    key: str
    path: str
    offset: int = 0
    length: int = 0
    total: int = 0
    must_be_image: bool = False
    skip: str = ""


def list_source(source: str, cache_dir: Path) -> Iterator[Entry]:
    """Lists the files of one source in no particular order.

    Args:
        source: A folder, an archive, a TFRecord file, an image, or `tfds:NAME[:SPLIT]`.
        cache_dir: Where sources that cannot be read at random are unpacked once.

    Raises:
        CollectionError: If there is no such source, or it is damaged.
    """
    if source.startswith("tfds:"):
        return _list_tar(materialise_tfds(source, cache_dir), source)
    path = Path(os.path.abspath(os.path.expanduser(source)))  # noqa: PTH100, PTH111
    if path.is_dir():
        return _list_folder(path)
    if not path.is_file():
        raise CollectionError(
            "Photographs must be a folder, a .tar, .tar.gz or TFRecord file, an image, or "
            f"tfds:NAME[:SPLIT], and must exist. Received: {source}"
        )
    return _list_file(path, cache_dir)


def _list_file(path: Path, cache_dir: Path) -> Iterator[Entry]:
    """Lists a file named as a source of its own."""
    name = path.name.lower()
    is_record = any(mark in name for mark in RECORD_MARKS)
    if name.endswith(TAR_SUFFIXES + COMPRESSED_TAR_SUFFIXES) or is_record:
        _check_readable(path)
        readable = decompress(path, cache_dir)
        return _list_records(readable, path) if is_record else _list_tar(readable, path)
    size = path.stat().st_size
    return iter([Entry(key=path.name, path=str(path), length=size, total=size, must_be_image=True)])


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise CollectionError(
            "An archive of photographs must be readable; check its permissions. "
            f"Received: {path}: {error.strerror}"
        ) from error


# --- folders ---


def _list_folder(root: Path) -> Iterator[Entry]:
    """Lists a folder and all below it, each folder once: symbolic links may form a loop.

    Linked folders come last, so that a folder is listed under its own name where it has one in the
    collection. Hidden folders are left out.
    """
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[Path, str]] = [(root, "")]
    linked: list[tuple[Path, str]] = []
    while waiting or linked:
        folder, prefix = waiting.pop() if waiting else linked.pop(0)
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            children = sorted(os.scandir(folder), key=lambda child: child.name)
        except OSError as error:
            yield _unreadable(prefix or folder.name, folder, error)
            continue
        for child in children:
            key = f"{prefix}{child.name}"
            if _is_folder(child):
                if not child.name.startswith("."):
                    queue = linked if child.is_symlink() else waiting
                    queue.append((Path(child.path), key + "/"))
            else:
                yield from _list_child(key, Path(child.path))


def _is_folder(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _list_child(key: str, path: Path) -> Iterator[Entry]:
    """Lists one file of a folder; containers that can be read at random are opened."""
    try:
        status = path.stat()
    except OSError as error:
        yield _unreadable(key, path, error)
        return
    if not stat.S_ISREG(status.st_mode):
        yield Entry(key=key, path=str(path), skip=NOT_AN_IMAGE)
        return
    name = path.name.lower()
    is_record = any(mark in name for mark in RECORD_MARKS)
    if not name.startswith(".") and (name.endswith(TAR_SUFFIXES) or is_record):
        try:
            for entry in _list_records(path, key) if is_record else _list_tar(path, key):
                yield dataclasses.replace(entry, key=f"{key}/{entry.key}")
        except (CollectionError, OSError) as error:
            yield Entry(key=key, path=str(path), skip=f"unreadable: {error}")
        return
    yield Entry(key=key, path=str(path), length=status.st_size, total=status.st_size)


def _unreadable(key: str, path: Path, error: OSError) -> Entry:
    is_relevant = path.suffix.lower() in IMAGE_SUFFIXES or key.endswith("/")
    reason = f"unreadable: {(error.strerror or str(error)).lower()}"
    return Entry(key=key, path=str(path), skip=reason if is_relevant else NOT_AN_IMAGE)


# --- containers ---


def _list_tar(path: Path, named: Path | str) -> Iterator[Entry]:
    """Lists the regular files of an uncompressed tar archive; errors call it what the user does."""
    return list_tar(lambda: tarfile.open(path, "r:"), str(path), path.stat().st_size, named)


def list_tar(
    open_archive: Callable[[], tarfile.TarFile], path: str, total: int, named: Path | str
) -> Iterator[Entry]:
    """Lists the regular files of an uncompressed tar archive.

    Args:
        open_archive: Opens it for reading.
        path: Where it lies, for the entries.
        total: Its bytes.
        named: What errors call it.

    Raises:
        CollectionError: If it is damaged.
    """
    num_members = 0
    try:
        with open_archive() as archive:
            while (member := archive.next()) is not None:
                num_members += 1
                # The archive keeps every member it has seen: forget them, or memory grows with
                # their number.
                archive.members.clear()  # type: ignore[attr-defined]
                if not member.isreg() or member.sparse is not None:
                    continue
                yield Entry(
                    key=_normalise(member.name),
                    path=path,
                    offset=member.offset_data,
                    length=member.size,
                    total=total,
                )
            _check_tar_end(archive)
    except (tarfile.TarError, EOFError) as error:
        raise CollectionError(
            "A .tar source must be a whole, undamaged archive; copy or download it again. "
            f"Received: {named}: {error} (after {num_members} members)"
        ) from error


def _check_tar_end(archive: tarfile.TarFile) -> None:
    """Refuses an archive whose listing stopped in its midst, which tarfile does silently."""
    stream = archive.fileobj
    if stream is None:
        return
    stream.seek(archive.offset)
    if stream.read(TAR_BLOCK).strip(b"\0"):
        raise tarfile.ReadError(f"damaged header at byte {archive.offset}")


def _normalise(name: str) -> str:
    return name.removeprefix("./").lstrip("/")


def _list_records(path: Path, named: Path | str) -> Iterator[Entry]:
    """Lists the images of an uncompressed TFRecord file by where their bytes lie in it."""
    total = path.stat().st_size
    position = 0
    records = tf.data.TFRecordDataset(str(path))
    try:
        for number, record in enumerate(records.as_numpy_iterator()):
            start, length = _find_image(record)
            yield Entry(
                key=f"{number:08d}",
                path=str(path),
                offset=position + 12 + start,  # length 8, its check sum 4
                length=length,
                total=total,
                must_be_image=True,
            )
            position += len(record) + 16
    except tf.errors.OpError as error:
        line = error.message.splitlines()[0]
        raise CollectionError(
            "A TFRecord source must be a whole, undamaged file; write or download it again. "
            f"Received: {named}: {line.split(' [Op:')[0]}"
        ) from error


def _find_image(record: bytes) -> tuple[int, int]:
    """Gives (start, length) of the image in a record: all of it, or a feature of an Example."""
    if detect_format(record[:32]):
        return 0, len(record)
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return 0, len(record)
    for name in ("image/encoded", "image", "image_raw", "encoded"):
        values = features[name].bytes_list.value if name in features else []
        if len(values) and values[0]:
            return record.find(values[0]), len(values[0])
    return 0, 0
