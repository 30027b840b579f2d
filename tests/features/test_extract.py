import dataclasses

import numpy as np
import pytest

from keras_ctxattr.data.patches import PatchTable, write_patch_table
from keras_ctxattr.features import (
    HOG,
    FeatureTable,
    FisherVectors,
    extract_features,
    load_descriptor,
)
from keras_ctxattr.features.descriptors import Descriptor
from tests.features.test_descriptors import make_patches

COUNT = 50


@pytest.fixture(scope="module")
def patches():
    low = np.random.default_rng(0).uniform(0, 99, (COUNT, 2))
    return PatchTable(
        image_ids=np.arange(COUNT) // 3,
        boxes=np.concatenate([low, low + 32], 1),
        pixels=make_patches(COUNT, 32),
    )


@dataclasses.dataclass(frozen=True)
class Corners(Descriptor):
    """Gives the four corner pixels; `bad` where the first is 255."""

    size: int = 4
    bad: float = float("nan")
    parallel = False

    num_features = 12

    @property
    def config(self):
        return {"class": "Corners", "bad": str(self.bad)}

    def __call__(self, pixels):
        vectors = pixels[:, ::3, ::3].reshape(len(pixels), -1).astype(np.float32)
        vectors[vectors[:, 0] == 255, 5] = self.bad
        return vectors


def make_flags(bad_rows, count=20):
    pixels = np.random.default_rng(0).integers(0, 255, (count, 4, 4, 3), np.uint8)
    pixels[bad_rows, 0, 0, 0] = 255
    boxes = np.tile([0.0, 0, 4, 4], (count, 1))
    return PatchTable(image_ids=np.arange(count), boxes=boxes, pixels=pixels)


def contents(folder):
    """Gives every file below a folder but the lock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def refused(match, *arguments, **options):
    with pytest.raises(ValueError, match=match) as caught:
        extract_features(*arguments, **options)
    assert "\n" not in str(caught.value)


OPTIONS = {"batch_size": 4, "shard_rows": 11}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, patches):
    """Gives the folder of features that were extracted in one go."""
    folder = tmp_path_factory.mktemp("features") / "whole"
    extract_features(patches, HOG(32), folder, **OPTIONS)
    return folder


def test_rows_are_those_of_the_patches(patches, whole) -> None:
    features = FeatureTable.open(whole)
    np.testing.assert_array_equal(features.image_ids, patches.image_ids)
    np.testing.assert_array_equal(features.boxes, patches.boxes)
    np.testing.assert_array_equal(features.vectors[:], HOG(32)(patches.pixels))
    assert features.config["descriptor"] == HOG(32).config
    assert features.config["patches"] == patches.digest()


def test_batches_shards_and_processes_change_no_vector(tmp_path, patches, whole) -> None:
    for number, (batch_size, shard_rows) in enumerate(((1, 50), (50, 7), (3, 3))):
        features = extract_features(
            patches, HOG(32), tmp_path / str(number), batch_size=batch_size, shard_rows=shard_rows
        )
        np.testing.assert_array_equal(features.vectors[:], FeatureTable.open(whole).vectors[:])
    extract_features(patches, HOG(32), tmp_path / "two", num_processes=2, **OPTIONS)
    assert contents(tmp_path / "two") == contents(whole)


def test_patches_on_the_disk_are_streamed(tmp_path, patches, whole) -> None:
    table = write_patch_table(
        tmp_path / "patches",
        COUNT,
        lambda row: [(patches.image_ids[row:], patches.boxes[row:], patches.pixels[row:])],
        {},
        {n: str(n) for n in range(COUNT)},
        size=32,
        shard_rows=7,
    )
    features = extract_features(table, HOG(32), tmp_path / "features", **OPTIONS)
    np.testing.assert_array_equal(features.vectors[:], FeatureTable.open(whole).vectors[:])


def test_halves_are_rounded_singles(tmp_path, patches, whole) -> None:
    halves = extract_features(patches, HOG(32), tmp_path / "half", dtype="float16", **OPTIONS)
    assert halves.vectors.dtype == np.float16
    expected = FeatureTable.open(whole).vectors[:].astype(np.float16)
    np.testing.assert_array_equal(halves.vectors[:], expected)


class Killed(BaseException):
    """In place of a signal."""


@pytest.mark.parametrize("num_shards", [1, 3, 5])
def test_killed_call_ends_with_the_same_bytes(tmp_path, patches, whole, num_shards) -> None:
    calls = []

    def progress(done, total) -> None:
        calls.append((done, total))
        if len(calls) == num_shards:
            raise Killed

    with pytest.raises(Killed):
        extract_features(patches, HOG(32), tmp_path, progress=progress, **OPTIONS)
    partial = tmp_path / f".{num_shards:05d}.partial-1"
    partial.mkdir()
    (partial / "boxes.npy").write_bytes(b"half")
    extract_features(patches, HOG(32), tmp_path, progress=progress, **OPTIONS)
    assert calls == [(11, 50), (22, 50), (33, 50), (44, 50), (50, 50)]
    assert contents(tmp_path) == contents(whole)


def test_deleted_shard_is_made_again(tmp_path, patches, whole) -> None:
    extract_features(patches, HOG(32), tmp_path, **OPTIONS)
    for name in ("00004", "00001"):
        (tmp_path / name).rename(tmp_path / ".taken")
        extract_features(patches, HOG(32), tmp_path, **OPTIONS)
        for path in (tmp_path / ".taken").iterdir():
            path.unlink()
        (tmp_path / ".taken").rmdir()
    assert contents(tmp_path) == contents(whole)


def test_finished_table_is_opened_and_nothing_is_described(tmp_path) -> None:
    class Once(Corners):
        def __call__(self, pixels):
            assert not (tmp_path / "00000").exists()
            return super().__call__(pixels)

    for _ in range(2):
        features = extract_features(make_flags([]), Once(), tmp_path)
    assert len(features) == 20


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_workers_in_any_order_make_the_same_table(tmp_path, patches, whole, order) -> None:
    for worker in order[:-1]:
        with pytest.raises(ValueError, match=r"without . of 5: .*"):
            extract_features(patches, HOG(32), tmp_path, worker=worker, num_workers=3, **OPTIONS)
    last = order[-1]
    with pytest.raises(ValueError, match=f"without {len(range(last, 5, 3))} of 5: {last}"):
        FeatureTable.open(tmp_path)
    features = extract_features(patches, HOG(32), tmp_path, worker=last, num_workers=3, **OPTIONS)
    assert len(features) == COUNT
    assert contents(tmp_path) == contents(whole)


def test_learning_descriptor_is_kept_beside_its_vectors(tmp_path, patches) -> None:
    fisher = FisherVectors(32, num_modes=3, num_components=4, cells=(4,))
    refused("must be fitted before", patches, fisher, tmp_path / "features")
    assert not (tmp_path / "features").exists()
    fisher.fit(patches.pixels, seed=0)
    features = extract_features(patches, fisher, tmp_path / "features", **OPTIONS)
    loaded = load_descriptor(tmp_path / "features" / "descriptor.npz")
    assert features.config["descriptor"] == loaded.config
    np.testing.assert_array_equal(loaded(patches.pixels[:2]), features.vectors[:2])
    fisher.fit(patches.pixels, seed=1)
    refused("descriptor=", patches, fisher, tmp_path / "features", **OPTIONS)


# --- Bad input ---


def test_vector_that_is_not_finite_is_an_error_that_names_the_row(tmp_path) -> None:
    for bad in (np.nan, np.inf):
        table = make_flags([13, 17])
        options = {"batch_size": 5, "shard_rows": 10}
        refused("in row 13 ", table, Corners(bad=bad), tmp_path / str(bad), **options)
        assert (tmp_path / str(bad) / "00000").is_dir()
        assert not (tmp_path / str(bad) / "00001").exists()
    large = Corners(bad=1e5)
    assert len(extract_features(make_flags([13]), large, tmp_path / "single")) == 20
    refused("in row 13 .*", make_flags([13]), large, tmp_path / "half", dtype="float16")


def test_descriptor_that_breaks_its_word_is_refused(tmp_path) -> None:
    class Short(Corners):
        num_features = 13

    refused(r"must give \[20, 13\].* \[20, 12\]", make_flags([]), Short(), tmp_path)


def test_other_configuration_in_the_same_folder_is_refused(tmp_path, patches, whole) -> None:
    before = contents(whole)
    other = patches.select(np.arange(COUNT)[::-1])
    refused("patches='", other, HOG(32), whole, **OPTIONS)
    refused("descriptor={'class': 'HOG'", patches, HOG(32, cell=4), whole, **OPTIONS)
    refused("dtype='float16'", patches, HOG(32), whole, dtype="float16", **OPTIONS)
    refused(r"shard_rows=12 \(there: 11\)", patches, HOG(32), whole, shard_rows=12)
    (tmp_path / "mine.txt").write_text("")
    refused("which holds mine.txt", patches, HOG(32), tmp_path)
    assert contents(whole) == before


def test_patches_of_another_size_are_refused(tmp_path, patches) -> None:
    for number in (1, 2):  # also where another process finds it out
        folder = tmp_path / str(number)
        refused(r"uint8 \[b, 96, 96, 3\]; make", patches, HOG(96), folder, num_processes=number)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, "`batch_size` and"),
        ({"num_processes": 0}, "`num_processes` must"),
        ({"dtype": "float64"}, "one of float32, float16"),
        ({"worker": 2, "num_workers": 2}, "one of 0...num_workers-1"),
        ({"worker": -1}, "one of 0...num_workers-1"),
        ({"shard_rows": 0}, "at least 1 row"),
    ],
    ids=repr,
)
def test_impossible_arguments_are_refused(tmp_path, patches, options, match) -> None:
    refused(match, patches, HOG(32), tmp_path / "features", **options)
    assert not (tmp_path / "features").exists()
