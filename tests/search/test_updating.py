"""Indexes of photographs: what is described, left alone, removed; killed at any moment."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.export import export_module
from keras_ctxattr.search import (
    Changes,
    ImageIndex,
    ImageIndexError,
    add_photographs,
    index_photographs,
    remove_photographs,
    updating,
)
from keras_ctxattr.search.segments import Rows
from keras_ctxattr.search.store import IndexStore
from keras_ctxattr.search.writer import open_writer

NOTHING = Changes(described=0, copied=0, unchanged=0, removed=0, skipped=0)


@pytest.fixture
def folder(photographs, tmp_path):
    """Gives a copy of the photographs that a test may change."""
    return Path(shutil.copytree(photographs, tmp_path / "photos"))


@pytest.fixture(scope="module")
def indexed(photographs, module, tmp_path_factory):
    """Gives an index that no test changes."""
    target = tmp_path_factory.mktemp("indexes") / "index"
    assert index_photographs([str(photographs)], target, module).described == 72
    return target


def contents(index):
    """Gives what an index says of each image by name: digest, code, scores, vector."""
    opened = ImageIndex(index)
    images = opened.store.images(opened.ids)
    columns = (opened.codes, opened.scores(), opened.vectors())
    return {
        images[int(image)].name: (
            images[int(image)].digest,
            *(values.tobytes() for values in row),
        )
        for image, *row in zip(opened.ids, *columns, strict=True)
    }


def changes(**counts):
    return dataclasses.replace(NOTHING, **counts)


# --- What an index holds ---


def test_a_file_has_the_code_that_the_module_serves(indexed, photographs, module):
    opened = ImageIndex(indexed)
    served = tf.saved_model.load(str(module)).signatures["serve_bytes"]
    images = opened.store.images(opened.ids)
    for row, image_id in list(enumerate(opened.ids))[::7]:
        image = images[int(image_id)]
        encoded = (photographs.parent / image.name).read_bytes()
        found = served(encoded=tf.constant([encoded]))
        np.testing.assert_array_equal(opened.codes[row], found["codes"][0])
        vector = found["features"][0] / np.linalg.norm(found["features"][0])
        np.testing.assert_allclose(opened.vectors()[row], vector, atol=1e-3)
        np.testing.assert_allclose(opened.scores()[row], found["attributes"][0], rtol=2e-3)
        assert (image.height, image.width, image.format) == (32, 32, "png")
        assert image.place.path == str(photographs.parent / image.name)


def test_rotated_by_exif_it_has_the_code_of_its_upright_pixels(module, tmp_path):
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    upright = Image.fromarray(cv2.resize(noise, (70, 50)))
    (tmp_path / "photos").mkdir()
    upright.save(tmp_path / "photos/upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "photos/turned.png", exif=exif)
    index_photographs([str(tmp_path / "photos")], tmp_path / "index", module)
    found = contents(tmp_path / "index")
    assert found["photos/turned.png"][1:] == found["photos/upright.png"][1:]
    opened = ImageIndex(tmp_path / "index")
    sizes = {(image.height, image.width) for image in opened.store.all_images()}
    assert sizes == {(50, 70)}
    described = opened.describe((tmp_path / "photos/turned.png").read_bytes())
    assert [match.distance for match in opened.search(described.code, described.vector)] == [0, 0]


def test_archives_and_folders_give_the_same(indexed, photographs, module, tmp_path):
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w") as target:
        target.add(photographs, arcname=".")
    index_photographs([str(archive)], tmp_path / "index", module)
    found, expected = contents(tmp_path / "index"), contents(indexed)
    renamed = {name.replace("photos.tar/", "photos/"): row for name, row in found.items()}
    assert renamed == expected


def test_two_collections_of_one_name_are_told_apart(photographs, module, folder, tmp_path):
    both = [str(photographs), str(folder)]
    made = index_photographs(both, tmp_path / "index", module)
    assert made.described + made.copied == 144
    names = set(contents(tmp_path / "index"))
    assert {name.split("/")[0] for name in names} == {"photos", "photos~2"} and len(names) == 144


def test_files_of_foreign_formats_are_converted(module, photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixels = cv2.imread(str(next(photographs.rglob("*.png"))))
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos/one.tiff"), pixels)
    cv2.imwrite(str(tmp_path / "photos/one.png"), pixels)
    index_photographs([str(tmp_path / "photos")], tmp_path / "index", module)
    found = contents(tmp_path / "index")
    assert found["photos/one.tiff"][1:] == found["photos/one.png"][1:]


def test_what_cannot_be_used_is_told_and_looked_at_when_it_changes(module, folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photograph")
    (folder / "notes.txt").write_text("no image at all")
    index = tmp_path / "index"
    assert index_photographs([str(folder)], index, module) == changes(described=72, skipped=1)
    (skipped,) = IndexStore(index).skipped()
    assert skipped.name == "photos/broken.jpg" and skipped.reason.startswith("unreadable: JPEG")
    assert index_photographs([str(folder)], index, module) == changes(unchanged=72, skipped=1)
    shutil.copy(next(folder.rglob("*.png")), folder / "broken.jpg")
    assert index_photographs([str(folder)], index, module) == changes(copied=1, unchanged=72)


def test_without_vectors_codes_alone_are_kept(indexed, photographs, module, tmp_path):
    index_photographs([str(photographs)], tmp_path / "index", module, keep_vectors=False)
    opened = ImageIndex(tmp_path / "index")
    np.testing.assert_array_equal(opened.codes, ImageIndex(indexed).codes)
    assert not list((tmp_path / "index").rglob("vectors.npy"))
    found = opened.search(opened.codes[3], np.ones(16, np.float32), count=4)
    assert found[0].similarity is None
    with pytest.raises(ValueError, match="must keep vectors"):
        opened.vectors()


# --- Brought up to date ---


def test_only_new_and_changed_files_are_described(module, folder, tmp_path):
    index = tmp_path / "index"
    index_photographs([str(folder)], index, module)
    before = contents(index)
    assert index_photographs([str(folder)], index, module) == changes(unchanged=72)
    paths = sorted(folder.rglob("*.png"))
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    cv2.imwrite(str(paths[0]), noise)  # changed
    paths[1].unlink()  # gone
    paths[2].rename(folder / "renamed.png")
    os.utime(paths[3], (1, 1))  # touched
    shutil.copy(paths[4], folder / "again.png")
    cv2.imwrite(str(folder / "new.png"), noise[:, ::-1])
    expected = changes(described=2, copied=3, unchanged=68, removed=2)
    assert index_photographs([str(folder)], index, module) == expected
    found = contents(index)
    fresh = tmp_path / "fresh"
    index_photographs([str(folder)], fresh, module)
    assert found == contents(fresh)
    key = f"photos/{paths[0].relative_to(folder)}"
    assert found[key] != before[key]
    assert found["photos/renamed.png"] == before[f"photos/{paths[2].relative_to(folder)}"]


def test_bytes_that_changed_behind_an_unchanged_date_are_found_by_reading(module, folder, tmp_path):
    index = tmp_path / "index"
    index_photographs([str(folder)], index, module)
    one, other = sorted(folder.rglob("*.png"))[:2]
    status = one.stat()
    replaced = other.read_bytes()[: status.st_size].ljust(status.st_size, b"\0")
    one.write_bytes(replaced)
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index_photographs([str(folder)], index, module) == changes(unchanged=72)
    made = index_photographs([str(folder)], index, module, reread=True)
    assert made.described + made.skipped == 1 and made.copied == 71


def test_adding_removes_nothing_and_removing_keeps_files(module, folder, photographs, tmp_path):
    index = tmp_path / "index"
    index_photographs([str(folder)], index, module)
    sorted(folder.rglob("*.png"))[0].unlink()
    more = tmp_path / "more"
    more.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    cv2.imwrite(str(more / "new.png"), noise)
    assert add_photographs(index, [str(more)]) == changes(described=1)
    assert len(ImageIndex(index)) == 73
    assert remove_photographs(index, ["more"]) == ["more/new.png"]
    assert (more / "new.png").exists()
    removed = remove_photographs(index, ["photos/concept1/*", "photos/concept2"])
    assert len(removed) == 24 and len(ImageIndex(index)) == 48
    with pytest.raises(ImageIndexError, match="fits none of 48 images"):
        remove_photographs(index, ["photos/concept3", "photos/concept1/*"])
    assert len(ImageIndex(index)) == 48


def test_a_folder_that_cannot_be_listed_loses_no_image(module, folder, tmp_path, monkeypatch):
    index = tmp_path / "index"
    index_photographs([str(folder)], index, module)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("concept2"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    made = index_photographs([str(folder)], index, module)
    assert made == changes(unchanged=60, skipped=1)
    assert len(ImageIndex(index)) == 72


def test_many_commits_are_merged_and_nothing_is_lost(
    indexed, photographs, module, tmp_path, monkeypatch
):
    monkeypatch.setattr(updating, "_COMMIT_IMAGES", 2)
    index_photographs([str(photographs)], tmp_path / "index", module)
    assert contents(tmp_path / "index") == contents(indexed)
    assert len(list((tmp_path / "index/segments").iterdir())) <= 25
    remove_photographs(tmp_path / "index", ["photos/concept[1-5]/*"])
    (segment,) = (tmp_path / "index/segments").iterdir()
    assert len(np.load(segment / "ids.npy")) == 12
    expected = {
        name: row for name, row in contents(indexed).items() if name.startswith("photos/concept0")
    }
    assert contents(tmp_path / "index") == expected


# --- What is refused ---


def test_another_module_or_another_kind_of_index_is_refused(indexed, photographs, module, tmp_path):
    other = Path(shutil.copytree(module, tmp_path / "other"))
    (other / "module.json").write_text((other / "module.json").read_text() + " ")
    with pytest.raises(ImageIndexError, match="codes of one module"):
        index_photographs([str(photographs)], indexed, other)
    with pytest.raises(ImageIndexError, match="vectors of all its images or of none"):
        index_photographs([str(photographs)], indexed, module, keep_vectors=False)
    with pytest.raises(ImageIndexError, match="new or empty folder"):
        index_photographs([str(photographs)], photographs, module)
    with pytest.raises(CollectionError, match="must exist"):
        index_photographs(["nowhere"], tmp_path / "index", module)
    assert not (tmp_path / "index").exists()


def test_a_module_without_attributes_is_refused(module, photographs, tmp_path):
    from keras_ctxattr.backbones import small

    plain = export_module(small(width=8, num_features=16), tmp_path / "plain")
    with pytest.raises(ValueError, match="must have attributes"):
        index_photographs([str(photographs)], tmp_path / "index", plain)
    assert not (tmp_path / "index").exists()


def test_two_writers_are_kept_apart(indexed, photographs, module):
    store = IndexStore(indexed)
    with open_writer(store), pytest.raises(ImageIndexError, match="one process"):
        index_photographs([str(photographs)], indexed, module)


# --- Killed, and read meanwhile ---


@pytest.mark.parametrize("moment", ["before the segment", "before the transaction", "in it"])
def test_a_commit_that_does_not_end_never_was(
    indexed, photographs, module, tmp_path, monkeypatch, moment
):
    index = Path(shutil.copytree(indexed, tmp_path / "index"))
    store = IndexStore(index)
    before = contents(index)
    opened = ImageIndex(index)
    image = next(iter(store.all_images()))
    new = [dataclasses.replace(image, name=f"photos/{number}.png") for number in range(3)]
    rows = Rows(
        ids=np.arange(3),
        codes=opened.codes[:3],
        scores=opened.scores()[:3].astype(np.float16),
        vectors=opened.vectors()[:3].astype(np.float16),
    )

    class Kill(BaseException):
        pass

    def kill(*arguments, **options):
        raise Kill

    with monkeypatch.context() as patched, pytest.raises(Kill), open_writer(store) as writer:
        if moment == "before the segment":
            patched.setattr("keras_ctxattr.search.writer.write_segment", kill)
        elif moment == "before the transaction":
            patched.setattr(writer.database, "changing", kill)
        else:
            patched.setattr("keras_ctxattr.search.writer.image_values", kill)
        writer.commit(new, rows)
    assert contents(index) == before
    index_photographs([str(photographs)], index, module)
    assert contents(index) == before
    counted = len(list((index / "segments").iterdir()))
    assert counted == len(list((indexed / "segments").iterdir()))


WRITER = """
import sys
from keras_ctxattr.search import index_photographs, updating
updating._COMMIT_IMAGES = 3
index_photographs([sys.argv[1]], sys.argv[2], sys.argv[3])
"""


@pytest.mark.slow
def test_killed_at_random_no_image_is_lost_and_no_result_is_wrong(
    indexed, photographs, module, tmp_path
):
    """`kill -9`, as often as CTXATTR_KILLS says, at drawn moments of indexing."""
    index = tmp_path / "index"
    command = [sys.executable, "-c", WRITER, str(photographs), str(index), str(module)]
    expected = contents(indexed)
    generator = random.Random(3)
    num_kills, sizes, seen = int(os.environ.get("CTXATTR_KILLS", "3")), [], {}
    for _ in range(num_kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        target = len(seen) + generator.randint(0, 12)
        while process.poll() is None and time.monotonic() - began < 120:
            if (index / "index.sqlite").exists() and len(_count(index)) >= target:
                break
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (index / "index.sqlite").exists():
            continue
        found = contents(index)
        assert seen.items() <= found.items() <= expected.items()
        seen = found
        sizes.append(len(found))
        if len(found) == len(expected):  # begin anew
            shutil.rmtree(index)
            seen = {}
    subprocess.run(command, check=True, capture_output=True)
    assert contents(index) == expected
    assert any(0 < size < 72 for size in sizes), "no kill came in the midst of indexing"


def _count(index):
    return IndexStore(index).snapshot()[1].ids


READER = """
import sys, json
from keras_ctxattr.search import ImageIndex
index = ImageIndex(sys.argv[1])
counts = []
while len(index) < int(sys.argv[2]):
    index.refresh()
    rows = range(0, len(index), 7)
    images = index.store.images(index.ids)
    for row in rows:
        match = index.search(index.codes[row], index.vectors([row])[0], count=1)[0]
        assert match.similarity > 0.999, match
        assert images[match.image.image_id].name == match.image.name
    counts.append(len(index))
print(json.dumps(counts))
"""


@pytest.mark.slow
def test_two_readers_search_while_images_are_added(photographs, module, tmp_path):
    index = tmp_path / "index"
    first = sorted(str(path) for path in photographs.iterdir())
    index_photographs(first[:1], index, module)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(index), "72"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for source in first[1:]:
        time.sleep(2)
        add_photographs(index, [source])
    for reader in readers:
        output, errors = reader.communicate(timeout=120)
        assert reader.returncode == 0, errors
        assert output.count(",") > 2
