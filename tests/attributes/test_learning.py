"""From clusters to attributes: a run, its files, and that all its paths give the same bits."""

import dataclasses
import itertools

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.attributes import (
    AttributeRecipe,
    bit_statistics,
    learn_attributes,
    load_hasher,
    unpack_bits,
)
from keras_ctxattr.attributes.learning.callbacks import BitGuard, SlopeSchedule
from keras_ctxattr.attributes.learning.training import encode_samples
from keras_ctxattr.backbones import small
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.data.patches import cut_patches
from keras_ctxattr.export import export_module, read_module
from keras_ctxattr.runs import Run, RunError
from keras_ctxattr.runs.callbacks import TrainingCollapsed
from tests.clustering.concepts import NUM_CONCEPTS, write_concepts

TINY = AttributeRecipe(
    num_attributes=8,
    passes=25,
    batch_size=24,
    learning_rate=0.003,
    backbone_rate=0.3,
    checkpoint_minutes=1e-9,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_concepts(tmp_path_factory.mktemp("concepts"), num_images=96)


@pytest.fixture(scope="module")
def patches(images, tmp_path_factory):
    manifest = scan_images([images])
    return cut_patches(manifest, tmp_path_factory.mktemp("patches") / "table", size=32)


@pytest.fixture(scope="module")
def labels(patches):
    """The concepts, which here stand for clusters; every eighth sample is in none."""
    found = np.repeat(np.arange(NUM_CONCEPTS), 16).astype(np.int32)
    found[::8] = -1
    return found


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    return small(width=8, num_features=16)


@pytest.fixture(scope="module")
def finished(patches, labels, backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "attributes"
    return folder, learn_attributes(patches.pixels, labels, folder, TINY, backbone=backbone, seed=2)


def weights_of(folder):
    return [np.asarray(variable) for variable in load_hasher(folder).weights]


def test_samples_of_a_concept_share_their_attributes(finished, labels):
    folder, summary = finished
    codes = np.load(folder / "codes.npy")
    assert codes.shape == (96, 1) and summary["num_clusters"] == NUM_CONCEPTS
    signs = 2.0 * unpack_bits(codes) - 1
    agreement = signs @ signs.T / 8
    truth = np.repeat(np.arange(NUM_CONCEPTS), 16)  # those in no cluster, too
    same = truth[:, None] == truth
    assert agreement[same].mean() > agreement[~same].mean() + 0.3
    assert summary["bits"]["dead"] == 0


def test_model_module_and_files_give_the_same_bits(finished, images, patches):
    folder, _ = finished
    hasher = load_hasher(folder)
    pixels = np.asarray(patches.pixels[:])
    scores = hasher(pixels, training=False).numpy()
    clear = np.abs(scores) > 1e-4  # rounding decides nearer ones
    assert clear.mean() > 0.99
    module = tf.saved_model.load(str(folder / "module"))
    given = tf.cast(pixels, tf.float32) / 255
    np.testing.assert_allclose(module.attributes(given), scores, atol=1e-4)
    paths = sorted(images.rglob("*.png"))
    encoded = tf.constant([path.read_bytes() for path in paths])
    kinds = {
        "run": np.load(folder / "codes.npy"),
        "model, some at a time": encode_samples(hasher, patches.pixels),
        "module": module.codes(given).numpy(),
        "signature": module.signatures["codes"](given)["codes"].numpy(),
        "files": module.encode_bytes(encoded).numpy(),
    }
    for name, codes in kinds.items():
        np.testing.assert_array_equal(unpack_bits(codes)[clear], scores[clear] > 0, err_msg=name)


@pytest.mark.parametrize("unit", ["patch", "image"])
def test_one_signature_gives_all_of_a_file_alone_and_in_company(finished, images, tmp_path, unit):
    module = tf.saved_model.load(
        str(export_module(load_hasher(finished[0]), tmp_path / "module", unit=unit))
    )
    encoded = tf.constant([path.read_bytes() for path in sorted(images.rglob("*.png"))[:5]])
    found = module.signatures["serve_bytes"](encoded=encoded)
    assert sorted(found) == ["attributes", "codes", "features"]
    np.testing.assert_array_equal(found["features"], module.serve_bytes(encoded))
    np.testing.assert_array_equal(found["codes"], module.encode_bytes(encoded))
    np.testing.assert_array_equal(found["codes"], np.packbits(found["attributes"] > 0, axis=1))
    for row in range(5):
        alone = module.describe_bytes(encoded[row : row + 1])
        for name, values in found.items():
            np.testing.assert_array_equal(alone[name][0], values[row], err_msg=name)


def test_files_of_other_sizes_are_cut_as_patches_are(finished, tmp_path):
    folder, _ = finished
    generator = np.random.default_rng(0)
    for number, sides in enumerate([(90, 64), (64, 131), (20, 33), (32, 32)]):
        coarse = generator.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(coarse, sides[::-1]))
    table = cut_patches(scan_images([tmp_path]), tmp_path / "table", size=32)
    module = tf.saved_model.load(str(folder / "module"))
    scores = module.attributes(tf.cast(table.pixels[:], tf.float32) / 255).numpy()
    encoded = tf.constant([path.read_bytes() for path in sorted(tmp_path.glob("*.png"))])
    found = unpack_bits(module.encode_bytes(encoded).numpy())
    clear = np.abs(scores) > 1e-3
    np.testing.assert_array_equal(found[clear], scores[clear] > 0)


def test_of_whole_images_codes_are_those_of_the_mean_over_places(finished, tmp_path):
    hasher = load_hasher(finished[0])
    module = tf.saved_model.load(str(export_module(hasher, tmp_path / "module", unit="image")))
    generator = np.random.default_rng(0)
    pictures = [
        generator.integers(0, 255, (*sides, 3), np.uint8) for sides in ((90, 120), (60, 40))
    ]
    encoded = tf.constant([cv2.imencode(".png", picture)[1].tobytes() for picture in pictures])
    weights, offsets = hasher.folded_projection()
    scores = module.serve_bytes(encoded).numpy() @ weights + offsets
    assert np.abs(scores).min() > 1e-4
    np.testing.assert_array_equal(unpack_bits(module.encode_bytes(encoded).numpy()), scores > 0)
    with pytest.raises(ValueError, match="`unit`"):
        export_module(hasher, tmp_path / "other", unit="photo")


def test_module_says_what_its_codes_are(finished):
    described = read_module(finished[0] / "module")
    assert described["attributes"] == {
        "num_attributes": 8,
        "code_order": "numpy.packbits",
        "unit": "patch",
        "normalize": True,
    }
    summary = finished[1]
    assert described["config"] == Run.read(finished[0]).config
    assert described["trained_on"] == {"num_samples": 96, "num_clusters": NUM_CONCEPTS}
    assert described["metrics"]["step"] == summary["steps"]
    assert described["metrics"]["bit_entropy"] == summary["bits"]["entropy"]
    module = tf.saved_model.load(str(finished[0] / "module"))
    lengths = np.linalg.norm(module(tf.random.uniform((3, 32, 32, 3))), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)


def test_same_call_again_does_nothing_and_another_is_refused(finished, patches, labels, backbone):
    folder, summary = finished
    again = learn_attributes(patches.pixels, labels, folder, TINY, backbone=backbone, seed=2)
    assert again == summary
    with pytest.raises(RunError):
        learn_attributes(patches.pixels, labels, folder, TINY, backbone=backbone, seed=3)


class Stop(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations >= 7:
            raise KeyboardInterrupt


def test_interrupted_training_goes_on_to_the_same_weights(
    finished, patches, labels, backbone, tmp_path
):
    arguments = (patches.pixels, labels, tmp_path / "run", TINY)
    with pytest.raises(KeyboardInterrupt):
        learn_attributes(*arguments, backbone=backbone, seed=2, callbacks=[Stop()])
    with pytest.raises(RunError, match="not finished"):
        load_hasher(tmp_path / "run")
    learn_attributes(*arguments, backbone=backbone, seed=2)
    for found, expected in zip(weights_of(tmp_path / "run"), weights_of(finished[0]), strict=True):
        np.testing.assert_array_equal(found, expected)
    rows = Run.read(tmp_path / "run").metrics.rows()
    assert len({row["step"] for row in rows}) == len(rows)


def test_backbone_that_was_given_stays_as_it_was(finished, backbone):
    untouched = keras.utils.set_random_seed(0) or small(width=8, num_features=16)
    for found, expected in zip(backbone.get_weights(), untouched.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    changed = load_hasher(finished[0]).backbone.get_weights()
    assert any(
        not np.array_equal(a, b) for a, b in zip(changed, backbone.get_weights(), strict=True)
    )


def test_features_alone_make_attributes_without_a_module(labels, tmp_path):
    generator = np.random.default_rng(0)
    centres = 3 * generator.standard_normal((NUM_CONCEPTS, 12))
    vectors = np.repeat(centres, 16, axis=0) + generator.standard_normal((96, 12))
    summary = learn_attributes(vectors.astype(np.float32), labels, tmp_path / "run", TINY)
    assert summary["bits"]["dead"] == 0
    assert not (tmp_path / "run/module").exists()
    assert load_hasher(tmp_path / "run").backbone is None


def test_labels_must_fit_the_samples(patches, labels, tmp_path):
    with pytest.raises(ValueError, match=r"a label for every sample. Received: 96 samples"):
        learn_attributes(patches.pixels, labels[:5], tmp_path / "run", TINY)
    with pytest.raises(ValueError, match="at least 2 clusters"):
        learn_attributes(patches.pixels, np.zeros(96), tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"passes": 0},
        {"learning_rate": 0.0},
        {"contrast_size": 2},
        {"contrast_size": 5},
        {"alpha": float("nan")},
        {"final_slope": 0.0},
    ],
)
def test_impossible_recipes_are_refused_in_a_line(change):
    with pytest.raises(ValueError, match="Received: ") as caught:
        AttributeRecipe(**change)
    assert "\n" not in str(caught.value)


def test_guard_stops_when_bits_die():
    guard = BitGuard(16)
    guard.on_epoch_end(0, {"variance": 0.9, "dead_bits": 3.0})
    with pytest.raises(TrainingCollapsed, match="9 of 16 bits are dead"):
        guard.on_epoch_end(1, {"variance": 0.9, "dead_bits": 9.0})
    with pytest.raises(TrainingCollapsed, match="variance"):
        guard.on_epoch_end(1, {"variance": 1e-5, "dead_bits": 0.0})


def test_slope_grows_by_the_same_factor_every_step(patches, labels, tmp_path):
    recipe = dataclasses.replace(TINY, slope=0.5, final_slope=8.0)
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((96, 12)).astype(np.float32)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(self.model.slope))

    learn_attributes(vectors, labels, tmp_path / "run", recipe, callbacks=[Watch()])
    factors = [later / earlier for earlier, later in itertools.pairwise(seen)]
    np.testing.assert_allclose(factors, 16 ** (1 / len(seen)), rtol=1e-4)
    assert seen[0] == pytest.approx(0.5)
    assert SlopeSchedule(1.0, 4.0, 10).factor == 4


def test_statistics_of_bits_by_hand():
    """Four samples: a balanced bit, its repetition, a dead one, and five independent of them."""
    bits = np.zeros((4, 8), bool)
    bits[:, 0] = bits[:, 1] = [0, 0, 1, 1]
    bits[:, 3] = [0, 1, 0, 1]
    found = bit_statistics(np.packbits(bits, axis=1))
    assert found["shares"][:4] == [0.5, 0.5, 0.0, 0.5]
    assert found["dead"] == 5 and found["duplicate"] == 1 and found["distinct"] == 4
    assert found["entropy"] == pytest.approx(3 / 8, abs=1e-6)
    assert found["max_correlation"] == pytest.approx(1.0)
    assert found["correlation"] == pytest.approx(1 / 28)


def test_clusters_or_neighbours_are_needed(patches, labels, tmp_path):
    near = np.zeros((len(labels), 1), int)
    for known, neighbours, word in ((None, None, "neither"), (labels, near, "both")):
        with pytest.raises(ValueError, match=f"`labels` or `neighbours`. Received: {word}"):
            learn_attributes(patches.pixels, known, tmp_path / "run", neighbours=neighbours)
    assert not (tmp_path / "run").exists()
