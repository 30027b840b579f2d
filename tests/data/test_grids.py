"""From photographs to batches: geometry, labels, distributions, and purity of every step."""

import dataclasses

import cv2
import numpy as np
import pytest

from keras_ctxattr.data.grids import POSITIONS, GridConfig, grid_batches
from keras_ctxattr.data.manifest import Manifest, scan_images
from keras_ctxattr.layers import PatchCutter
from tests import restatements as plain

# Patches of 16 pixels keep the tests quick; the geometry is the paper's in miniature.
SMALL = GridConfig(
    patch_size=16,
    gap=8,
    jitter=3,
    min_pixels=3000,
    max_pixels=9000,
    grids_per_image=3,
    images_per_batch=4,
    patches_per_batch=256,
    pairs_per_batch=2000,
)
# Landscape, portrait, square, small (to be enlarged), large, panorama, tall: (height, width).
SIZES = [(70, 100), (90, 60), (80, 80), (30, 40), (250, 300), (46, 195), (195, 46)]


def write_images(folder, images):
    """Writes RGB images without loss; names keep their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{number:03}.png"), image[..., ::-1])
    return scan_images(folder)


def coloured_images(sizes):
    """Gives noise images; each image's red channel says its number."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    for number, image in enumerate(images):
        image[..., 0] = 10 * number
    return images


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photographs"), coloured_images(SIZES))


@pytest.fixture(scope="module")
def run(manifest):
    """Eight steps of an uninterrupted run: making a pipeline takes longer than running it."""
    return take(manifest, SMALL, 8, seed=7)


def take(manifest, config, num_steps, **options):
    batches = grid_batches(manifest, config, num_steps=num_steps, **options)
    return list(batches.as_numpy_iterator())


def image_numbers(batch):
    """Tells which coloured image each canvas holds (the red channel survives scaling)."""
    return [int(canvas[0, 0] + 5) // 10 for canvas in batch["canvases"]]


def valid_pairs(batch):
    """Gives the pairs of a batch that are no padding, as tuples."""
    return [tuple(pair) for pair in batch["pairs"][batch["pair_mask"]].tolist()]


def read_grids(batch, config):
    """Follows the corners of a batch grid by grid, asserting that each is a full lattice.

    Gives the grids as dicts from cell to slot, and the number of corners they take together.
    """
    corners, sizes = batch["corners"].tolist(), batch["sizes"].tolist()
    grids, slot = [], 0
    for _ in range(config.grids_per_image):
        for image, size in enumerate(sizes):
            if slot >= len(corners):
                return grids, len(corners)
            origin = tuple(corners[slot][1:])
            assert min(origin) >= 0
            assert max(origin) < config.pitch
            lattice = plain.lay_grid(size, origin, pitch=config.pitch, gap=config.gap)
            grid = {}
            for cell, corner in lattice.items():
                if slot == len(corners):
                    break  # the batch is full in the middle of a grid
                assert corners[slot] == [image, *corner]
                grid[cell] = slot
                slot += 1
            grids.append(grid)
    return grids, slot


def enumerate_pairs(grids):
    """Gives all ordered neighbours of all grids as (first slot, second slot, label)."""
    return [
        (grid[first], grid[second], label)
        for grid in grids
        for first, second, label in plain.pair_neighbours(grid)
    ]


# ---- geometry ------------------------------------------------------------------------------------


def assert_neighbours_lie_where_labels_say(folder, config, sizes, num_steps):
    images = [plain.coordinate_image(*size, number) for number, size in enumerate(sizes)]
    batches = take(write_images(folder, images), config, num_steps, seed=1)
    cutter = PatchCutter(config.patch_size, config.jitter, seed=1)
    labels_seen = set()
    for batch in batches:
        patches = np.asarray(cutter(batch["canvases"], batch["sizes"], batch["corners"]))
        places = [plain.read_coordinates(patch[0, 0]) for patch in patches]
        for patch, (number, row, column), corner in zip(
            patches, places, batch["corners"], strict=True
        ):
            # Its last pixel, too, is where it should be: inside the image, unscaled, upright.
            last = config.patch_size - 1
            assert plain.read_coordinates(patch[-1, -1]) == (number, row + last, column + last)
            assert np.abs(np.array([row, column]) - corner[1:]).max() <= config.jitter
        for first, second, label in valid_pairs(batch):
            (number, *here), (other_number, *there) = places[first], places[second]
            assert number == other_number
            for step, offset in zip(plain.STEPS[label], np.subtract(there, here), strict=True):
                assert abs(offset - step * config.pitch) <= 2 * config.jitter
                if step:  # the gap is there after jitter, too
                    assert abs(offset) - config.patch_size >= config.gap - 2 * config.jitter
            labels_seen.add(label)
    assert labels_seen == set(range(8))


def test_neighbour_lies_where_the_label_says(tmp_path):
    config = dataclasses.replace(SMALL, min_pixels=6000, max_pixels=6000)
    sizes = [(60, 100), (100, 60), (75, 80), (48, 125)]  # all 6000 pixels: nothing is scaled
    assert_neighbours_lie_where_labels_say(tmp_path, config, sizes, num_steps=2)


def test_neighbour_lies_where_the_label_says_at_the_papers_sizes(tmp_path):
    config = GridConfig(
        min_pixels=180_000,
        max_pixels=180_000,
        images_per_batch=2,
        patches_per_batch=96,
        pairs_per_batch=400,
    )
    assert_neighbours_lie_where_labels_say(tmp_path, config, [(400, 450), (600, 300)], num_steps=2)


def test_position_names_follow_the_labels():
    words = {(-1, 0): "up", (1, 0): "down", (0, -1): "left", (0, 1): "right"}
    for name, (row, column) in zip(POSITIONS, plain.STEPS, strict=True):
        parts = [words[step] for step in ((row, 0), (0, column)) if step in words]
        assert name == "-".join(parts)


def test_scaling_keeps_every_pixel_at_its_place(tmp_path):
    # Values are slow ramps along rows and columns; 255 x 255 is enlarged, 255 x 510 reduced.
    sizes = [(255, 255), (255, 510)]
    images = []
    for height, width in sizes:
        rows, columns = np.mgrid[:height, :width]
        images.append(np.stack([rows, columns * 255 // width, 0 * rows], -1).astype(np.uint8))
    config = GridConfig(
        images_per_batch=2, grids_per_image=1, min_pixels=100_000, max_pixels=110_000
    )
    manifest = write_images(tmp_path, images)
    for batch in take(manifest, config, 2):
        for canvas, size in zip(batch["canvases"], batch["sizes"], strict=True):
            height, width = size
            image = plain.canvas_image(canvas, size).astype(float)
            old_height, old_width = sizes[0] if abs(height / width - 1) < 0.1 else sizes[1]
            rows = (np.arange(height) + 0.5) * old_height / height - 0.5
            columns = (np.arange(width) + 0.5) * old_width / width - 0.5
            assert np.abs(image[2:-2, :, 0] - rows[2:-2, None]).max() <= 1.01
            ramp = columns * 255 / old_width
            assert np.abs(image[:, 4:-4, 1] - ramp[None, 4:-4]).max() <= 1.6
            assert abs(height / width - old_height / old_width) < 0.01


def test_canvases_hold_whole_images_and_zeros_behind_them(run):
    canvases = np.concatenate([batch["canvases"] for batch in run])
    sizes = np.concatenate([batch["sizes"] for batch in run])
    for canvas, (height, width) in zip(canvases, sizes, strict=True):
        number = canvas[0, 0]
        assert (np.abs(canvas[: height * width, 0].astype(int) - number) <= 1).all()
        assert (canvas[height * width :] == 0).all()
        assert canvas[height * width - 1].any()  # noise: not black by chance


# ---- grids and pairs -----------------------------------------------------------------------------


def test_grids_are_the_whole_lattice_and_pairs_all_neighbours_in_it(run):
    for batch in run:
        grids, used = read_grids(batch, SMALL)
        assert used < SMALL.patches_per_batch  # nothing was cut off here
        expected = enumerate_pairs(grids)
        found = valid_pairs(batch)
        assert len(found) == len(set(found))
        assert set(found) == set(expected)


def test_a_batch_that_is_full_keeps_all_pairs_among_the_patches_in_it(manifest):
    config = dataclasses.replace(SMALL, patches_per_batch=45)
    for batch in take(manifest, config, 4, seed=3):
        grids, used = read_grids(batch, config)
        assert used == 45
        assert set(valid_pairs(batch)) == set(enumerate_pairs(grids))


def test_patches_that_fill_a_batch_up_lie_inside_images_and_are_in_no_pair(manifest):
    config = dataclasses.replace(SMALL, patches_per_batch=600)
    rest = []
    for batch in take(manifest, config, 3, seed=4):
        _, used = read_grids(batch, config)
        paired = {slot for first, second, _ in valid_pairs(batch) for slot in (first, second)}
        assert max(paired) < used
        fill = batch["corners"][used:]
        assert len(fill) > 200
        image, corner = fill[:, 0], fill[:, 1:]
        room = batch["sizes"][image] - config.patch_size
        assert (corner >= 0).all()
        assert (corner <= room).all()
        # Every image gets its share, at places all over it.
        counts = np.bincount(image, minlength=config.images_per_batch)
        assert counts.max() - counts.min() <= 1
        rest.append(corner / (room + 1))
    plain.assert_follows(np.concatenate(rest) + 0, lambda share: min(1.0, share + 0.01))
    assert np.abs(np.concatenate(rest).mean(0) - 0.5).max() < 0.05


@pytest.mark.parametrize("pairs_per_batch", [2, 40])
def test_where_not_all_pairs_fit_those_that_do_are_there_in_both_orders(manifest, pairs_per_batch):
    config = dataclasses.replace(SMALL, pairs_per_batch=pairs_per_batch)
    for batch in take(manifest, config, 4, seed=5):
        assert batch["pair_mask"].all()
        assert_in_both_orders(batch)
        assert set(valid_pairs(batch)) < set(enumerate_pairs(read_grids(batch, config)[0]))


def assert_in_both_orders(batch):
    found = valid_pairs(batch)
    counts = np.bincount([label for _, _, label in found], minlength=8)
    np.testing.assert_array_equal(counts, counts[::-1])
    everything = set(found)
    assert len(everything) == len(found)
    assert all((second, first, 7 - label) in everything for first, second, label in found)


def test_labels_are_exactly_balanced_in_every_batch(run):
    for batch in run:
        assert_in_both_orders(batch)


def test_padded_pairs_come_last_and_point_at_a_patch_that_exists(run):
    batch = run[0]
    count = batch["pair_mask"].sum()
    assert 0 < count < SMALL.pairs_per_batch
    assert batch["pair_mask"][:count].all()
    assert batch["pairs"].min() >= 0
    assert batch["pairs"][:, :2].max() < SMALL.patches_per_batch
    assert batch["pairs"][:, 2].max() <= 7


def test_shapes_are_static_and_as_the_configuration_says(manifest, run):
    spec = grid_batches(manifest, SMALL).element_spec
    shapes = {name: tuple(tensor.shape) for name, tensor in spec.items()}
    dtypes = {name: tensor.dtype.name for name, tensor in spec.items()}
    assert shapes == {
        "canvases": (4, 9000, 3),
        "sizes": (4, 2),
        "corners": (256, 3),
        "pairs": (2000, 3),
        "pair_mask": (2000,),
        "seed": (1, 2),
        "redraws": (),
    }
    assert dtypes.pop("canvases") == "uint8"
    assert dtypes.pop("pair_mask") == "bool"
    assert set(dtypes.values()) == {"int32"}
    for batch in run:
        assert {name: array.shape for name, array in batch.items()} == shapes


# ---- distributions -------------------------------------------------------------------------------


# A third of the released lengths and a tenth of the areas: the same laws, ten times as many draws.
LAWFUL = GridConfig(
    patch_size=32,
    gap=16,
    jitter=2,
    min_pixels=15_000,
    max_pixels=45_000,
    images_per_batch=32,
    patches_per_batch=3000,
)


@pytest.fixture(scope="module")
def draws(tmp_path_factory):
    """Many batches of four square images, small and large, and one five times as wide as high.

    Gives int `[loads, 2]` sizes, the number of unlucky draws, and int `[step, grid, image, 2]`
    origins.
    """
    folder = tmp_path_factory.mktemp("distributions")
    shapes = [(60, 60), (200, 200), (100, 100), (40, 40), (100, 500)]
    manifest = write_images(folder, [np.full((*shape, 3), 9, np.uint8) for shape in shapes])
    sizes, origins, redraws = [], [], 0
    for batch in grid_batches(manifest, LAWFUL, seed=6, num_steps=50).as_numpy_iterator():
        grids, used = read_grids(batch, LAWFUL)
        assert used < LAWFUL.patches_per_batch
        sizes.append(batch["sizes"])
        redraws += int(batch["redraws"])
        starts = [batch["corners"][grid[0, 0], 1:] for grid in grids]
        origins.append(np.reshape(starts, (4, 32, 2)))
    return np.concatenate(sizes), redraws, np.array(origins)


def assert_area_uniform(sides, aspect, low, high):
    """Asserts the law of the long side int(sqrt(aspect * area)) of uniform areas."""

    def cumulative(side):  # int(v) <= side exactly when v < side + 1
        return min(max(((side + 1) ** 2 / aspect - low) / (high - low), 0), 1)

    plain.assert_follows(sides, cumulative)
    assert sides.min() >= int((aspect * low) ** 0.5)
    assert sides.max() <= int((aspect * high) ** 0.5)


def test_areas_are_uniform_whether_the_photograph_shrinks_or_grows(draws):
    sizes = draws[0]
    square = sizes[sizes[:, 0] == sizes[:, 1]]
    assert len(square) == len(sizes) * 4 / 5
    assert_area_uniform(square[:, 0], 1, 15_000, 45_000)


def test_areas_of_a_panorama_are_uniform_over_those_that_leave_it_high_enough(draws):
    sizes, redraws, _ = draws
    wide = sizes[sizes[:, 0] != sizes[:, 1]]
    assert wide[:, 0].min() == LAWFUL.min_side + 1
    assert np.abs(wide[:, 1] / wide[:, 0] - 5).max() < 0.06
    smallest = 5 * (LAWFUL.min_side + 1) ** 2
    assert_area_uniform(wide[:, 1], 5, smallest, 45_000)
    # Unlucky draws are counted: until the first lucky one, (1 - p) / p of them on average.
    lucky = (45_000 - smallest) / 30_000
    assert redraws / len(wide) == pytest.approx((1 - lucky) / lucky, rel=0.25)


def test_origins_are_uniform_over_one_pitch_and_differ_from_grid_to_grid(draws):
    origins = draws[2]
    pitch = 32 + 16
    for axis in (0, 1):
        plain.assert_uniform(np.bincount(origins[..., axis].ravel(), minlength=pitch))
    coarse = origins.reshape(-1, 2) // 4
    plain.assert_uniform(np.bincount(coarse[:, 0] * 12 + coarse[:, 1], minlength=144))
    first, second = origins[:, 0].ravel(), origins[:, 1].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_defaults_are_the_released_ones():
    config = GridConfig()
    assert (config.patch_size, config.gap, config.jitter) == (96, 48, 7)
    assert (config.min_pixels, config.max_pixels) == (150_000, 450_000)
    assert (config.grids_per_image, config.patches_per_batch) == (4, 512)
    assert (config.pitch, config.min_side) == (144, 247)


def test_no_grid_has_more_than_24_patches_at_the_released_sizes():
    assert GridConfig().max_cells == 24
    brute = max(
        plain.count_cells(height, 0, 24, 8) * plain.count_cells(width, 0, 24, 8)
        for height in range(SMALL.min_side + 1, 9000 // (SMALL.min_side + 1) + 1)
        for width in range(SMALL.min_side + 1, 9000 // height + 1)
    )
    assert SMALL.max_cells == brute


# ---- purity --------------------------------------------------------------------------------------


def assert_same_batches(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


@pytest.mark.parametrize("first_step", [1, 5])
def test_a_run_that_begins_at_a_step_gives_the_batches_of_an_uninterrupted_one(
    manifest, run, first_step
):
    rest = take(manifest, SMALL, 8 - first_step, seed=7, first_step=first_step)
    assert_same_batches(rest, run[first_step:])


@pytest.mark.parametrize("num_workers", [1, 8])
def test_the_number_of_workers_changes_nothing(manifest, run, num_workers):
    assert_same_batches(take(manifest, SMALL, 8, seed=7, num_workers=num_workers), run)


# ---- groups, for several devices ----------------------------------------------------------------


def in_groups(num_groups, **options):
    return dataclasses.replace(SMALL, num_groups=num_groups, **options)


def share_of(batch, device, num_devices, config=SMALL):
    """A slow plain restatement: what a device has of a batch, counted from its own first."""
    images, patches, pairs = (
        slice(device * count // num_devices, (device + 1) * count // num_devices)
        for count in (config.images_per_batch, config.patches_per_batch, config.pairs_per_batch)
    )
    return {
        "canvases": batch["canvases"][images],
        "sizes": batch["sizes"][images],
        "corners": batch["corners"][patches] - [images.start, 0, 0],
        "pairs": batch["pairs"][pairs] - [patches.start, patches.start, 0],
        "pair_mask": batch["pair_mask"][pairs],
    }


@pytest.mark.parametrize("num_devices", [2, 4])
def test_devices_that_share_a_batch_have_what_one_device_has(manifest, num_devices):
    config = in_groups(4)
    whole = take(manifest, config, 3, seed=7)
    for device in range(num_devices):
        parts = take(manifest, config, 3, seed=7, share=(device, num_devices))
        for part, batch in zip(parts, whole, strict=True):
            for name, expected in share_of(batch, device, num_devices).items():
                np.testing.assert_array_equal(part[name], expected, err_msg=name)
            rows = 4 // num_devices
            np.testing.assert_array_equal(
                part["seed"], batch["seed"][device * rows : (device + 1) * rows]
            )


def test_groups_have_the_images_of_an_undivided_batch_and_draws_of_their_own(manifest, run):
    for batch, undivided in zip(take(manifest, in_groups(2), 3, seed=7), run, strict=False):
        for name in ("canvases", "sizes"):
            np.testing.assert_array_equal(batch[name], undivided[name], err_msg=name)
        np.testing.assert_array_equal(batch["seed"][0], undivided["seed"][0])
        assert (batch["seed"][0] != batch["seed"][1]).any()
        fillers = [~np.isin(np.arange(256), batch["pairs"][batch["pair_mask"], :2])]
        places = batch["corners"][:, 1:][fillers[0]]
        assert len(np.unique(places, axis=0)) > 0.9 * len(places)


def test_pairs_stay_inside_a_group(manifest):
    for batch in take(manifest, in_groups(4), 2, seed=7):
        ends = batch["pairs"][batch["pair_mask"], :2] // 64
        assert (ends[:, 0] == ends[:, 1]).all()
        assert (batch["corners"][:, 0] == np.repeat(np.arange(4), 64)).all()


@pytest.mark.parametrize(("share", "devices"), [((0, 3), 3), ((2, 2), 2), ((-1, 2), 2)])
def test_groups_that_cannot_be_shared_equally_are_refused(manifest, share, devices):
    with pytest.raises(ValueError, match=f"multiple of the number.*num_groups=4, {devices} dev"):
        grid_batches(manifest, in_groups(4), share=share)


def test_seeds_and_steps_differ_in_everything_that_is_drawn(manifest, run):
    batches = run + take(manifest, SMALL, 8, seed=8)
    for name in ("canvases", "sizes", "corners", "pairs", "seed"):
        assert len({batch[name].tobytes() for batch in batches}) == 16, name


def test_seed_0_is_reproducible_and_differs_from_seed_1(manifest):
    """It was once compared with itself alone, so that a seed taken for "none" would have passed."""
    batches = take(manifest, SMALL, 2, seed=0)
    assert_same_batches(batches, take(manifest, SMALL, 2, seed=0))
    for batch, other in zip(batches, take(manifest, SMALL, 2, seed=1), strict=True):
        for name in ("canvases", "corners", "seed"):
            assert batch[name].tobytes() != other[name].tobytes(), name


def test_every_image_is_used_once_an_epoch_in_a_new_order(run):
    num_images = len(SIZES)
    numbers = [number for batch in run[:7] for number in image_numbers(batch)]
    epochs = np.reshape(numbers, (4, num_images))
    for epoch in epochs:
        assert sorted(epoch) == list(range(num_images))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_far_epochs_and_large_seeds_work(manifest):
    batches = take(manifest, SMALL, 1, seed=2**31 - 1, first_step=10**9)
    assert batches[0]["pair_mask"].any()


# ---- which images --------------------------------------------------------------------------------


def test_images_that_are_too_small_or_skipped_are_left_out(tmp_path):
    # 15 pixels are less than a patch; 20 x 200 has 30 pixels a side at most, and needs 43.
    sizes = [(80, 80), (15, 30), (20, 200), (70, 100), (200, 20)]
    manifest = write_images(tmp_path, coloured_images(sizes))
    used = {n for batch in take(manifest, SMALL, 3) for n in image_numbers(batch)}
    assert used == {0, 3}
    rows = np.arange(len(sizes)) == 3
    manifest = manifest.skip_where(rows, "not wanted")
    used = {n for batch in take(manifest, SMALL, 3) for n in image_numbers(batch)}
    assert used == {0}


def made_up_manifest(heights, widths):
    """Gives a manifest of images that are nowhere."""
    count = len(heights)

    def repeat(value):
        return np.array([value] * count, object)

    return Manifest(
        image_ids=np.arange(count),
        keys=np.array([str(number) for number in range(count)], object),
        paths=repeat("nowhere"),
        offsets=np.zeros(count),
        lengths=np.ones(count),
        totals=np.ones(count),
        heights=heights,
        widths=widths,
        formats=repeat("png"),
        orientations=np.ones(count),
        digests=repeat(""),
        skips=repeat(""),
    )


def test_too_small_is_under_one_patch_or_no_room_for_two_at_the_largest_area():
    generator = np.random.default_rng(0)
    heights, widths = generator.integers(1, 1500, (2, 500))
    heights[:4], widths[:4] = [95, 96, 248, 247], [96, 96, 1814, 1840]
    expected = []
    for height, width in zip(heights.tolist(), widths.tolist(), strict=True):
        largest = min(height, width) * (450_000 / (height * width)) ** 0.5
        expected.append(min(height, width) < 96 or int(largest) <= 247)
    assert expected[:4] == [True, False, False, True]
    marked = GridConfig().mark_too_small(made_up_manifest(heights, widths))
    np.testing.assert_array_equal(marked.skips != "", expected)
    assert all("too small" in skip for skip in marked.skips[expected])


def test_no_usable_image_is_one_clear_error(tmp_path):
    manifest = write_images(tmp_path, coloured_images([(15, 30), (20, 200)]))
    with pytest.raises(ValueError, match=r"exceed 43 pixels.*9000.*Received: 2 readable"):
        grid_batches(manifest, SMALL)


def test_a_single_image_is_a_collection(tmp_path):
    manifest = write_images(tmp_path, coloured_images([(80, 100)]))
    batches = take(manifest, SMALL, 3)
    assert len(batches) == 3
    assert all(set(image_numbers(batch)) == {0} for batch in batches)
    assert len({batch["sizes"].tobytes() for batch in batches}) == 3


def test_panoramas_and_portraits_have_grids_along_their_long_side(run):
    for batch in run:
        grids, _ = read_grids(batch, SMALL)
        for index, number in enumerate(image_numbers(batch)):
            height, width = SIZES[number]
            rows, columns = np.max(list(grids[index]), axis=0) + 1
            if width > 4 * height:
                assert columns >= 5
                assert rows <= 2
            if height > 4 * width:
                assert rows >= 5
                assert columns <= 2


# ---- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"jitter": 25}, "jitter=25, gap=48"),
        ({"jitter": -1}, "jitter=-1"),
        ({"gap": -1, "jitter": 0}, "gap=-1"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"min_pixels": 500_000}, "min_pixels=500000, max_pixels=450000"),
        ({"min_pixels": 61_009}, "247.*min_pixels=61009"),
        ({"images_per_batch": 0}, "images_per_batch=0"),
        ({"grids_per_image": 0}, "grids_per_image=0"),
        ({"patches_per_batch": 0}, "patches_per_batch=0"),
        ({"pairs_per_batch": 3}, "pairs_per_batch=3"),
        ({"pairs_per_batch": 0}, "pairs_per_batch=0"),
        ({"num_groups": 0}, "num_groups=0"),
        ({"num_groups": 4}, "num_groups=4, images_per_batch=14"),
        ({"images_per_batch": 16, "num_groups": 16, "patches_per_batch": 500}, "num_groups=16"),
        ({"images_per_batch": 16, "num_groups": 16, "pairs_per_batch": 2416}, "=2416"),
    ],
)
def test_impossible_geometry_is_refused_naming_the_value(arguments, named):
    with pytest.raises(ValueError, match=f"(?s){named}"):
        GridConfig(**arguments)


def test_gap_and_jitter_may_be_0_and_jitter_half_the_gap():
    assert GridConfig(gap=0, jitter=0).pitch == 96
    assert GridConfig(jitter=24).min_side == 2 * 96 + 48 + 24
    assert GridConfig().min_side == 247
