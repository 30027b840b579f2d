"""The whole way: a thing planted in photographs is what is found first."""

import json

import cv2
import numpy as np
import pytest

from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.tasks.mining import (
    MiningSettings,
    describe_by_gradients,
    mine_photographs,
    run,
    write_atlas,
)
from keras_ctxattr.tasks.mining.baselines import centre_sets, describe_keypoints, random_sets
from tests.tasks.mining.making import HEIGHT, THING, WIDTH, plant_things

SETTINGS = MiningSettings(num_constellations=400, depth=6, num_pixels=HEIGHT * WIDTH)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Gives (photographs, places of the thing in the first of them, folder for features)."""
    folder = tmp_path_factory.mktemp("planted")
    places = plant_things(folder / "photos")
    return scan_images([folder / "photos"]).usable(), places, folder / "features"


@pytest.mark.parametrize("search", ["exact", "quantised"])
def test_a_planted_thing_is_found_where_it_lies(planted, search, tmp_path):
    manifest, places, folder = planted
    settings = MiningSettings(**{**vars(SETTINGS), "search": search})
    steps = []

    def report(name):
        steps.append(name)
        return lambda done, total: None

    mined = mine_photographs(manifest, describe_by_gradients(), folder, settings, report=report)
    assert mined.search == search
    assert "patches described" in steps and len(steps) == (2 if search == "exact" else 3)
    objects = write_atlas(mined, tmp_path / "out", "Things")
    first = objects[0]
    assert first["verified"] >= 4
    rows = [one["row"] for one in first["photographs"]]
    # Quantised vectors let one in that has no thing.
    assert len(set(rows) - set(range(len(places)))) <= (search == "quantised")
    for one in first["photographs"]:
        if one["row"] >= len(places):
            continue
        left, top = places[one["row"]]
        corners = np.array(one["boxes"])
        low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
        shared = np.minimum(high, [left + THING, top + THING]) - np.maximum(low, [left, top])
        assert (shared > 0.5 * THING).all()
    written = json.loads((tmp_path / "out/objects.json").read_text())
    assert written == {"depth": 6, "objects": objects}
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<article") == len(objects)
    assert "verified of 6" in page and "cluster" not in page.split("</style>")[1].lower()
    assert cv2.imread(str(tmp_path / "out/objects.png")) is not None


def test_more_work_than_that_is_quantised(planted, monkeypatch):
    manifest, _, folder = planted
    monkeypatch.setattr(run, "MAX_COMPARED", 10)
    assert mine_photographs(manifest, describe_by_gradients(), folder, SETTINGS).search == (
        "quantised"
    )


def test_nothing_found_is_a_page_that_says_so(planted, tmp_path):
    manifest, _, folder = planted
    mined = mine_photographs(manifest, describe_by_gradients(), folder, SETTINGS)
    write_atlas(mined, tmp_path / "out", "Things")
    assert write_atlas(mined, tmp_path / "out", "Things", min_verified=7) == []
    assert "No objects were found" in (tmp_path / "out/index.html").read_text()
    assert not (tmp_path / "out/objects.png").exists()  # that of the call before


def test_thin_photographs_are_left_out(tmp_path):
    """One of 6 x 2400 pixels was enlarged to 192 x 76800."""
    plant_things(tmp_path / "photos", 3, 1)
    thin = np.random.default_rng(0).integers(0, 256, (6, 2400, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photos/thin.png"), thin)
    manifest = scan_images([tmp_path / "photos"]).usable()
    mined = mine_photographs(manifest, describe_by_gradients(), tmp_path / "features", SETTINGS)
    assert mined.num_thin == 1 and len(mined.features.manifest) == 3


def test_few_patches_are_searched_exactly(tmp_path):
    plant_things(tmp_path / "photos", 2, 1)
    manifest = scan_images([tmp_path / "photos"]).usable()
    settings = MiningSettings(**{**vars(SETTINGS), "search": "quantised", "num_pixels": 40_000})
    mined = mine_photographs(manifest, describe_by_gradients(), tmp_path / "features", settings)
    assert len(mined.features.vectors) < 256 and mined.search == "exact"


def test_sets_around_centres_find_the_planted_photographs(planted):
    manifest, places, folder = planted
    mined = mine_photographs(manifest, describe_by_gradients(), folder, SETTINGS)
    sets = centre_sets(mined.features.vectors_of, len(manifest), 40, len(places))
    assert all(len(set(one.tolist())) == len(places) for one in sets)
    assert set(sets[0].tolist()) == set(range(len(places)))
    keypoints = describe_keypoints(manifest)
    np.testing.assert_allclose(np.linalg.norm(keypoints[0], axis=1), 1, atol=1e-3)
    words = centre_sets(keypoints.__getitem__, len(manifest), 40, len(places))
    assert any(set(one.tolist()) == set(range(len(places))) for one in words)


def test_a_photograph_without_keypoints_is_in_sets_last(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 64, 3), 90, np.uint8))
    manifest = scan_images([tmp_path]).usable()
    (found,) = describe_keypoints(manifest)
    assert found.shape == (0, 128)
    vectors = [np.eye(2, dtype=np.float32), np.zeros((0, 2), np.float32)]
    (one,) = centre_sets(vectors.__getitem__, 2, 1, 2)
    assert one.tolist() == [0, 1]


def test_random_sets_have_different_images():
    sets = random_sets(20, 50, 5, seed=1)
    assert len(sets) == 50 and all(len(set(one.tolist())) == 5 for one in sets)
    assert len(np.unique(np.concatenate(sets))) == 20


def test_what_cannot_be_is_refused(planted):
    manifest, _, folder = planted
    with pytest.raises(ValueError, match=r"at least 2 photographs .* Received: 1 of 1"):
        mine_photographs(manifest.select(np.array([0])), describe_by_gradients(), folder)
    with pytest.raises(ValueError, match="`search` must be one of"):
        MiningSettings(search="fast")
    with pytest.raises(ValueError, match=r"`depth` must be at least 1\. Received: 0"):
        MiningSettings(depth=0)
    with pytest.raises(ValueError, match="`num_sets` must be 1 to 2, the vectors"):
        centre_sets(lambda image: np.eye(2, dtype=np.float32), 1, 3, 1)
