"""Constellations that are verified, ranked, and found once."""

import numpy as np
import pytest

from keras_ctxattr.tasks.mining.matching import NO_PATCH, Matches
from keras_ctxattr.tasks.mining.objects import (
    Constellations,
    constellation_patches,
    drop_duplicates,
    sample_constellations,
    verified_by_chance,
    verify_matches,
)
from tests.tasks.mining.making import random_features

SQUARE = [0, 2, 10, 12]  # upper left, upper right, lower left, lower right of 3 x 5 patches
NEXT = [1, 3, 11, 13]
FAR = [2, 4, 12, 14]
LINE = [0, 1, 2, 3]


def make_matches(*rows):
    """Gives matches from (photograph, its four patches), for each constellation a list."""
    depth = max(map(len, rows))
    found = Matches.none(len(rows), depth)
    for number, row in enumerate(rows):
        for place, (image, patches) in enumerate(row):
            found.images[number, place] = image
            found.patches[number, place] = np.array(patches) + 15 * image
            found.similarities[number, place] = 4.0 - place / 10
    return found


def make_constellations(seeds, *rows):
    features = random_features()
    matches = make_matches(*rows)
    return features, Constellations(
        images=np.array([image for image, _ in seeds]),
        patches=np.array([np.array(patches) + 15 * image for image, patches in seeds]),
        matches=matches,
        verified=verify_matches(features, matches),
    )


def test_squares_are_verified_and_lines_and_shuffled_ones_are_not():
    matches = make_matches([(1, SQUARE), (2, LINE), (3, SQUARE[::-1]), (4, NEXT)])
    assert verify_matches(random_features(), matches).tolist() == [[True, False, False, True]]


def test_photographs_with_an_unknown_patch_are_not_verified():
    matches = make_matches([(1, SQUARE), (2, SQUARE)])
    matches.patches[0, 1, 2] = NO_PATCH
    assert verify_matches(random_features(), matches).tolist() == [[True, False]]


def test_more_verified_matches_rank_higher_then_closer_ones():
    _, found = make_constellations(
        [(0, SQUARE)] * 3,
        [(1, SQUARE), (2, LINE), (3, LINE)],
        [(1, LINE), (2, SQUARE), (3, SQUARE)],
        [(1, SQUARE), (2, SQUARE), (3, LINE)],
    )
    assert found.counts.tolist() == [1, 2, 2]
    assert found.ranked().tolist() == [2, 1, 0]
    assert found.verified_images(1).tolist() == [2, 3]
    assert found.verified_images(1, 1).tolist() == [2]


def test_an_object_found_twice_is_kept_once():
    features, found = make_constellations(
        [(0, SQUARE), (1, SQUARE), (0, FAR), (4, SQUARE)],
        [(1, SQUARE), (2, SQUARE), (3, SQUARE)],
        [(0, SQUARE), (2, SQUARE), (3, LINE)],  # all of it is in the first
        [(1, FAR), (2, FAR), (3, LINE)],  # the same photographs, another place
        [(5, SQUARE), (6, SQUARE), (3, SQUARE)],  # one region of four is in the first
    )
    assert drop_duplicates(features, found).tolist() == [0, 3, 2]
    assert drop_duplicates(features, found, limit=2).tolist() == [0, 3]
    assert drop_duplicates(features, found, min_verified=3).tolist() == [0, 3]


def test_patches_of_an_object_are_its_own_and_the_verified():
    features, found = make_constellations([(0, SQUARE)], [(1, LINE), (2, NEXT)])
    images, boxes = constellation_patches(features, found, 0)
    assert images.tolist() == [0, 2]
    assert boxes.shape == (2, 4, 4)
    np.testing.assert_allclose(boxes[0, 3], features.boxes_of(0)[12])


def test_constellations_are_drawn_once_and_in_order():
    features = random_features()
    images, patches = sample_constellations(features, 12, seed=1)
    assert len(patches) == 12 and (np.diff(images) >= 0).all()
    rows = patches - features.starts[images][:, None]
    assert {tuple(row) for row in rows.tolist()} <= {tuple(SQUARE), tuple(NEXT), tuple(FAR)}
    everything = sample_constellations(features, 1000)[1]
    assert len(everything) == 7 * 3 == len(np.unique(everything, axis=0))
    np.testing.assert_array_equal(sample_constellations(features, 12, seed=1)[1], patches)
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        sample_constellations(features, 0)


def test_patches_drawn_anywhere_have_the_layout_as_often_as_chance_has_it():
    features = random_features(2)
    matches = Matches.none(1, 4000)
    matches.images[:] = 1
    share = verified_by_chance(features, matches, seed=0).mean()
    boxes = features.boxes_of(0)
    generator = np.random.default_rng(1)
    drawn = Matches.none(1, 4000)
    drawn.images[:] = 1
    drawn.patches[:] = generator.integers(0, len(boxes), (1, 4000, 4)) + 15
    assert share == pytest.approx(verify_matches(features, drawn).mean(), abs=0.02)
    assert share > 0
