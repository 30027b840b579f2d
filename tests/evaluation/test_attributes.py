"""`python -m evaluation.attributes`: statistics and pictures of a run."""

import cv2
import numpy as np
import pytest

from evaluation import attributes
from evaluation.attributes import Config
from keras_ctxattr.attributes import AttributeRecipe, bit_statistics
from keras_ctxattr.attributes import learn_attributes as learn_attributes_of
from keras_ctxattr.clustering import alternate_clusters
from tests.clustering.concepts import TINY, write_concepts
from training import learn_attributes


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("attributes")
    alternate_clusters([write_concepts(root / "images")], root / "clusters", TINY, rounds=1, seed=3)
    config = learn_attributes.Config(
        clusters=root / "clusters", run=root / "run", round=1, bits=8, passes=3
    )
    learn_attributes.main(config)
    return root / "run"


def test_figures_are_those_of_the_codes_and_pictures_show_both_sides(run_folder, tmp_path):
    config = Config(run=run_folder, out=tmp_path / "out", num_images=3, map_images=60)
    results = attributes.main(config)
    expected = bit_statistics(np.load(run_folder / "codes.npy"))
    np.testing.assert_allclose(results["shares"], expected["shares"], atol=0.02)
    assert results["distinct"] >= 2
    sheet = cv2.imread(str(tmp_path / "out/attributes.png"))
    assert sheet.shape[0] > 8 * 64 and sheet.std() > 10
    assert cv2.imread(str(tmp_path / "out/map.png")).std() > 10
    assert all(0.5 <= share <= 1 for share in results["borders"].values())


def test_numbers_that_cannot_be_are_refused(run_folder, tmp_path):
    with pytest.raises(ValueError, match="--map-images"):
        Config(run=run_folder, out=tmp_path, map_images=3)


def test_a_run_of_other_samples_is_refused_in_a_line(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((40, 9)).astype(np.float32)
    recipe = AttributeRecipe(num_attributes=8, passes=1, batch_size=8)
    learn_attributes_of(vectors, np.arange(40) % 4, tmp_path / "run", recipe)
    with pytest.raises(ValueError, match="must know the clusters"):
        attributes.main(Config(run=tmp_path / "run", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
