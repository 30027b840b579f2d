"""The protocol of search in an index: right results are of the query's class, itself left out."""

import json

import numpy as np
import pytest

from evaluation.search import Config, main
from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.search import ImageIndex, index_photographs
from tests.clustering.concepts import write_concepts
from tests.search.learnt import learn_small_module


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    photographs = write_concepts(folder / "photos", num_images=60)
    module = learn_small_module(photographs, folder / "learnt")
    index_photographs([str(photographs)], folder / "index", module)
    return folder / "index"


def test_precision_is_that_of_all_pairs_by_hand(index, tmp_path):
    results = main(Config(index=index, out=tmp_path, count=5, num_queries=60, num_draws=2))
    opened = ImageIndex(index)
    vectors = opened.vectors()
    truth = np.repeat(np.arange(6), 10)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :5]
    expected = (truth[nearest] == truth[:, None]).mean()
    found = results["precision"]
    assert found["all_features"]["mean"] == pytest.approx(expected)
    # Fewer images than are ranked again: then it is the same.
    assert found["codes_then_features"]["mean"] == pytest.approx(expected, abs=0.01)
    assert 0.2 < found["codes"]["mean"] <= 1
    assert results["chance"] == pytest.approx(9 / 59)
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_what_cannot_be_scored_is_refused(index, tmp_path):
    with pytest.raises(CollectionError, match="Labels must be `folders` or a CSV"):
        main(Config(index=index, out=tmp_path / "out", labels=str(tmp_path / "no.csv")))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="`--count`"):
        Config(index=index, out=tmp_path, count=0)
