"""Networks compared: figures against plain restatements, and every way to name a network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from keras_ctxattr.backbones import small
from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.labels import read_labels
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.export import export_module
from keras_ctxattr.export.attributes import middle_patch
from keras_ctxattr.tasks.comparison import Network, Protocol, compare_networks, open_networks
from keras_ctxattr.tasks.comparison.metrics import (
    class_mean_accuracy,
    few_shot_accuracies,
    nearest_class_mean,
    nearest_others,
    shared_neighbours,
    vote,
)
from keras_ctxattr.tasks.comparison.protocol import comparison_sheet, describe_images
from tests.clustering.concepts import write_concepts


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_concepts(tmp_path_factory.mktemp("collections") / "photos", num_images=24)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    keras.utils.set_random_seed(0)
    backbone = small(width=8, num_features=16)
    return export_module(backbone, tmp_path_factory.mktemp("made") / "module", normalize=True)


def samples(count=60, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    vectors = generator.normal(size=(count, 5)) + 1.5 * np.eye(5)[labels]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32), labels


# --- Figures ---


def test_votes_are_those_of_scikit_learn():
    vectors, labels = samples()
    rows, cosines = nearest_others(vectors, 5)
    predicted = vote(rows, cosines, labels)
    for query in range(len(vectors)):
        others = np.arange(len(vectors)) != query
        fitted = KNeighborsClassifier(5).fit(vectors[others], labels[others])
        votes = np.sort(fitted.predict_proba(vectors[query : query + 1])[0])
        if votes[-1] > votes[-2]:  # scikit-learn decides ties otherwise
            assert predicted[query] == fitted.predict(vectors[query : query + 1])[0]


def test_of_as_many_votes_the_nearer_win_and_one_vote_more_wins_always():
    labels = np.array([0, 0, 1, 1, 1])
    rows = np.array([[0, 1, 2, 3], [0, 2, 3, 4]])
    cosines = np.array([[0.5, 0.5, 0.9, 0.9], [1.0, -1.0, -1.0, -1.0]])
    assert vote(rows, cosines, labels).tolist() == [1, 1]
    assert vote(rows[:1], -cosines[:1], labels).tolist() == [0]


def test_class_means_are_those_of_scikit_learn():
    vectors, labels = samples()
    fitted = NearestCentroid().fit(vectors[:20], labels[:20])
    found = nearest_class_mean(vectors[20:], vectors[:20], labels[:20])
    np.testing.assert_array_equal(found, fitted.predict(vectors[20:]))


def test_every_class_weighs_the_same():
    labels = np.array([0] * 8 + [1] * 2)
    mean, error = class_mean_accuracy(np.zeros(10, int), labels)
    assert (mean, error) == (0.5, 0.0)
    mean, error = class_mean_accuracy(np.array([0] * 9 + [1]), labels)
    assert mean == 0.75 and error == pytest.approx(np.sqrt(0.25 / 2) / 2)


def test_examples_are_not_tested_and_draws_are_the_same_for_every_network():
    vectors, labels = samples()
    seen = []
    for values in (vectors, np.eye(60, dtype=np.float32)):
        found = few_shot_accuracies(values, labels, 1, 5, seed=3)
        np.testing.assert_array_equal(found, few_shot_accuracies(values, labels, 1, 5, seed=3))
        seen.append(found)
    assert seen[0].mean() > 0.5 and seen[0].std() > 0
    # Each image is only like itself: all that is not drawn falls to one class.
    assert seen[1].max() == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="more samples"):
        few_shot_accuracies(vectors, labels, 20, 2, seed=0)


def test_shared_neighbours_are_a_share():
    assert shared_neighbours(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [5, 4]])) == 0.75


# --- Networks ---


def test_module_describes_files_as_it_serves_them(photographs, module):
    manifest = scan_images([str(photographs)])
    (network,) = open_networks([str(module)])
    found = describe_images(network, manifest)
    files = [(photographs / key).read_bytes() for key in manifest.keys]
    loaded = tf.saved_model.load(str(module))
    served = loaded.serve_bytes(tf.constant(files)).numpy()
    expected = served / np.linalg.norm(served, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_untrained_has_the_shapes_of_the_module_and_weights_of_the_seed(module, photographs):
    encoded = tf.constant(next(photographs.rglob("*.png")).read_bytes())
    given = [str(module), "untrained"]
    first, again = (open_networks(given, seed=1)[1].describe(encoded) for _ in range(2))
    other = open_networks(given, seed=2)[1].describe(encoded)
    learnt = open_networks(given)[0].describe(encoded)
    np.testing.assert_array_equal(first, again)
    assert first.shape == learnt.shape
    for one in (other, learnt):
        assert np.abs(first - one).max() > 1e-3
    (named,) = open_networks(["untrained:small"], seed=1)
    assert named.name == "untrained small" and named.describe(encoded).shape == (512,)


def test_a_keras_file_sees_the_middle_square_in_0_to_255(photographs, tmp_path):
    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(tmp_path / "mean.keras")
    encoded = tf.constant(next(photographs.rglob("*.png")).read_bytes())
    (network,) = open_networks([str(tmp_path / "mean.keras")])
    expected = tf.reduce_mean(middle_patch(decode_image(encoded), 16), [0, 1])
    np.testing.assert_allclose(network.describe(encoded), expected, rtol=1e-5)
    assert network.name == "mean" and "16 pixels" in network.about


class Plain(tf.Module):
    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(3.0)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="pixels")])
    def serve(self, pixels):
        return {"map": self.scale * tf.nn.avg_pool2d(pixels, 2, 2, "VALID")}


def test_a_saved_model_of_others_gets_0_to_1_and_its_map_is_averaged(photographs, tmp_path):
    plain = Plain()
    tf.saved_model.save(plain, str(tmp_path / "plain"), signatures=plain.serve)
    encoded = tf.constant(next(photographs.rglob("*.png")).read_bytes())
    (network,) = open_networks([str(tmp_path / "plain")])
    expected = 3 * tf.reduce_mean(middle_patch(decode_image(encoded), 224), [0, 1]) / 255
    np.testing.assert_allclose(network.describe(encoded), expected, rtol=1e-4)


@pytest.mark.slow
def test_a_network_of_keras_without_its_weights(photographs):
    encoded = tf.constant(next(photographs.rglob("*.png")).read_bytes())
    (network,) = open_networks(["keras:MobileNetV3Small:random"])
    assert network.describe(encoded).shape == (576,)
    assert network.name == "MobileNetV3Small random"


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://...: \n no route")  # as Keras raises it

    fail.__module__ = keras.applications.MobileNetV3Small.__module__
    monkeypatch.setattr(keras.applications, "MobileNetV3Small", fail)
    with pytest.raises(ValueError, match=r"must be downloaded, which failed.*:random") as caught:
        open_networks(["keras:MobileNetV3Small"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "mention"),
    [
        ("nowhere", "must be a module"),
        ("untrained", "must come with a module"),
        ("untrained:lenet", "must be one of alexnet"),
        ("keras:NoSuchNet", "keras.applications"),
        ("keras:ResNet50:imagenet", "may end in"),
    ],
)
def test_what_is_no_network_is_told(given, mention):
    with pytest.raises(ValueError, match=mention):
        open_networks([given])


def test_a_damaged_keras_file_and_a_wrong_signature_are_told(tmp_path):
    (tmp_path / "bad.keras").write_bytes(b"words")
    with pytest.raises(ValueError, match="that Keras can load"):
        open_networks([str(tmp_path / "bad.keras")])
    empty = tf.Module()
    tf.saved_model.save(empty, str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="serving_default"):
        open_networks([str(tmp_path / "empty")])


def test_networks_of_one_name_are_told_apart(module, tmp_path):
    import shutil

    other = shutil.copytree(module, tmp_path / "module")
    names = [network.name for network in open_networks([str(module), str(other)])]
    assert names == [str(module), str(other)]


# --- The comparison ---


def oracle(name, values):
    """Gives a network that describes files by a table of vectors."""
    return Network(
        name=name,
        about="a table",
        describe=lambda encoded: values[bytes(encoded.numpy())],
    )


def test_a_network_that_knows_the_classes_has_all_right(photographs):
    manifest = scan_images([str(photographs)])
    labels = read_labels("folders", list(manifest.keys))[0]
    files = [(photographs / key).read_bytes() for key in manifest.keys]
    generator = np.random.default_rng(0)
    knows = {file: np.eye(6)[label] for file, label in zip(files, labels, strict=True)}
    guesses = {file: generator.normal(size=6) for file in files}
    networks = [oracle("knows", knows), oracle("guesses", guesses)]
    protocol = Protocol(num_neighbours=3, shots=(1, 2), num_draws=4, seed=5)
    told = []
    results, neighbours = compare_networks(
        manifest, networks, labels, protocol, progress=lambda *counts: told.append(counts)
    )
    figures = results["networks"]
    assert figures["knows"]["knn_accuracy"] == {"mean": 1.0, "standard_error": 0.0}
    assert figures["knows"]["accuracy_of_1_shot"]["mean"] == 1.0
    assert figures["guesses"]["knn_accuracy"]["mean"] < 0.7
    assert len(figures["guesses"]["accuracy_of_2_shot"]["draws"]) == 4
    assert results["chance"] == pytest.approx(1 / 6) and results["seed"] == 5
    assert "3 nearest" in results["protocol"] and "4 draws" in results["protocol"]
    assert told[-1] == (48, 48) and len(told) == 48
    assert (labels[neighbours["knows"]] == labels[:, None]).all()
    sheet = comparison_sheet(manifest, neighbours, num_queries=4, num_shown=3)
    assert 4 * 96 < sheet.shape[0] < 5 * 96 and sheet.shape[1] > 7 * 96


def test_images_without_a_class_are_neighbours_but_not_scored(photographs):
    manifest = scan_images([str(photographs)])
    files = [(photographs / key).read_bytes() for key in manifest.keys]
    values = {file: np.eye(24)[number] + 1 for number, file in enumerate(files)}
    labels = read_labels("folders", list(manifest.keys))[0]
    labels[labels == 0] = -1
    protocol = Protocol(num_neighbours=3, shots=(1,))
    results, neighbours = compare_networks(manifest, [oracle("one", values)], labels, protocol)
    assert (results["num_images"], results["num_scored"], results["num_classes"]) == (24, 20, 5)
    assert neighbours["one"].shape == (24, 3)
    with pytest.raises(ValueError, match="more than 9 photographs"):
        compare_networks(manifest, [oracle("one", values)], labels, Protocol(shots=(9,)))
