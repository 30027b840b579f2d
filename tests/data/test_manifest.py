import io
import os
import sqlite3
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ctxattr.data.images import load_images
from keras_ctxattr.data.manifest import CollectionError, Manifest, find_change, scan_images
from keras_ctxattr.data.manifest.inspection import explain_undecodable
from tests.data.encoding import encode, make_exif, make_pixels, write_images

COLUMNS = [name for name in Manifest.__annotations__ if name != "sources"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Keeps the cache of these tests out of the user's home."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "ctxattr"


def pack(path, contents: dict[str, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def write_records(path, records: list[bytes], compression: str = "") -> str:
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def make_example(encoded: bytes, name: str) -> bytes:
    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {"image/format": feature(b"png"), name: feature(encoded), "label": feature(b"x")}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def pixels_of(manifest: Manifest) -> list[np.ndarray]:
    return [element["image"].numpy() for element in load_images(manifest)]


def test_rows_say_what_the_files_are(tmp_path) -> None:
    (tmp_path / "b.jpg").write_bytes(encode(make_pixels(24, 40), "JPEG", exif=make_exif(6)))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(encode(make_pixels(16, 32)))
    manifest = scan_images(tmp_path)
    assert manifest.keys.tolist() == ["b.jpg", "sub/a.png"]
    assert manifest.image_ids.tolist() == [0, 1]
    assert manifest.formats.tolist() == ["jpeg", "png"]
    assert manifest.orientations.tolist() == [6, 1]
    assert manifest.heights.tolist() == [40, 16]  # upright
    assert manifest.widths.tolist() == [24, 32]
    assert manifest.paths.tolist() == [str(tmp_path / key) for key in manifest.keys]
    assert manifest.lengths.tolist() == [Path(path).stat().st_size for path in manifest.paths]
    assert len(set(manifest.digests)) == 2
    assert manifest.image_ids.dtype == np.int64
    assert manifest.heights.dtype == np.int32
    assert manifest.orientations.dtype == np.int8


@pytest.mark.parametrize(
    "kind",
    ["tar", "tar.gz", "tgz", "tar.bz2", "records", "examples", "image feature", "records.gz"],
)
def test_every_source_holds_the_images_of_the_folder(kind: str, tmp_path) -> None:
    names = [f"{letter}.png" for letter in "cab"]
    folder = tmp_path / "photos"
    contents = write_images(folder, names)
    expected = [contents[names.index(name)] for name in sorted(names)]
    if kind.startswith("t"):
        mode = {"tar": "w", "tar.bz2": "w:bz2"}.get(kind, "w:gz")
        packed = dict(zip(names, contents, strict=True))
        source = pack(tmp_path / f"photos.{kind}", packed, mode)
    elif kind.startswith("records"):
        compression = "GZIP" if kind.endswith("gz") else ""
        name = "photos.tfrecord-00000-of-00001"
        source = write_records(tmp_path / name, expected, compression)
    else:
        name = "image/encoded" if kind == "examples" else "image"
        source = write_records(
            tmp_path / "photos.tfrecords", [make_example(one, name) for one in expected]
        )
    manifest, reference = scan_images(source), scan_images(folder)
    for column in ("digests", "heights", "widths", "formats", "lengths", "skips"):
        assert getattr(manifest, column).tolist() == getattr(reference, column).tolist()
    if kind.startswith("t"):
        assert manifest.keys.tolist() == reference.keys.tolist()
    for ours, theirs in zip(pixels_of(manifest), pixels_of(reference), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_compressed_archive_is_unpacked_once_and_again_when_it_changed(tmp_path, cache) -> None:
    source = pack(tmp_path / "p.tar.gz", {"a.png": encode(make_pixels())}, "w:gz")
    first = scan_images(source).paths[0]
    stamp = Path(first).stat().st_mtime_ns
    assert scan_images(source).paths[0] == first
    assert Path(first).stat().st_mtime_ns == stamp
    pack(tmp_path / "p.tar.gz", {"b.png": encode(make_pixels(seed=1))}, "w:gz")
    assert scan_images(source).keys.tolist() == ["b.png"]
    assert not [path for path in cache.rglob("*") if path.suffix == ".part"]


def test_archives_inside_a_folder_are_opened(tmp_path) -> None:
    image = encode(make_pixels())
    pack(tmp_path / "shard.tar", {"in/x.png": image})
    write_records(tmp_path / "shard.tfrecord", [encode(make_pixels(seed=1))])
    (tmp_path / "broken.tar").write_bytes(b"not a tar" * 200)
    manifest = scan_images(tmp_path)
    assert manifest.keys.tolist() == ["broken.tar", "shard.tar/in/x.png", "shard.tfrecord/00000000"]
    assert manifest.skips[0].startswith("unreadable: ")
    assert len(manifest.usable()) == 2


def test_order_of_files_and_sources_does_not_matter(tmp_path, monkeypatch) -> None:
    names = [f"{folder}/{number}.png" for folder in "zay" for number in range(4)]
    write_images(tmp_path, names)
    forward = scan_images([tmp_path / "z", tmp_path / "a"])
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: reversed(list(scandir(path))))
    backward = scan_images([tmp_path / "a", tmp_path / "z"])
    for column in COLUMNS:
        assert getattr(forward, column).tolist() == getattr(backward, column).tolist()
    assert forward.keys[0] == "a/0.png"


def test_sources_of_one_name_keep_their_keys_apart(tmp_path) -> None:
    write_images(tmp_path, ["one/photos/a.png", "two/photos/a.png"])
    manifest = scan_images([tmp_path / "one" / "photos", tmp_path / "two" / "photos"])
    assert manifest.keys.tolist() == ["photos/a.png", "photos~2/a.png"]


def test_copies_are_skipped_but_for_the_first(tmp_path) -> None:
    contents = write_images(tmp_path, ["b.png", "d.png"])
    (tmp_path / "a.png").write_bytes(contents[1])
    (tmp_path / "c.png").write_bytes(contents[0])
    manifest = scan_images(tmp_path)
    assert manifest.skips.tolist() == ["", "", "duplicate of b.png", "duplicate of a.png"]
    assert manifest.summary()["skips"] == {"duplicate": 2}
    assert len(scan_images(tmp_path, keep_duplicates=True).usable()) == 4


def test_name_twice_in_an_archive_gives_two_rows(tmp_path) -> None:
    path = pack(tmp_path / "p.tar", {"a.png": encode(make_pixels())})
    with tarfile.open(path, "a") as archive:
        content = encode(make_pixels(seed=1))
        member = tarfile.TarInfo("./a.png")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert scan_images(path).keys.tolist() == ["a.png", "a.png~2"]


def test_content_counts_not_the_name(tmp_path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode(make_pixels()))
    (tmp_path / "b").write_bytes(encode(make_pixels(seed=1), "JPEG"))
    (tmp_path / "c.txt").write_bytes(encode(make_pixels(seed=2), "GIF"))
    manifest = scan_images(tmp_path)
    assert manifest.formats.tolist() == ["png", "jpeg", "gif"]
    assert not any(manifest.skips)


def test_other_files_are_no_images_and_no_failures(tmp_path) -> None:
    write_images(tmp_path, ["a.png", ".hidden/b.png", ".c.png"])
    for name in ("notes.txt", "labels.csv", "._a.jpg", "truth.mat", ".DS_Store"):
        (tmp_path / name).write_bytes(b"words")
    manifest = scan_images(tmp_path)
    assert manifest.summary()["skips"] == {"not an image": 6}
    assert manifest.usable().keys.tolist() == ["a.png"]


def test_links_are_followed_once_and_loops_end(tmp_path) -> None:
    write_images(tmp_path / "outside", ["x.png"])
    root = tmp_path / "root"
    write_images(root, ["z/a.png"], height=16)
    (root / "loop").symlink_to(root)
    (root / "z" / "up").symlink_to("..")
    (root / "again").symlink_to(root / "z")
    (root / "other").symlink_to(tmp_path / "outside")
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "gone.jpg").symlink_to("nowhere.jpg")
    manifest = scan_images(root)
    assert manifest.usable().keys.tolist() == ["other/x.png", "z/a.png"]
    assert manifest.summary()["skips"] == {"unreadable": 2}


def test_pipe_named_like_an_image_does_not_hang(tmp_path) -> None:
    write_images(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "b.png")
    assert scan_images(tmp_path).skips.tolist() == ["", "not an image"]


def test_names_that_are_no_text_are_kept(tmp_path) -> None:
    name = os.fsdecode(b"caf\xe9 \n.png")
    (tmp_path / name).write_bytes(encode(make_pixels()))
    manifest = scan_images(tmp_path)
    manifest.save(tmp_path / "manifest.sqlite")
    loaded = Manifest.load(tmp_path / "manifest.sqlite")
    assert loaded.keys.tolist() == [name]
    np.testing.assert_array_equal(pixels_of(loaded)[0], make_pixels())


TIFF_OPTIONS = [{}, {"compression": "tiff_lzw"}, {"exif": make_exif(8)}]


@pytest.mark.parametrize("options", TIFF_OPTIONS)
def test_tiff_is_converted_without_loss(options, tmp_path, cache) -> None:
    (tmp_path / "a.tif").write_bytes(encode(make_pixels(), "TIFF", **options))
    manifest = scan_images(tmp_path)
    assert manifest.formats.tolist() == ["tiff"]
    assert manifest.paths[0].startswith(str(cache))
    expected = np.rot90(make_pixels()) if "exif" in options else make_pixels()
    np.testing.assert_array_equal(pixels_of(manifest)[0], expected)
    assert manifest.heights[0] == expected.shape[0]


def test_what_only_other_readers_decode_is_converted(tmp_path) -> None:
    pixels = make_pixels()
    (tmp_path / "a.webp").write_bytes(
        encode(
            pixels,
            "WEBP",
            save_all=True,
            append_images=[Image.fromarray(pixels[::-1])],
            lossless=True,
        )
    )
    (tmp_path / "b.bmp").write_bytes(encode(Image.fromarray(pixels).convert("1"), "BMP"))
    (tmp_path / "c.ppm").write_bytes(encode(pixels[::-1], "PPM"))
    manifest = scan_images(tmp_path)
    assert not any(manifest.skips)
    images = pixels_of(manifest)
    np.testing.assert_array_equal(images[0], pixels)
    np.testing.assert_array_equal(images[2], pixels[::-1])
    assert set(np.unique(images[1])) == {0, 255}


@pytest.mark.parametrize("options", TIFF_OPTIONS)
def test_transparent_tiff_keeps_its_colours_as_a_png_does(options, tmp_path) -> None:
    """OpenCV multiplies them by alpha: what was transparent came out black."""
    colours = make_pixels()
    alpha = np.broadcast_to(np.linspace(0, 255, colours.shape[1]), colours.shape[:2])
    pixels = np.dstack([colours, alpha.astype(np.uint8)])
    (tmp_path / "a.tif").write_bytes(encode(pixels, "TIFF", **options))
    (tmp_path / "b.png").write_bytes(encode(pixels, "PNG", **options))
    images = pixels_of(scan_images(tmp_path))
    assert images[0].shape[2] == 3 and images[0].min() == colours.min()
    np.testing.assert_array_equal(images[0], images[1])


def test_cmyk_tiff_is_not_taken_for_a_transparent_one(tmp_path) -> None:
    ink = Image.fromarray(make_pixels()).convert("CMYK")
    (tmp_path / "a.tif").write_bytes(encode(ink, "TIFF"))
    np.testing.assert_array_equal(pixels_of(scan_images(tmp_path))[0], make_pixels())


def test_change_since_the_scan_is_found_and_named(tmp_path) -> None:
    photos = tmp_path / "photos"
    contents = write_images(photos, ["a.png", "b.png", "c.png"])
    (photos / "d.tif").write_bytes(encode(make_pixels(seed=9), "TIFF"))
    archive = Path(pack(tmp_path / "more.tar", {"e.png": encode(make_pixels(seed=10))}))
    manifest = scan_images([photos, archive])
    assert find_change(manifest) is None
    (photos / "b.png").write_bytes(contents[1][:-9] + b"?" * 9)
    assert find_change(manifest).startswith("photos/b.png has other content (")
    assert find_change(manifest, since=(photos / "b.png").stat().st_ctime + 1) is None
    (photos / "b.png").write_bytes(contents[1][:-9])
    assert f"photos/b.png has {len(contents[1]) - 9} bytes, {len(contents[1])} before" in str(
        find_change(manifest)
    )
    (photos / "b.png").write_bytes(contents[1])
    packed = archive.read_bytes()
    archive.write_bytes(packed.replace(b"IHDR", b"ihdr"))
    assert find_change(manifest).startswith("more.tar/e.png has other content")
    archive.unlink()
    assert find_change(manifest).startswith("more.tar/e.png is gone")


def test_deep_tiff_keeps_its_upper_bits(tmp_path) -> None:
    deep = make_pixels().astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "a.tiff"), deep[:, :, ::-1])
    np.testing.assert_array_equal(pixels_of(scan_images(tmp_path))[0], make_pixels())


def test_saved_manifest_comes_back_equal(tmp_path) -> None:
    write_images(tmp_path / "photos", ["a.png", "b.png"])
    (tmp_path / "photos" / "c.txt").write_text("no image")
    manifest = scan_images(tmp_path / "photos")
    path = tmp_path / "manifest.sqlite"
    manifest.save(path)
    manifest.save(path)  # over an older one
    loaded = Manifest.load(path)
    for column in COLUMNS:
        assert getattr(loaded, column).tolist() == getattr(manifest, column).tolist()
        assert getattr(loaded, column).dtype == getattr(manifest, column).dtype
    assert loaded.sources == manifest.sources == (str(tmp_path / "photos"),)
    assert {file.name for file in tmp_path.iterdir()} == {"photos", path.name}


@pytest.mark.parametrize("content", [None, b"", b"no data base", "other tables", "version"])
def test_damaged_manifest_is_one_clear_error(content, tmp_path) -> None:
    path = tmp_path / "manifest.sqlite"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE about (name TEXT, value BLOB)")
            if content == "version":
                connection.execute("INSERT INTO about VALUES ('version', 99)")
        connection.close()
    with pytest.raises(CollectionError, match="must be") as caught:
        Manifest.load(path)
    assert "\n" not in str(caught.value)


def make_manifest(sizes: list[tuple[int, int]]) -> Manifest:
    count = len(sizes)
    heights, widths = np.array(sizes).T
    numbers = np.arange(count)
    return Manifest(
        image_ids=numbers,
        keys=[f"{n:05d}" for n in numbers],
        paths=[f"/photos/{n}" for n in numbers],
        offsets=np.zeros(count),
        lengths=np.ones(count),
        totals=np.ones(count),
        heights=heights,
        widths=widths,
        formats=["jpeg"] * count,
        orientations=np.ones(count),
        digests=[f"{n:032x}" for n in numbers],
        skips=[""] * count,
    )


def test_too_small_is_what_context_prediction_cannot_use() -> None:
    # Shorter side under 96, or at 450 000 pixels at most 247: a strip of 1:8 has 237 there,
    # one of 1:7 has 253.
    sizes = [(96, 96), (95, 400), (100, 800), (100, 700), (2000, 150), (1, 1), (0, 0)]
    marked = make_manifest(sizes).mark_too_small()
    assert (marked.skips == "").tolist() == [True, False, False, True, False, False, False]
    assert marked.skips[1] == "too small: 95x400 (height x width)"
    assert marked.summary()["skips"] == {"too small": 5}


def test_earlier_reason_stays() -> None:
    manifest = make_manifest([(10, 10), (20, 20)])
    skipped = manifest.skip_where(np.array([True, False]), "first: one")
    assert skipped.skip_where(np.array([True, True]), "second").skips.tolist() == [
        "first: one",
        "second",
    ]
    assert manifest.skips.tolist() == ["", ""]  # the argument is not changed


def test_split_depends_on_the_image_alone() -> None:
    manifest = make_manifest([(100, 100)] * 4000)
    training, held_out = manifest.split(0.2)
    assert len(training) + len(held_out) == 4000
    assert abs(len(held_out) - 800) < 4 * np.sqrt(4000 * 0.2 * 0.8)
    sides = dict.fromkeys(held_out.keys, True) | dict.fromkeys(training.keys, False)
    part = manifest.select(np.arange(4000) % 3 == 0)
    for key in part.split(0.2)[1].keys:
        assert sides[key]
    other = manifest.split(0.2, seed=1)[1]
    assert 80 < len(set(other.keys) & set(held_out.keys)) < 240
    assert set(held_out.keys) < set(manifest.split(0.3)[1].keys)


@pytest.mark.parametrize("share", [1e-9, 0.5, 1 - 1e-9])
def test_split_gives_each_side_an_image(share: float) -> None:
    training, held_out = make_manifest([(100, 100)] * 2).split(share)
    assert len(training) == len(held_out) == 1


def test_copies_and_groups_stay_on_one_side() -> None:
    manifest = make_manifest([(100, 100)] * 400)
    copies = np.array([f"{n // 2:032x}" for n in range(400)], dtype=object)
    paired = Manifest(**{name: getattr(manifest, name) for name in COLUMNS} | {"digests": copies})
    grouped = (paired.split(0.5), manifest.split(0.5, group_of=lambda key: str(int(key) // 2)))
    for training, held_out in grouped:
        sides = {int(key) // 2 for key in training.keys}, {int(key) // 2 for key in held_out.keys}
        assert not sides[0] & sides[1]
        assert min(len(side) for side in sides) > 50


def test_split_of_too_little_is_a_clear_error() -> None:
    with pytest.raises(CollectionError, match="two different usable images"):
        make_manifest([(100, 100)]).split(0.5)
    with pytest.raises(ValueError, match=r"held_out=1\.5"):
        make_manifest([(100, 100)] * 3).split(1.5)


def test_progress_reaches_the_end(tmp_path) -> None:
    write_images(tmp_path, [f"{n}.png" for n in range(5)])
    calls: list[tuple[int, int | None]] = []
    scan_images(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5, 5)


def test_tfds_images_are_read_without_a_download(tmp_path, monkeypatch) -> None:
    import tensorflow_datasets as tfds

    class TinyPhotos(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(encoding_format="png"), "label": tf.int64}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {"train": self._generate_examples(0), "test": self._generate_examples(4)}

        def _generate_examples(self, first):
            for n in range(first, first + 4):
                yield n, {"image": make_pixels(seed=n), "label": n}

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(CollectionError, match="must be prepared") as caught:
        scan_images("tfds:tiny_photos")
    assert "\n" not in str(caught.value)
    TinyPhotos(data_dir=tmp_path).download_and_prepare()
    for source, count in [("", 4), (":test", 4), (":test[:50%]", 2), (":1.0.0:train", 4)]:
        manifest = scan_images(f"tfds:tiny_photos{source}")
        assert len(manifest.usable()) == count
        assert manifest.keys[0] == "00000000.png"
    reference = {make_pixels(seed=n).tobytes() for n in range(4)}
    assert {image.tobytes() for image in pixels_of(manifest)} == reference
    with pytest.raises(CollectionError, match="nosplit"):
        scan_images("tfds:tiny_photos:nosplit")


def test_a_cancelled_decoding_is_no_riddle() -> None:
    """A failed check in a graph now and then comes out as a cancellation elsewhere in it."""
    error = tf.errors.CancelledError(None, None, "Function was cancelled before it was started")
    assert explain_undecodable("bmp", error) == "unreadable: BMP, cannot be decoded"
