"""Boundary maps are read as drawn, and contour patches are what they say, from any row on."""

import io
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from keras_ctxattr.data.bsds import (
    ContourPatches,
    contour_patches,
    equal_shares,
    read_bsds,
)
from keras_ctxattr.data.manifest import CollectionError, scan_images

HEIGHT, WIDTH = 30, 40


def draw_boundaries(seed: int, annotators: int = 3) -> np.ndarray:
    """Each annotator closes one box, another one each."""
    generator = np.random.default_rng(seed)
    maps = np.zeros((annotators, HEIGHT, WIDTH), np.uint8)
    for boundary in maps:
        top, left = generator.integers(2, 8, 2)
        bottom, right = generator.integers([15, 20], [HEIGHT - 2, WIDTH - 2])
        boundary[top, left:right] = boundary[bottom, left:right] = 1
        boundary[top:bottom, left] = boundary[top:bottom, right] = 1
    return maps


def encode_ground_truth(maps: np.ndarray) -> bytes:
    cells = np.empty((1, len(maps)), object)
    for number, boundary in enumerate(maps):
        segments = np.ones(boundary.shape, np.uint16)
        cells[0, number] = {"Segmentation": segments, "Boundaries": boundary}
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"groundTruth": cells}, do_compression=True)
    return stream.getvalue()


IMAGES = {"train": ("100", "22", "3"), "val": ("7",)}


def make_bsds(root: Path, prefix: str = "BSDS500") -> Path:
    for split, names in IMAGES.items():
        folder = root / prefix / "groundTruth" / split
        folder.mkdir(parents=True)
        for name in names:
            maps = draw_boundaries(int(name))
            (folder / f"{name}.mat").write_bytes(encode_ground_truth(maps))
        (folder / "._3.mat").write_bytes(b"what macOS leaves behind")
        (folder / "Thumbs.db").write_bytes(b"and Windows")
    # The benchmark's own case, as distributed beside the data set: of no split.
    (root / prefix / "bench" / "groundTruth").mkdir(parents=True)
    (root / prefix / "bench" / "groundTruth" / "9.mat").write_bytes(b"")
    return root


def pack_folder(root: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        archive.add(root, arcname=".")
    return path


@pytest.fixture
def source(tmp_path) -> Path:
    return make_bsds(tmp_path / "bsds")


def take(patches: ContourPatches, first_row: int = 0) -> tuple[np.ndarray, ...]:
    """All from a row on, as three arrays."""
    batches = list(patches.batches(first_row))
    return tuple(np.concatenate(column) for column in zip(*batches, strict=True))


# ---- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["BSDS500", "BSR/BSDS500/data", "."])
@pytest.mark.parametrize("packed", [None, "bsds.tar", "bsds.tar.gz"])
def test_boundary_maps_are_read_as_drawn(prefix: str, packed: str | None, tmp_path) -> None:
    root = make_bsds(tmp_path / "bsds", prefix)
    images = list(read_bsds(pack_folder(root, tmp_path / packed) if packed else root))
    assert [(image.split, image.name) for image in images] == [
        ("train", "100"),
        ("train", "22"),
        ("train", "3"),
        ("val", "7"),
    ]
    before = "" if prefix == "." else prefix + "/"
    assert images[0].key == f"{before}images/train/100.jpg"
    for image in images:
        assert image.boundaries.dtype == bool
        np.testing.assert_array_equal(image.boundaries, draw_boundaries(int(image.name)))


def test_splits_come_in_the_order_asked_for(source) -> None:
    assert [image.name for image in read_bsds(source, ("val", "train"))][:2] == ["7", "100"]
    assert [image.name for image in read_bsds(source, "val")] == ["7"]


def test_images_are_read_one_at_a_time(source) -> None:
    images = read_bsds(source)
    assert next(images).name == "100"
    (source / "BSDS500/groundTruth/train/22.mat").write_bytes(b"")
    with pytest.raises(CollectionError, match=r"22\.mat"):
        next(images)


# ---- patches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 8, 9, 15])
def test_patch_is_a_cutout_of_one_annotators_map_around_a_contour_pixel(source, size: int) -> None:
    patches = contour_patches(source, num_patches=80, size=size, seed=1)
    image_ids, boxes, pixels = take(patches)
    assert (image_ids.dtype, boxes.dtype, pixels.dtype) == (np.int64, np.float32, np.uint8)
    assert pixels.shape == (80, size, size, 3)
    for image_id, box, patch in zip(image_ids, boxes, pixels, strict=True):
        left, top, right, bottom = box.astype(int)
        assert (right - left, bottom - top) == (size, size)
        assert left >= 0 and top >= 0 and right <= WIDTH and bottom <= HEIGHT
        maps = draw_boundaries(int(Path(patches.keys[image_id]).stem))
        # Slow and plain: one of the annotators drew exactly this.
        drawn = [255 * boundary[top:bottom, left:right] for boundary in maps]
        assert any((patch == cutout[..., None]).all() for cutout in drawn)
        assert patch[size // 2, size // 2].tolist() == [255, 255, 255]


def test_every_pixel_with_room_around_it_is_drawn_when_all_are_asked_for(source) -> None:
    size, expected = 9, Counter()
    for image in read_bsds(source):
        for boundary in image.boundaries:
            for row, column in np.argwhere(boundary):
                if 4 <= row < HEIGHT - 4 and 4 <= column < WIDTH - 4:
                    expected[image.key, column - 4, row - 4] += 1
    total = sum(expected.values())
    patches = contour_patches(source, num_patches=total, size=size)
    image_ids, boxes, _ = take(patches)
    drawn = Counter(
        (patches.keys[image_id], *corner)
        for image_id, corner in zip(image_ids, boxes[:, :2].astype(int).tolist(), strict=True)
    )
    assert drawn == expected
    with pytest.raises(ValueError, match=f"at most {total}, .*num_patches={total + 1}"):
        contour_patches(source, num_patches=total + 1, size=size)


def test_images_share_equally_and_come_in_order(source) -> None:
    patches = contour_patches(source, num_patches=82, size=9, seed=2)
    image_ids, _, _ = take(patches)
    assert patches.num_patches == len(image_ids) == 82
    assert patches.shares.tolist() == [21, 21, 20, 20]
    np.testing.assert_array_equal(image_ids, np.repeat([0, 1, 2, 3], patches.shares))
    assert patches.keys[3] == "BSDS500/images/val/7.jpg"


def test_annotators_of_an_image_share_equally(tmp_path) -> None:
    # One annotator draws much, two little: each is as likely to be followed.
    maps = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    maps[0, ::2], maps[1, 14], maps[2, :, 20] = 1, 1, 1
    folder = tmp_path / "groundTruth" / "train"
    folder.mkdir(parents=True)
    (folder / "1.mat").write_bytes(encode_ground_truth(maps))
    patches = contour_patches(tmp_path, num_patches=30, size=5, splits="train")
    _, _, pixels = take(patches)
    across, down = pixels[:, 2, :, 0].all(1), pixels[:, :, 2, 0].all(1)
    striped = pixels[:, 0, :, 0].all(1)
    assert (int(striped.sum()), int((across & ~striped).sum()), int(down.sum())) == (10, 10, 10)


def test_image_with_few_contours_gives_all_it_has_and_one_without_gives_none(source) -> None:
    folder = source / "BSDS500" / "groundTruth" / "train"
    few = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    few[0, 10, 10:15] = few[1, 0] = 1  # the second annotator's leave no room for a cutout
    (folder / "22.mat").write_bytes(encode_ground_truth(few))
    (folder / "3.mat").write_bytes(encode_ground_truth(np.zeros((1, HEIGHT, WIDTH), np.uint8)))
    patches = contour_patches(source, num_patches=65, size=9, seed=2)
    assert patches.shares.tolist() == [30, 5, 0, 30]
    image_ids, boxes, _ = take(patches)
    assert np.bincount(image_ids).tolist() == [30, 5, 0, 30]
    np.testing.assert_array_equal(np.sort(boxes[image_ids == 1][:, 0]), [6, 7, 8, 9, 10])


@pytest.mark.parametrize("first_row", [0, 1, 20, 21, 22, 41, 42, 81, 82, 99])
def test_patches_from_a_row_on_are_those_of_the_whole(source, first_row: int) -> None:
    patches = contour_patches(source, num_patches=82, size=9, seed=2)
    whole, rest = take(patches), list(patches.batches(first_row))
    columns = zip(*rest, strict=True) if rest else [np.zeros((0, *c.shape[1:])) for c in whole]
    for complete, part in zip(whole, columns, strict=True):
        np.testing.assert_array_equal(
            np.concatenate([*part]) if rest else part, complete[first_row:]
        )


def test_seed_and_source_decide_and_nothing_else(source, tmp_path) -> None:
    first = take(contour_patches(source, num_patches=60, size=9, seed=2))
    packed = pack_folder(source, tmp_path / "bsds.tar")
    again = take(contour_patches(packed, num_patches=60, size=9, seed=2))
    for column, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(column, other)
    other_boxes = take(contour_patches(source, num_patches=60, size=9, seed=3))[1]
    assert (first[1] != other_boxes).any()


def test_draws_of_an_image_do_not_depend_on_the_others(source) -> None:
    image_ids, together, _ = take(contour_patches(source, num_patches=80, size=9, seed=2))
    alone = take(contour_patches(source, num_patches=20, size=9, seed=2, splits="val"))[1]
    np.testing.assert_array_equal(together[image_ids == 3], alone)


def test_images_with_the_same_contours_are_drawn_from_differently(source) -> None:
    folder = source / "BSDS500" / "groundTruth" / "train"
    (folder / "22.mat").write_bytes((folder / "100.mat").read_bytes())
    image_ids, boxes, _ = take(contour_patches(source, num_patches=80, size=9, seed=2))
    assert (boxes[image_ids == 0] != boxes[image_ids == 1]).any()


def test_configuration_tells_ground_truths_and_draws_apart(source, tmp_path) -> None:
    config = contour_patches(source, num_patches=10, size=9, seed=2).config
    packed = pack_folder(source, tmp_path / "bsds.tar")
    assert contour_patches(packed, num_patches=10, size=9, seed=2).config == config
    assert contour_patches(source, num_patches=10, size=9, seed=1).config != config
    changed = source / "BSDS500/groundTruth/val/7.mat"
    changed.write_bytes(encode_ground_truth(draw_boundaries(8)))
    assert contour_patches(source, num_patches=10, size=9, seed=2).config != config


def test_shares_are_as_equal_as_capacities_allow() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        capacities = generator.integers(0, 12, generator.integers(1, 9))
        total = int(generator.integers(0, capacities.sum() + 1))
        # Slow and plain: one at a time to whoever has least and has room.
        expected = np.zeros(len(capacities), int)
        for _ in range(total):
            room = np.flatnonzero(expected < capacities)
            expected[room[expected[room].argmin()]] += 1
        assert equal_shares(capacities, total).tolist() == expected.tolist()


# ---- what cannot be read -------------------------------------------------------------------------

GROUND_TRUTH = "BSDS500/groundTruth/train/22.mat"


def spoil(change):
    def spoil_one(root: Path) -> Path:
        path = root / GROUND_TRUTH
        path.write_bytes(change(path.read_bytes()))
        return root

    return spoil_one


def save(variables) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables)
    return stream.getvalue()


def cut_archive(root: Path) -> Path:
    path = pack_folder(root, root.parent / "bsds.tar")
    path.write_bytes(path.read_bytes()[:7000])
    return path


PROBLEMS = [
    (lambda root: root / "BSDS500" / "groundTruth" / "train", "train", "splits: none"),
    (lambda root: root, "test", r"wanted \(test\).*splits: train, val"),
    (lambda root: root, (), "name at least one"),
    (lambda root: root / "nowhere", "train", "exists"),
    (lambda root: root / GROUND_TRUTH, "train", "tar archive"),
    (cut_archive, "train", "whole tar archive"),
    (spoil(lambda content: b""), "train", "22.mat"),
    (spoil(lambda content: content[:300]), "train", "22.mat"),
    (spoil(lambda content: content[:200] + b"\7" * 50 + content[250:]), "train", "22.mat"),
    (spoil(lambda content: save({"other": 1})), "train", "22.mat: .*groundTruth"),
    (spoil(lambda content: save({"groundTruth": np.ones((3, 3))})), "train", "22.mat"),
    (spoil(lambda content: save({"groundTruth": np.zeros((1, 0))})), "train", "22.mat"),
]


@pytest.mark.parametrize(("change", "splits", "told"), PROBLEMS)
def test_damaged_data_set_is_one_clear_line(change, splits, told: str, source) -> None:
    spoilt = change(source)
    for read in (
        lambda: list(read_bsds(spoilt, splits)),
        lambda: contour_patches(spoilt, num_patches=5, size=9, splits=splits),
    ):
        with pytest.raises(CollectionError, match=told) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert "must" in str(caught.value)


def test_maps_of_different_sizes_are_refused(source) -> None:
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = {"Boundaries": np.ones((3, 4))}, {"Boundaries": np.ones((4, 3))}
    (source / GROUND_TRUTH).write_bytes(save({"groundTruth": cells}))
    with pytest.raises(CollectionError, match=r"one size.*22.mat.*\(3, 4\), \(4, 3\)"):
        list(read_bsds(source))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_patches": 0}, "num_patches=0"),
        ({"num_patches": 1, "size": 0}, "size=0"),
        ({"num_patches": 1, "seed": -1}, "seed=-1"),
        ({"num_patches": 1, "size": 99}, "at most 0.*size=99"),
    ],
)
def test_impossible_setting_is_named(source, settings, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        contour_patches(source, **settings)


# ---- the sample ----------------------------------------------------------------------------------


@pytest.mark.data
def test_sample_archive_holds_what_its_page_says(data_folder) -> None:
    path = data_folder / "bsds500_trainval.tar"
    manifest = scan_images(path).usable()
    sizes = dict(
        zip(manifest.keys, zip(manifest.heights, manifest.widths, strict=True), strict=True)
    )
    counts, annotators = Counter(), []
    for image in read_bsds(path):
        counts[image.split] += 1
        annotators.append(len(image.boundaries))
        assert image.boundaries.shape[1:] == sizes[image.key]
        assert 0 < image.boundaries.mean() < 0.2
    assert counts == {"train": 200, "val": 100}
    assert (min(annotators), max(annotators)) == (4, 9)


@pytest.mark.data
def test_memory_does_not_grow_with_the_patches(data_folder) -> None:
    path = data_folder / "bsds500_trainval.tar"
    patches = contour_patches(path, num_patches=20_000, splits="val")
    tracemalloc.start()
    try:
        for number, (_, _, pixels) in enumerate(patches.batches(1000)):
            assert pixels[:, 22, 22].all()
            if number == 40:
                break
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20  # a few images and a batch; 41 images' patches are 50 MB
