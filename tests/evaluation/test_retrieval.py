"""`python -m evaluation.retrieval`: the protocol, and the whole table from images to files."""

import json
import shutil

import cv2
import numpy as np
import pytest
import tensorflow as tf

import training.learn_attributes
from evaluation import retrieval
from evaluation.retrieval import Config
from keras_ctxattr.attributes import (
    AttributeRecipe,
    hamming,
    learn_attributes,
    load_hasher,
    unpack_bits,
)
from keras_ctxattr.backbones import small
from keras_ctxattr.clustering import alternate_clusters, open_round
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.data.patches import cut_patches
from keras_ctxattr.export import export_module
from keras_ctxattr.tasks.retrieval.metrics import average_precision, count_ties, precision_at
from keras_ctxattr.tasks.retrieval.protocol import draw_queries, score_codes
from tests.clustering.concepts import TINY, write_concepts
from training.flags import parse_flags


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_concepts(tmp_path_factory.mktemp("gallery"), num_images=90)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return write_concepts(tmp_path_factory.mktemp("queries"), num_images=36, seed=1)


@pytest.fixture(scope="module")
def module(images, tmp_path_factory):
    root = tmp_path_factory.mktemp("attributes")
    patches = cut_patches(scan_images([images]), root / "patches", size=32)
    labels = np.repeat(np.arange(6), 15)
    recipe = AttributeRecipe(num_attributes=8, passes=2, batch_size=24)
    backbone = small(width=8, num_features=16)
    learn_attributes(patches.pixels, labels, root / "run", recipe, backbone=backbone)
    return root / "run/module"


@pytest.fixture(scope="module")
def scored(images, others, module, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "retrieval"
    config = Config(
        gallery=str(images),
        queries=str(others),
        module=[module],
        method="itq,lsh",
        bits=[8, 16],
        per_class=3,
        num_draws=2,
        protocol="concepts",
        out=out,
    )
    return out, retrieval.main(config)


# --- The protocol ---


def test_queries_are_as_many_of_every_class_and_of_the_candidates_alone():
    labels = np.array([0, 1, 0, 1, 2, 2, 0, 1, 2, 0, 1, 2])
    drawn = draw_queries(labels, 2, seed=0)
    assert labels[drawn].tolist() == [0, 0, 1, 1, 2, 2] and len(set(drawn)) == 6
    assert not np.array_equal(drawn, draw_queries(labels, 2, seed=1))
    assert draw_queries(labels, 2, seed=1, is_candidate=np.arange(12) < 6).max() < 6
    with pytest.raises(ValueError, match="5 images for queries and another to be found"):
        draw_queries(labels, 5, seed=0)


def test_figures_of_a_draw_are_those_of_the_metrics():
    generator = np.random.default_rng(0)
    codes, labels = generator.integers(0, 256, (60, 2), np.uint8), np.arange(60) % 3
    draws = [draw_queries(labels, 4, seed) for seed in range(3)]
    found = score_codes(codes, labels, draws, depth=10).figures
    means = []
    for queries in draws:
        rest = np.setdiff1d(np.arange(60), queries)
        relevant = labels[queries][:, None] == labels[rest]
        ties = count_ties(hamming(codes[queries], codes[rest]), relevant, 16)
        means.append((average_precision(*ties).mean(), precision_at(*ties, 10).mean()))
    np.testing.assert_allclose(found["map_at_all"]["mean"], np.mean(means, axis=0)[0])
    np.testing.assert_allclose(found["precision_at_10"]["std"], np.std(means, axis=0)[1])


def test_codes_of_the_classes_find_all_and_random_ones_their_share():
    labels = np.arange(200) % 4
    draws = [draw_queries(labels, 5, seed) for seed in range(3)]
    perfect = score_codes(labels[:, None].astype(np.uint8), labels, draws, depth=20)
    for name in ("map_at_all", "precision_at_20"):
        assert perfect.figures[name] == {"mean": 1.0, "std": 0.0}
    alike = score_codes(np.zeros((200, 1), np.uint8), labels, draws, depth=20)
    assert alike.figures["precision_at_20"]["mean"] == pytest.approx(0.25)


# --- The script ---


def test_table_has_every_method_at_every_number_of_bits(scored, module):
    _, results = scored
    assert list(results["rows"]) == [
        str(module),
        *(f"hog + {name}, {bits} bits" for bits in (8, 16) for name in ("itq", "lsh")),
    ]
    for row in results["rows"].values():
        assert 1 / 6 - 0.05 < row["map_at_all"]["mean"] <= 1  # chance is a sixth
        assert len(row["curve"]["precision"]) in (9, 17)
    assert results["map_at_all"] == results["rows"][str(module)]["map_at_all"]
    assert results["protocol_name"] == "concepts"


def test_files_are_codes_and_their_keys_in_order(scored, module, images, others, tmp_path):
    out, results = scored
    codes, keys = np.load(out / "codes.npy"), (out / "keys.txt").read_text().splitlines()
    assert codes.shape == (126, 1) and len(keys) == 126
    # Both folders' images are in the order of their keys; labels once were in that of the sources.
    is_query = np.array(["queries" in key for key in keys])
    assert is_query.sum() == 36
    table = cut_patches(scan_images([others]), tmp_path / "patches", size=32)
    loaded = tf.saved_model.load(str(module))
    scores = loaded.attributes(np.asarray(table.pixels[:], np.float32) / 255)
    np.testing.assert_array_equal(unpack_bits(codes[is_query]), np.asarray(scores) > 0)
    assert json.loads((out / "results.json").read_text()) == results
    assert cv2.imread(str(out / "neighbours.png")).std() > 10
    assert cv2.imread(str(out / "precision_recall.png")).std() > 10


def test_queries_of_the_gallery_and_jpeg_stand_in_the_protocols_name(images, tmp_path):
    for path in sorted(images.rglob("*.png")):
        copy = tmp_path / "jpeg" / path.parent.name / f"{path.stem}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(copy), cv2.imread(str(path)))
    config = Config(
        gallery=str(tmp_path / "jpeg"),
        method="lsh",
        bits=[8],
        per_class=5,
        num_draws=2,
        out=tmp_path / "out",
    )
    results = retrieval.main(config)
    assert results["protocol_name"] == "cifar10-p1-train60-jpeg"
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "`--module`, `--run` or `--method`"),
        ({"method": "itq,nosuch"}, "Received: nosuch"),
        ({"method": "lsh", "num_draws": 0}, "--num-draws"),
        ({"method": "lsh", "bits": [16, 12]}, "`--bits`.*Received: 16, 12"),
    ],
)
def test_impossible_commands_are_refused_before_any_work(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        Config(gallery="nosuch", out=tmp_path, **change)


def test_module_of_features_alone_is_refused(images, tmp_path):
    folder = export_module(small(width=8, num_features=16), tmp_path / "module")
    config = Config(gallery=str(images), module=[folder], per_class=3, out=tmp_path / "out")
    with pytest.raises(ValueError, match="must have attributes"):
        retrieval.main(config)
    assert not (tmp_path / "out").exists()


def test_modules_of_whole_images_encode_files(others, module, tmp_path):
    hasher = load_hasher(module.parent)
    folder = export_module(hasher, tmp_path / "module", unit="image")
    config = Config(
        gallery=str(others), module=[folder], per_class=2, num_draws=1, out=tmp_path / "out"
    )
    retrieval.main(config)
    path = sorted(others.rglob("*.png"))[0]
    loaded = tf.saved_model.load(str(folder))
    expected = loaded.encode_bytes(tf.constant([path.read_bytes()]))
    np.testing.assert_array_equal(np.load(tmp_path / "out/codes.npy")[:1], expected)


def test_an_image_in_both_sources_is_refused(images, tmp_path):
    config = Config(
        gallery=str(images), queries=str(images), method="lsh", per_class=3, out=tmp_path / "out"
    )
    with pytest.raises(ValueError, match="must not share an image"):
        retrieval.main(config)


def test_queries_are_of_their_source_and_classes_go_by_their_names(images, others, tmp_path):
    config = Config(
        gallery=str(images), queries=str(others), method="lsh", per_class=3, out=tmp_path
    )
    found = retrieval._read_images(config)
    folders = [key.rsplit("/", 2)[-2] for key in found.manifest.keys]
    assert [found.names[label] for label in found.labels] == folders
    from_queries = [str(others) in path for path in found.manifest.paths]
    np.testing.assert_array_equal(found.is_candidate, from_queries)


def test_codes_of_a_run_without_a_network_are_ranked_in_the_order_of_the_images(images, tmp_path):
    alternate_clusters([images], tmp_path / "clusters", TINY, rounds=0)
    flags = ["--clusters", str(tmp_path / "clusters"), "--run", str(tmp_path / "run")]
    main = training.learn_attributes.main
    main(parse_flags(training.learn_attributes.Config, [*flags, "--bits", "8", "--passes", "1"]))
    config = {"per_class": 2, "num_draws": 1, "run": [tmp_path / "run"]}
    retrieval.main(Config(gallery=str(images), out=tmp_path / "out", **config))
    patches = open_round(tmp_path / "clusters").patches
    names = [patches.keys[image] for image in patches.image_ids.tolist()]
    learnt = dict(zip(names, np.load(tmp_path / "run/codes.npy").tolist(), strict=True))
    keys = (tmp_path / "out/keys.txt").read_text().split()
    assert [learnt[key] for key in keys] == np.load(tmp_path / "out/codes.npy").tolist()
    with pytest.raises(ValueError, match="must have learnt from all images"):
        other = write_concepts(tmp_path / "other", num_images=96)
        retrieval.main(Config(gallery=str(other), out=tmp_path / "out2", **config))
