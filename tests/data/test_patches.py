import numpy as np
import pytest

from keras_ctxattr.data.manifest import CollectionError, scan_images
from keras_ctxattr.data.patches import PatchTable, cut_patches, write_patch_table
from keras_ctxattr.data.shards import ShardedArray
from tests.data.encoding import encode, make_exif

SMALL = {"min_pixels": 2_000, "max_pixels": 6_000, "size": 24}
"""Scales for small images, as the real ones are for photographs."""


def make_noise(height, width, seed=0, cell=4):
    """Gives blocks of random colour: nowhere flat."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, [height // cell + 1, width // cell + 1, 3])
    return np.kron(blocks, np.ones([cell, cell, 1]))[:height, :width].astype(np.uint8)


def make_ramp(height, width):
    """Gives an image of which red is the place in x, green that in y, as shares of 255."""
    image = np.full([height, width, 3], 128.0)
    image[..., 0] = (np.arange(width) + 0.5) / width * 255
    image[..., 1] = ((np.arange(height) + 0.5) / height * 255)[:, None]
    return image.round().astype(np.uint8)


def scan(folder, images, cache):
    """Writes images (pixels, or a file's bytes) and gives their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        (folder / name).write_bytes(image if isinstance(image, bytes) else encode(image))
    return scan_images(folder, cache_dir=cache)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Gives the manifest of six noisy images of several sizes."""
    root = tmp_path_factory.mktemp("images")
    sides = [(60, 90), (90, 60), (70, 70), (40, 200), (64, 48), (120, 100)]
    images = {f"{n}.png": make_noise(*side, seed=n) for n, side in enumerate(sides)}
    return scan(root / "photos", images, root / "cache")


def contents(folder):
    """Gives every file below a folder but the lock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- Geometry ---


@pytest.mark.parametrize("unit", ["image", "random", "lattice"])
def test_box_says_where_in_the_upright_image_the_pixels_are(tmp_path, unit) -> None:
    """The image's pixels are their own coordinates, and stay so at any scale."""
    wide, tall = make_ramp(80, 130), make_ramp(150, 70)
    turned = encode(np.rot90(tall), "JPEG", quality=98, subsampling=0, exif=make_exif(6))
    images = scan(tmp_path / "in", {"a.png": wide, "b.jpg": turned}, tmp_path / "cache")
    assert images.heights.tolist() == [80, 150]
    patches = cut_patches(images, tmp_path / "out", unit=unit, **SMALL)
    assert set(patches.image_ids.tolist()) == {0, 1}
    middle = np.arange(24) + 0.5
    for image_id, box, pixels in zip(
        patches.image_ids, patches.boxes, np.asarray(patches.pixels), strict=True
    ):
        sides = np.array([images.widths[image_id], images.heights[image_id]])
        expected = (box[:2] + middle[:, None] * (box[2:] - box[:2]) / 24).T  # [axis, pixel]
        found = np.stack([pixels[..., 0], pixels[..., 1].T]) / 255 * sides[:, None, None]
        # At the image's edge nothing is there to interpolate with; JPEG gives red 1.2 too low.
        errors = (found - expected[:, None])[:, 2:-2, 2:-2]
        assert np.abs(errors).max() < 1.5  # pixels of the source
        assert np.abs(errors.mean((1, 2))).max() < 0.4


def test_image_of_the_wanted_size_is_taken_as_it_is(tmp_path) -> None:
    pixels = {f"{n}.png": make_noise(32, 32, seed=n) for n in range(5)}
    images = scan(tmp_path / "in", pixels, tmp_path / "cache")
    patches = cut_patches(images, tmp_path / "out", size=32)
    np.testing.assert_array_equal(patches.pixels[:], np.stack(list(pixels.values())))
    np.testing.assert_array_equal(patches.boxes, [[0, 0, 32, 32]] * 5)
    np.testing.assert_array_equal(patches.image_ids, np.arange(5))
    assert patches.keys == dict(enumerate(pixels))


def test_middle_of_an_oblong_image_is_cut(tmp_path) -> None:
    oblong = make_noise(32, 65)
    images = scan(tmp_path / "in", {"a.png": oblong, "b.png": make_ramp(160, 64)}, tmp_path / "c")
    patches = cut_patches(images, tmp_path / "out", size=32, unit="image")
    np.testing.assert_array_equal(patches.pixels[0], oblong[:, 16:48])
    np.testing.assert_array_equal(patches.boxes, [[16, 0, 48, 32], [0, 48, 64, 112]])


def test_lattice_covers_the_image_without_overlap(tmp_path, manifest) -> None:
    patches = cut_patches(manifest, tmp_path / "out", unit="lattice", **SMALL)
    for image_id in range(len(manifest)):
        left, top, right, bottom = patches.boxes[patches.image_ids == image_id].T
        columns, rows = len(set(left.tolist())), len(set(top.tolist()))
        assert columns * rows == len(left)
        np.testing.assert_allclose(np.unique(left)[1:], np.unique(right)[:-1], rtol=1e-5)
        np.testing.assert_allclose(np.unique(top)[1:], np.unique(bottom)[:-1], rtol=1e-5)
        # Centred, up to a pixel of the scaled image; what is left is less than a cell.
        for low, high, sides in ((left, right, manifest.widths), (top, bottom, manifest.heights)):
            scale = (high - low)[0] / 24
            before, after = low.min(), sides[image_id] - high.max()
            assert abs(before - after) < 1.1 * scale
            assert before + after < 24 * scale


def test_scale_is_drawn_between_the_bounds(tmp_path, manifest) -> None:
    patches = cut_patches(manifest, tmp_path / "out", unit="random", **SMALL)
    left, top, right, bottom = patches.boxes.T.astype(np.float64)
    sides = manifest.heights[patches.image_ids] * manifest.widths[patches.image_ids]
    areas = sides * 24**2 / ((right - left) * (bottom - top))
    assert 0.95 * 2_000 < areas.min() < areas.max() < 1.01 * 6_000
    assert len(np.unique(areas.round())) >= len(manifest) - 1  # two may be alike by chance


def test_random_places_overlap_little_and_avoid_what_is_flat(tmp_path) -> None:
    image = make_noise(300, 300, cell=3)
    image[:, :150] = 90
    images = scan(tmp_path / "in", {"a.png": image}, tmp_path / "cache")
    areas = {"min_pixels": 90_000, "max_pixels": 90_000}
    patches = cut_patches(
        images, tmp_path / "out", size=30, unit="random", patches_per_image=12, **areas
    )
    assert len(patches) == 12
    assert np.asarray(patches.pixels).std(axis=(1, 2)).min() > 1
    left, top, _, _ = patches.boxes.T
    for first in range(12):
        shared = np.maximum(30 - np.abs(left - left[first]), 0)
        shared *= np.maximum(30 - np.abs(top - top[first]), 0)
        assert np.delete(shared, first).max() <= 900 / 4


def test_flat_image_gives_as_many_patches_as_others(tmp_path) -> None:
    flat = {"a.png": np.full([70, 70, 3], 80, np.uint8)}
    images = scan(tmp_path / "in", flat, tmp_path / "cache")
    patches = cut_patches(images, tmp_path / "out", unit="random", patches_per_image=9, **SMALL)
    assert len(patches) == 9
    assert (np.asarray(patches.pixels) == 80).all()


# --- Determinism ---


@pytest.mark.parametrize("unit", ["random", "lattice"])
def test_patches_of_an_image_do_not_depend_on_the_others(tmp_path, manifest, unit) -> None:
    whole = cut_patches(manifest, tmp_path / "whole", unit=unit, **SMALL)
    some = manifest.select(np.array([5, 0, 3]))
    part = cut_patches(some, tmp_path / "part", unit=unit, shard_rows=7, **SMALL)
    expected = np.concatenate(
        [np.flatnonzero(whole.image_ids == image_id) for image_id in (5, 0, 3)]
    )
    np.testing.assert_array_equal(part.image_ids, whole.image_ids[expected])
    np.testing.assert_array_equal(part.boxes, whole.boxes[expected])
    np.testing.assert_array_equal(part.pixels[:], whole.pixels[expected])


def test_seed_changes_the_places(tmp_path, manifest) -> None:
    first, second = (
        cut_patches(manifest, tmp_path / str(seed), unit="random", seed=seed, **SMALL)
        for seed in (0, 1)
    )
    assert not np.array_equal(first.boxes, second.boxes)
    assert first.digest() != second.digest()


class Killed(BaseException):
    """In place of a signal."""


def kill_after(num_shards):
    """Gives a progress function that kills after so many shards."""
    calls = []

    def progress(done, total) -> None:
        calls.append((done, total))
        if len(calls) == num_shards:
            raise Killed

    return progress


@pytest.mark.parametrize("unit", ["random", "lattice"])
def test_killed_call_ends_with_the_same_bytes(tmp_path, manifest, unit) -> None:
    options = {"unit": unit, "shard_rows": 5, **SMALL}
    whole = cut_patches(manifest, tmp_path / "whole", **options)
    assert len(whole.pixels.paths) > 2
    again = tmp_path / "again"
    with pytest.raises(Killed):
        cut_patches(manifest, again, progress=kill_after(2), **options)
    with pytest.raises(ValueError, match="must have all its shards"):
        PatchTable.open(again)
    partial = again / ".00002.partial-1"
    partial.mkdir()
    (partial / "boxes.npy").write_bytes(b"half")
    cut_patches(manifest, again, **options)
    assert contents(again) == contents(tmp_path / "whole")


def test_deleted_shard_is_made_again(tmp_path, manifest) -> None:
    options = {"unit": "random", "shard_rows": 30, **SMALL}
    cut_patches(manifest, tmp_path / "out", **options)
    before = contents(tmp_path / "out")
    for name in ("00003", "00001"):
        for path in (tmp_path / "out" / name).iterdir():
            path.unlink()
        (tmp_path / "out" / name).rmdir()
        cut_patches(manifest, tmp_path / "out", **options)
        assert contents(tmp_path / "out") == before


def test_finished_table_is_opened_without_a_look_at_the_images(tmp_path, manifest) -> None:
    first = cut_patches(manifest, tmp_path / "out", **SMALL)
    calls = []
    again = cut_patches(
        manifest, tmp_path / "out", progress=lambda *call: calls.append(call), **SMALL
    )
    assert calls == []
    assert again.digest() == first.digest()
    assert PatchTable.open(tmp_path / "out").keys == first.keys


def test_progress_counts_patches(tmp_path, manifest) -> None:
    calls = []
    cut_patches(
        manifest, tmp_path / "out", shard_rows=4, progress=lambda *c: calls.append(c), **SMALL
    )
    assert calls == [(4, 6), (6, 6)]


# --- The table ---


def make_batch(count=6, size=8, first_id=0):
    pixels = np.random.default_rng(first_id).integers(0, 256, (count, size, size, 3), np.uint8)
    boxes = np.tile(np.array([0, 0, size, size], np.float32), (count, 1))
    return np.arange(first_id, first_id + count), boxes, pixels


def write(folder, num_patches, make_batches, keys=None, config=None, **options):
    keys = keys or {n: f"{n}.png" for n in range(100)}
    config = {"from": "test"} if config is None else config
    return write_patch_table(
        folder, num_patches, make_batches, config, keys, size=8, shard_rows=4, **options
    )


@pytest.mark.parametrize("num_patches", [10, None])
def test_other_sources_go_on_after_the_last_whole_shard(tmp_path, num_patches) -> None:
    columns = make_batch(10)
    asked = []

    def make_batches(first_row):
        asked.append(first_row)
        for start in range(first_row, 10, 3):
            yield tuple(column[start : min(start + 3, 10)] for column in columns)

    whole = write(tmp_path / "whole", num_patches, make_batches)
    np.testing.assert_array_equal(whole.pixels[:], columns[2])
    np.testing.assert_array_equal(whole.image_ids, columns[0])
    for num_shards, next_row in ((1, 4), (2, 8), (3, 10)):
        folder = tmp_path / str(num_shards)
        with pytest.raises(Killed):
            write(folder, num_patches, make_batches, progress=kill_after(num_shards))
        asked.clear()
        write(folder, num_patches, make_batches)
        assert asked == ([next_row] if next_row < 10 else [])  # a short shard is the last one
        assert contents(folder) == contents(tmp_path / "whole")


def test_end_that_falls_on_the_end_of_a_shard_is_found(tmp_path) -> None:
    def make_batches(first_row):
        yield tuple(column[first_row:] for column in make_batch(8))

    with pytest.raises(Killed):
        write(tmp_path, None, make_batches, progress=kill_after(2))
    with pytest.raises(ValueError, match="must be finished"):
        PatchTable.open(tmp_path)
    assert len(write(tmp_path, None, make_batches)) == 8
    assert len(PatchTable.open(tmp_path)) == 8


def test_keys_of_any_bytes_come_back(tmp_path) -> None:
    keys = {7: "a/ü/\udcff.jpg", 0: "日.png"}
    batch = tuple(column[[0, 7, 7]] for column in make_batch(8))
    table = write(tmp_path, 3, lambda row: [batch], keys=keys)
    assert table.keys == keys
    assert table.select(np.array([1, 2])).keys == {7: keys[7]}


def test_selection_is_in_memory_and_tells_itself_apart(tmp_path) -> None:
    table = write(tmp_path, 6, lambda row: [make_batch(6)])
    assert isinstance(table.pixels, ShardedArray)
    part = table.select(np.array([5, 0]))
    assert isinstance(part.pixels, np.ndarray)
    np.testing.assert_array_equal(part.pixels, make_batch(6)[2][[5, 0]])
    np.testing.assert_array_equal(part.image_ids, [5, 0])
    assert (len(part), part.size) == (2, 8)
    others = [table.select(np.array([5, 1])), table.select(np.array([0, 5])), table]
    assert len({part.digest(), *(other.digest() for other in others)}) == 4
    assert part.digest() == table.select(np.array([5, 0])).digest()
    changed = part.pixels.copy()
    changed[0, 0, 0, 0] ^= 1
    other = PatchTable(image_ids=part.image_ids, boxes=part.boxes, pixels=changed)
    assert other.digest() != part.digest()


# --- Bad input ---


def refused(match, function, *arguments, kind=ValueError, **options):
    with pytest.raises(kind, match=match) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_other_settings_or_images_in_the_same_folder_are_refused(tmp_path, manifest) -> None:
    out = tmp_path / "out"
    cut_patches(manifest, out, unit="random", **SMALL)
    random = {"unit": "random", **SMALL}
    refused(r"seed=1 \(there: 0\)", cut_patches, manifest, out, seed=1, **random)
    refused("size=25", cut_patches, manifest, out, **{**random, "size": 25})
    refused("unit='lattice'", cut_patches, manifest, out, unit="lattice", **SMALL)
    refused("patches_per_image=3", cut_patches, manifest, out, patches_per_image=3, **random)
    refused("images='", cut_patches, manifest.select(np.arange(5)), out, **random)
    refused("which holds 0.png", cut_patches, manifest, manifest.sources[0], **random)


def test_impossible_settings_are_refused(tmp_path, manifest) -> None:
    refused("one of image, random, lattice", cut_patches, manifest, tmp_path, unit="grid")
    refused("belongs to unit='random'", cut_patches, manifest, tmp_path, patches_per_image=3)
    refused("at least 1", cut_patches, manifest, tmp_path, size=0)
    refused("at least 1", cut_patches, manifest, tmp_path, unit="random", patches_per_image=0)
    refused("must hold a patch", cut_patches, manifest, tmp_path, unit="random", min_pixels=9_000)
    refused("at least 1 row", cut_patches, manifest, tmp_path, shard_rows=0)
    assert not list(tmp_path.iterdir())


def test_small_and_skipped_images_are_left_out(tmp_path, manifest) -> None:
    skipped = manifest.skip_where(manifest.image_ids == 2, "unwanted")
    patches = cut_patches(skipped, tmp_path / "out", unit="lattice", **{**SMALL, "size": 41})
    assert set(patches.image_ids.tolist()) == {0, 1, 4, 5}  # 3 is 40 pixels high
    assert sorted(patches.keys) == [0, 1, 4, 5]
    for unit, size in (("random", 44), ("image", 24)):
        small = manifest.select(manifest.image_ids == 3)
        if unit == "image":
            small = small.skip_where(np.array([True]), "unwanted")
        options = {"unit": unit, **SMALL, "size": size}
        refused(
            "large enough", cut_patches, small, tmp_path / unit, kind=CollectionError, **options
        )


def test_batches_that_are_not_patches_are_refused(tmp_path) -> None:
    image_ids, boxes, pixels = make_batch()
    turned = boxes[:, [2, 1, 0, 3]]
    gone = np.where(np.arange(6)[:, None] == 2, np.nan, boxes)
    for number, (match, batch) in enumerate(
        {
            "equally many": (image_ids[:5], boxes, pixels),
            r"pixels` uint8 \[n, 8, 8, 3\]": (image_ids, boxes, pixels[:, :7, :7]),
            "Received: .* float": (image_ids, boxes, pixels / 255),
            "right > left": (image_ids, turned, pixels),
            "in row 2": (image_ids, gone, pixels),
            "image id 100 without a key": (image_ids + 95, boxes, pixels),
        }.items()
    ):
        refused(match, write, tmp_path / str(number), 6, lambda row, batch=batch: [batch])


def test_wrong_number_of_patches_is_refused(tmp_path) -> None:
    refused("6 patches, num_patches=7", write, tmp_path / "a", 7, lambda row: [make_batch(6)])
    refused("6 patches, num_patches=5", write, tmp_path / "b", 5, lambda row: [make_batch(6)])
    refused("at least one patch", write, tmp_path / "c", None, lambda row: [])


def test_other_keys_in_the_same_folder_are_refused(tmp_path) -> None:
    write(tmp_path, 6, lambda row: [make_batch(6)])
    refused("keys='", write, tmp_path, 6, lambda row: [], keys={n: f"{n}.gif" for n in range(9)})


def test_columns_of_a_table_must_fit_together() -> None:
    image_ids, boxes, pixels = make_batch()
    refused("equally many", PatchTable, image_ids=image_ids, boxes=boxes[:3], pixels=pixels)
    refused("equally many", PatchTable, image_ids=image_ids, boxes=boxes, pixels=pixels[..., 0])
    oblong = pixels[:, :, :5]
    refused("equally many", PatchTable, image_ids=image_ids, boxes=boxes, pixels=oblong)
