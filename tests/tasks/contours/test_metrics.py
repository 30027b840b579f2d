"""ODS, OIS, AP by hand, and what happens where nothing is marked or drawn."""

import numpy as np
import pytest

from keras_ctxattr.tasks.contours.metrics import (
    ContourCounts,
    add_counts,
    area_under_curve,
    best_point,
    even_thresholds,
    f_measure,
    summarize_contours,
)


def make_counts(found, drawn, right, marked):
    columns = {"found": found, "drawn": drawn, "right": right, "marked": marked}
    return ContourCounts(
        thresholds=even_thresholds(len(found)),
        **{name: np.array(values) for name, values in columns.items()},
    )


ONE = make_counts([8, 4], [10, 10], [5, 3], [10, 3])  # recall .8, .4; precision .5, 1
TWO = make_counts([20, 15], [20, 20], [4, 8], [16, 10])  # recall 1, .75; precision .25, .8


def test_thresholds_lie_evenly_inside():
    np.testing.assert_allclose(even_thresholds(3), [0.25, 0.5, 0.75])
    assert len(even_thresholds()) == 99


def test_shares_and_f_by_hand():
    assert ONE.recall.tolist() == [0.8, 0.4]
    assert ONE.precision.tolist() == [0.5, 1.0]
    assert f_measure(np.array([0.5, 0.0]), np.array([0.5, 0.0])).tolist() == [0.5, 0.0]
    nothing = make_counts([0], [0], [0], [0])
    assert (nothing.recall[0], nothing.precision[0]) == (0, 0)


def test_one_threshold_for_all_and_one_each():
    summary = summarize_contours([ONE, TWO])
    total = add_counts([ONE, TWO])
    assert total.recall.tolist() == pytest.approx([28 / 30, 19 / 30])
    assert total.precision.tolist() == pytest.approx([9 / 26, 11 / 13])
    assert summary["ods"]["f"] >= f_measure(total.precision, total.recall).max()
    # Each at its best threshold: the first, F .615, of the one and the second of the other.
    ois = summary["ois"]
    assert ois["recall"] == pytest.approx((8 + 15) / 30)
    assert ois["precision"] == pytest.approx((5 + 8) / (10 + 10))
    assert summary["curve"]["f"] == pytest.approx(f_measure(total.precision, total.recall).tolist())


def test_the_best_is_looked_for_between_thresholds():
    # Precision and recall cross in the middle: (.5, .5) there, F .375 at both ends.
    best = best_point(np.array([0.2, 0.4]), np.array([0.75, 0.25]), np.array([0.25, 0.75]))
    assert best["f"] == pytest.approx(0.5, abs=1e-3)
    assert best["threshold"] == pytest.approx(0.3, abs=2e-3)
    flat = best_point(np.array([0.2, 0.4]), np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    assert flat["threshold"] == 0.2


def test_area_by_hand():
    # Recall .5 down to .2, precision .4 up to 1: thirty-one samples on a line, none beyond.
    area = area_under_curve(np.array([0.5, 0.2]), np.array([0.4, 1.0]))
    assert area == pytest.approx(31 * 0.7 / 100)
    assert area_under_curve(np.array([0.5, 0.5]), np.array([0.4, 1.0])) == 0
    perfect = area_under_curve(np.array([1.0, 0.0]), np.array([1.0, 1.0]))
    assert perfect == pytest.approx(1.01)


def test_of_equal_recalls_the_lowest_threshold_counts():
    recall, precision = np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.9, 0.2])
    assert area_under_curve(recall, precision) == pytest.approx(51 * 0.2 / 100)


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="at least one image"):
        summarize_contours([])
    with pytest.raises(ValueError, match="same thresholds"):
        summarize_contours([ONE, make_counts([1], [1], [1], [1])])
