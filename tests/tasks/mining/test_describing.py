"""Maps of networks and of gradients: strides, places, edges."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import compact
from keras_ctxattr.export import export_module
from keras_ctxattr.features.descriptors.hog import HOG, describe_whole
from keras_ctxattr.tasks.mining import describe_by_gradients, describe_by_module
from keras_ctxattr.tasks.mining.lattices import Lattice
from tests.tasks.mining.making import draw_thing


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    keras.utils.set_random_seed(0)
    backbone = compact(width=8, num_features=16)
    return export_module(backbone, tmp_path_factory.mktemp("made") / "module")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=["module", "gradients"])
def describer(request, module):
    return describe_by_module(module) if request.param == "module" else describe_by_gradients(96)


def test_maps_have_the_shape_that_the_lattice_says(describer):
    lattice = Lattice(patch_size=describer.patch_size, stride=describer.stride)
    for shape in ((lattice.steps + 1, lattice.steps + 1), (lattice.steps + 3, lattice.steps + 8)):
        found = np.asarray(describer.describe(noise(*lattice.sides(shape))))
        assert found.shape == (*shape, describer.num_features)


def test_a_change_is_felt_where_the_lattice_has_it(describer):
    lattice = Lattice(patch_size=describer.patch_size, stride=describer.stride)
    shape = (3 * lattice.steps, 4 * lattice.steps)
    calm = noise(*lattice.sides(shape)) / 8 + 100
    row, column = lattice.steps, 2 * lattice.steps
    top, left = row * lattice.stride, column * lattice.stride
    changed = calm.copy()
    changed[top : top + 96, left : left + 96] = draw_thing()[:96, :96]
    difference = np.asarray(describer.describe(changed)) - np.asarray(describer.describe(calm))
    felt = np.linalg.norm(difference, axis=-1)
    middle = (felt * np.indices(shape)).sum(axis=(1, 2)) / felt.sum()
    np.testing.assert_allclose(middle, [row, column], atol=0.6)


def test_untrained_networks_differ_by_seed_and_in_their_records(module):
    image = noise(192, 192)
    learnt = describe_by_module(module)
    one, other = (describe_by_module(module, untrained_seed=seed) for seed in (0, 1))
    assert one.name == "module, untrained" and learnt.name == "module"
    assert len({str(d.config["module"]) for d in (learnt, one, other)}) == 3
    assert not np.allclose(learnt.describe(image), one.describe(image))
    assert not np.allclose(one.describe(image), other.describe(image))


def test_places_at_the_edge_are_not_told_from_others(module):
    """Zeros beyond the edges told a network where a patch lies: half of all verified matches."""
    side = 96 + 32 * 9
    waves = np.cos(2 * np.pi * np.arange(side) / 8)  # of a period that every stride holds
    image = np.tile((100 + 60 * waves[:, None] * waves)[..., None], 3).astype(np.float32)
    mirrored = np.asarray(describe_by_module(module).describe(image))
    loaded = tf.saved_model.load(str(module))
    zeros = loaded.feature_map(image[None] / 255)[0].numpy()
    size = np.linalg.norm(mirrored[5, 5])
    # At the left and at the top the waves go on in the mirror.
    inside = mirrored[:-1, :-1]
    np.testing.assert_allclose(
        inside, np.broadcast_to(mirrored[5, 5], inside.shape), atol=1e-4 * size
    )
    assert np.linalg.norm(zeros[0, 5] - zeros[5, 5]) > 0.1 * size


def test_gradients_of_a_patch_alone_are_those_of_the_descriptor():
    descriptor = HOG(96, cell=16)
    image = noise(96, 96).astype(np.uint8)
    np.testing.assert_allclose(
        describe_whole(descriptor, image)[0, 0], descriptor(image[None])[0], atol=1e-6
    )


def test_gradients_of_a_photograph_by_plain_loops():
    descriptor = HOG(48, cell=8)
    image = noise(64, 80, seed=1).astype(np.uint8)
    found = describe_whole(descriptor, image)
    cells = descriptor.count_gradients(image[None])[0]
    assert found.shape == (3, 5, 900)
    for row, column in np.ndindex(3, 5):
        blocks = []
        for down, across in np.ndindex(5, 5):
            block = cells[row + down : row + down + 2, column + across : column + across + 2]
            block = block / np.sqrt((block**2).sum() + 1e-10)
            block = np.minimum(block, 0.2)
            blocks.append(block / np.sqrt((block**2).sum() + 1e-10))
        np.testing.assert_allclose(found[row, column], np.ravel(blocks), atol=1e-6)


@pytest.mark.parametrize(("size", "stride", "expected"), [(32, 8, 8), (64, None, 32), (96, 32, 32)])
def test_gradients_take_the_patches_of_any_network(size, stride, expected):
    describer = describe_by_gradients(size, stride)
    assert describer.stride == expected
    lattice = Lattice(patch_size=size, stride=expected)
    found = np.asarray(describer.describe(noise(*lattice.sides((5, 7)))))
    assert found.shape[:2] == (5, 7)


@pytest.mark.parametrize(("size", "stride"), [(50, None), (96, 7)])
def test_patches_that_no_cells_fit_are_refused(size, stride):
    with pytest.raises(ValueError, match="must be a multiple of 6, 4 or 8"):
        describe_by_gradients(size, stride)


def test_a_folder_without_a_module_is_refused(tmp_path):
    with pytest.raises(ValueError, match="A module must be a folder"):
        describe_by_module(tmp_path)
