import json

import cv2
import numpy as np
import pytest

from evaluation import nearest_neighbours
from keras_ctxattr.context.evaluation import nearest_patches, sample_patches, shared_neighbours
from keras_ctxattr.context.training import load_predictor
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.export import export_module
from tests.evaluation.conftest import plain_features, write_photo


def config(out, **further):
    numbers = {"num_queries": 5, "num_patches": 24, "num_neighbours": 2, "num_rows": 3}
    return nearest_neighbours.Config(out=out, **{**numbers, **further})


def plain_search(predictor, sources):
    """Gives the cosines of all neighbours of all queries, and which are at the query's place."""
    sample = sample_patches(scan_images(sources).usable(), 24, seed=0)
    features = plain_features(predictor, sample.patches.astype("float64"))
    queries = np.random.default_rng(0).permutation(24)[:5]
    cosines, near = [], []
    for query in queries:
        best = {}  # of each other photograph, its patch that is most alike
        for patch in range(24):
            cosine = float(features[query] @ features[patch])
            image = sample.images[patch]
            if image != sample.images[query] and cosine > best.get(image, (-2, 0))[0]:
                best[image] = (cosine, patch)
        for cosine, patch in sorted(best.values(), reverse=True)[:2]:
            cosines.append(cosine)
            distance = np.abs(sample.positions[patch] - sample.positions[query])
            near.append(distance.max() < 0.1)
    return cosines, near


def test_run_is_compared_with_its_untrained_network(run_folder, predictor, sources, tmp_path):
    results = nearest_neighbours.main(config(tmp_path, run=run_folder, images=sources))
    assert set(results["methods"]) == {"this network", "untrained"}
    assert 0 <= results["same_place_chance"] <= 1
    assert set(results["shared_neighbours"]) == {"this network | untrained"}
    assert json.loads((tmp_path / "results.json").read_text())["num_queries"] == 5
    sheet = cv2.imread(str(tmp_path / "neighbours.png"))
    assert sheet.shape[1] > 5 * 72
    cosines, near = plain_search(predictor, sources)
    found = results["methods"]["this network"]
    assert found["mean_similarity"] == pytest.approx(np.mean(cosines), abs=1e-4)
    assert found["same_place"] == np.mean(near)
    assert results["methods"]["untrained"]["mean_similarity"] != found["mean_similarity"]


def test_one_photograph_has_no_neighbours(run_folder, tmp_path):
    # It was a success: similarity 0, and a picture of queries alone.
    write_photo(tmp_path / "photos" / "one.png", 0)
    with pytest.raises(ValueError, match=r"at least 2 that are large enough\. Received: 1"):
        nearest_neighbours.main(
            config(tmp_path / "out", run=run_folder, images=[str(tmp_path / "photos")])
        )
    assert not (tmp_path / "out").exists()


def test_a_module_finds_what_its_run_finds(run_folder, sources, tmp_path):
    module = export_module(load_predictor(run_folder), tmp_path / "module")
    both = config(tmp_path / "both", run=run_folder, module=[module], images=sources)
    results = nearest_neighbours.main(both)
    assert results["shared_neighbours"][f"this network | {module}"] == 1
    alone = nearest_neighbours.main(config(tmp_path / "one", module=[module], images=sources))
    assert alone["methods"][str(module)] == results["methods"][str(module)]


def test_patches_are_where_they_say(sources):
    sample = sample_patches(scan_images(sources), 40, seed=3)
    assert sample.patches.shape == (40, 96, 96, 3)
    assert sample.patches.dtype == np.uint8
    assert len(np.unique(sample.images)) == 32
    assert (sample.positions > 0).all()
    assert (sample.positions < 1).all()
    again = sample_patches(scan_images(sources), 40, seed=3)
    np.testing.assert_array_equal(sample.patches, again.patches)


def test_neighbours_by_hand():
    gallery = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], "float32")
    indices, cosines = nearest_patches(gallery[:1], gallery, 3)
    assert indices.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(cosines, [[1, 0.8, 0.6]])


def test_neighbours_come_from_other_images_and_one_from_each():
    gallery = np.array([[1, 0], [0.99, 0.1], [0.8, 0.6], [0.7, 0.7], [0, 1]], "float32")
    images = np.array([0, 0, 1, 1, 2])
    indices, _ = nearest_patches(
        gallery[:1], gallery, 3, query_images=images[:1], gallery_images=images
    )
    assert indices.tolist() == [[2, 4, -1]]


def test_shared_neighbours_by_hand():
    assert shared_neighbours(np.array([[1, 2], [3, 4]]), np.array([[2, 5], [3, 4]])) == 0.75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "--module"),
        ({"module": ["m"]}, "--images"),
        ({"module": ["m"], "images": ["i"], "num_queries": 25}, "--num-queries"),
        ({"run": "r", "num_queries": 1, "num_patches": 1}, "`--num-patches` must be at least 2"),
        ({"run": "r", "num_neighbours": 0}, "`--num-neighbours` must be at least 1"),
        ({"run": "r", "num_rows": -1}, "--num-rows"),
        ({"run": "r", "seed": 2**31}, "--seed"),
    ],
)
def test_bad_values_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **change)
