"""Everything a folder of photographs may hold that is no photograph, and sources that are none."""

import errno
import gzip
import os
import struct
import zlib
from pathlib import Path

import pytest

from keras_ctxattr.data.manifest import CollectionError, scan_images
from tests.data.encoding import encode, make_pixels, write_images
from tests.data.test_manifest import cache, pack, write_records  # noqa: F401

JPEG = encode(make_pixels(64, 64), "JPEG")
PNG = encode(make_pixels())


def make_png_header(height: int, width: int) -> bytes:
    """Gives a PNG that states its size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def make_jpeg_of_size(height: int, width: int) -> bytes:
    start = JPEG.index(b"\xff\xc0")
    return JPEG[: start + 5] + struct.pack(">HH", height, width) + JPEG[start + 9 :]


def make_gif_of_size(height: int, width: int) -> bytes:
    gif = encode(make_pixels(), "GIF")
    return gif[:6] + struct.pack("<HH", width, height) + gif[10:]


FILES = {
    "empty.jpg": (b"", "unreadable: the file is empty"),
    "text.jpg": (b"hello, I am no image at all, I am words", "unreadable: the content is in no"),
    "zeros.png": (bytes(4096), "unreadable: the content is in no"),
    "html.jpeg": (b"<!DOCTYPE html><html>404</html>" * 9, "unreadable: the content is in no"),
    "pdf.png": (b"%PDF-1.4 ..." * 9, "unreadable: the content is in no"),
    "cut.jpg": (JPEG[:-400], "unreadable: JPEG"),
    "head.jpg": (JPEG[:30], "unreadable: JPEG"),
    "start.jpg": (b"\xff\xd8\xff", "unreadable: JPEG"),
    "cut.png": (PNG[:-30], "unreadable: PNG"),
    "damaged.png": (PNG[:60] + bytes(20) + PNG[80:], "unreadable: PNG"),
    "start.png": (b"\x89PNG\r\n\x1a\n", "unreadable: PNG"),
    "cut.bmp": (encode(make_pixels(), "BMP")[:-500], "unreadable: BMP"),
    "cut.gif": (encode(make_pixels(), "GIF")[:200], "unreadable: GIF"),
    "cut.webp": (encode(make_pixels(), "WEBP")[:-20], "unreadable: WEBP"),
    "cut.tif": (encode(make_pixels(), "TIFF")[:100], "unreadable: "),
    "start.tif": (b"II*\0", "unreadable: "),
    "none.heic": (b"\0\0\0\x18ftypheic" + bytes(300), "unreadable: "),
    "none.avif": (b"\0\0\0\x18ftypavif" + bytes(300), "unreadable: "),
    "bomb.png": (make_png_header(60000, 60000), "too large: 60000x60000"),
    "bomb.jpg": (make_jpeg_of_size(65500, 65500), "too large: 65500x65500"),
    "bomb.gif": (make_gif_of_size(65000, 65000), "too large: 65000x65000"),
    "bomb.bmp": (
        encode(make_pixels(), "BMP")[:18]
        + struct.pack("<ii", 90000, -90000)
        + encode(make_pixels(), "BMP")[26:],
        "too large: 90000x90000",
    ),
    "lying.png": (make_png_header(900, 900), "unreadable: PNG"),
    "nothing.png": (make_png_header(0, 0), "unreadable: PNG"),
    "notes.txt": (b"words", "not an image"),
    "labels.csv": (b"a,b\n", "not an image"),
    "truth.mat": (b"MATLAB 5.0 MAT-file", "not an image"),
    "box.xml": (b"<annotation/>", "not an image"),
    "._photo.jpg": (b"\0\5\x16\7", "not an image"),
    "none": (b"", "not an image"),
    "pixel.png": (encode(make_pixels(1, 1)), ""),
    "line.png": (encode(make_pixels(1, 900)), ""),
    "named.gif": (encode(make_pixels(8, 8)), ""),
}


@pytest.fixture(scope="module")
def reasons(tmp_path_factory) -> dict[str, str]:
    """Scans all the files at once and gives each one's reason."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (content, _) in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "folder.jpg").mkdir()
    manifest = scan_images(folder, cache_dir=tmp_path_factory.mktemp("bad_cache"))
    return dict(zip(manifest.keys, manifest.skips, strict=True))


@pytest.mark.parametrize("name", FILES)
def test_bad_file_is_skipped_with_its_reason(name: str, reasons: dict[str, str]) -> None:
    expected = FILES[name][1]
    assert reasons[name].startswith(expected)
    assert bool(reasons[name]) == bool(expected)
    assert "\n" not in reasons[name]
    assert "/" not in reasons[name].removeprefix("too large")  # no path of this machine


def test_unreadable_file_and_folder_are_skipped_with_the_reason(tmp_path, monkeypatch) -> None:
    write_images(tmp_path, ["a.png", "closed.png", "folder/b.png"])
    (tmp_path / "closed.png").chmod(0)
    (tmp_path / "folder").chmod(0)
    if os.access(tmp_path / "closed.png", os.R_OK):  # the superuser reads everything
        refuse_reading(monkeypatch, "closed.png", "folder")
    manifest = scan_images(tmp_path)
    (tmp_path / "folder").chmod(0o755)
    assert manifest.keys.tolist() == ["a.png", "closed.png", "folder/"]
    assert manifest.skips.tolist()[1:] == ["unreadable: permission denied"] * 2


def refuse_reading(monkeypatch, *names: str) -> None:
    import builtins

    for module, name in ((builtins, "open"), (os, "scandir")):
        original = getattr(module, name)

        def guarded(path, *args, original=original, **options):
            if isinstance(path, str | bytes | Path) and Path(os.fsdecode(path)).name in names:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path, *args, **options)

        monkeypatch.setattr(module, name, guarded)


def make_empty_folder(folder: Path) -> Path:
    return folder


def make_missing(folder: Path) -> Path:
    return folder / "nowhere"


def make_only_bad(folder: Path) -> Path:
    for name in ("empty.jpg", "text.jpg", "cut.png", "notes.txt"):
        (folder / name).write_bytes(FILES[name][0])
    return folder


def make_only_words(folder: Path) -> Path:
    (folder / "notes.txt").write_text("words")
    return folder


def make_bad_image(folder: Path) -> Path:
    (folder / "a.jpg").write_bytes(JPEG[:200])
    return folder / "a.jpg"


def make_zip(folder: Path) -> Path:
    (folder / "photos.zip").write_bytes(b"PK\3\4" + bytes(100))
    return folder / "photos.zip"


def make_text_tar(folder: Path) -> Path:
    (folder / "a.tar").write_bytes(b"this is no archive" * 100)
    return folder / "a.tar"


def make_empty_tar_file(folder: Path) -> Path:
    (folder / "a.tar").write_bytes(b"")
    return folder / "a.tar"


def make_tar_without_members(folder: Path) -> Path:
    return Path(pack(folder / "a.tar", {}))


def make_cut_tar(folder: Path) -> Path:
    path = Path(pack(folder / "a.tar", {"a.png": PNG, "b.png": JPEG * 9}))
    path.write_bytes(path.read_bytes()[: 512 * 6])
    return path


def make_damaged_tar(folder: Path) -> Path:
    path = Path(pack(folder / "a.tar", {"a.png": b"x" * 512, "b.png": PNG, "c.png": JPEG}))
    content = bytearray(path.read_bytes())
    content[1024:1100] = b"?" * 76  # the second header
    path.write_bytes(content)
    return path


def make_cut_tar_gz(folder: Path) -> Path:
    path = Path(pack(folder / "a.tar.gz", {"a.jpg": JPEG, "b.png": PNG}, "w:gz"))
    path.write_bytes(path.read_bytes()[:-500])
    return path


def make_damaged_tar_gz(folder: Path) -> Path:
    path = Path(pack(folder / "a.tgz", {"a.jpg": JPEG, "b.png": PNG}, "w:gz"))
    content = bytearray(path.read_bytes())
    content[300:310] = bytes(10)
    path.write_bytes(content)
    return path


def make_gz_of_words(folder: Path) -> Path:
    (folder / "a.tar.gz").write_bytes(gzip.compress(b"words" * 500))
    return folder / "a.tar.gz"


def make_cut_records(folder: Path) -> Path:
    path = Path(write_records(folder / "a.tfrecord", [PNG, JPEG]))
    path.write_bytes(path.read_bytes()[:-40])
    return path


def make_text_records(folder: Path) -> Path:
    (folder / "a.tfrecord").write_bytes(b"no records here" * 30)
    return folder / "a.tfrecord"


def make_records_without_images(folder: Path) -> Path:
    return Path(write_records(folder / "a.tfrecord", [b"words", b"\n\0"]))


SOURCES = {
    make_empty_folder: "empty",
    make_missing: "must exist",
    make_only_bad: "1 not an image, 3 unreadable",
    make_only_words: "1 not an image",
    make_bad_image: "1 unreadable",
    make_zip: "1 unreadable",
    make_text_tar: "undamaged archive",
    make_empty_tar_file: "undamaged archive",
    make_tar_without_members: "empty",
    make_cut_tar: "undamaged archive",
    make_damaged_tar: "undamaged archive",
    make_cut_tar_gz: "undamaged",
    make_damaged_tar_gz: "undamaged",
    make_gz_of_words: "undamaged archive",
    make_cut_records: "undamaged file",
    make_text_records: "undamaged file",
    make_records_without_images: "unreadable",
}


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__.removeprefix("make_"))
def test_bad_source_is_one_clear_line(make, tmp_path) -> None:
    source = make(tmp_path)
    cached = tmp_path / "cache"
    with pytest.raises(CollectionError, match=SOURCES[make]) as caught:
        scan_images(source, cache_dir=cached)
    message = str(caught.value)
    assert "\n" not in message
    assert "must" in message
    assert "Received: " in message
    assert str(source) in message
    assert not [path for path in cached.rglob("*") if path.is_file() and path.stat().st_size < 2000]


@pytest.mark.parametrize("source", ["tfds:no_such_data_set", "tfds:", "tfds:a:b:c:d"])
def test_unknown_tfds_name_is_one_clear_line(source: str) -> None:
    with pytest.raises(CollectionError, match="must") as caught:
        scan_images(source)
    assert "\n" not in str(caught.value)


def test_no_source_is_a_clear_error() -> None:
    with pytest.raises(CollectionError, match="at least one"):
        scan_images([])


def test_cache_that_cannot_be_written_is_a_clear_error(tmp_path) -> None:
    source = pack(tmp_path / "a.tar.gz", {"a.png": PNG}, "w:gz")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CollectionError, match="`cache_dir`"):
        scan_images(source, cache_dir=tmp_path / "file")


def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch) -> None:
    source = pack(tmp_path / "a.tar.gz", {"a.png": PNG}, "w:gz")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(CollectionError, match="No space left"):
        scan_images(source, cache_dir=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
