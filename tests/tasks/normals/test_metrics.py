"""Measures of normals: by hand and laws."""

import numpy as np
import pytest

from keras_ctxattr.tasks.normals.metrics import angular_errors, summarize_errors


def test_angles_by_hand():
    one = np.array([[0, 0, 1], [0, 0, 2], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    other = np.array([[0, 0, 3], [0, 1, 1], [0, 5, 0], [0, 0, -1], [0, 0, 1]])
    np.testing.assert_allclose(angular_errors(one, other), [0, 45, 90, 180, np.nan], atol=1e-12)


@pytest.mark.parametrize("angle", [1e-6, 0.1, 11.25, 179.9])
def test_small_and_large_angles_are_exact(angle):
    turned = [np.sin(np.radians(angle)), 0, np.cos(np.radians(angle))]
    assert angular_errors(turned, [0, 0, 1]) == pytest.approx(angle, rel=1e-9)


def test_measures_by_hand():
    found = summarize_errors(np.array([[0.0, 11.25], [22.0, 29.0], [40.0, 100.0]]))
    assert found["mean"] == pytest.approx(202.25 / 6)
    assert found["median"] == pytest.approx(25.5)
    assert found["within_11.25"] == pytest.approx(1 / 6)  # less than, not at
    assert found["within_22.5"] == pytest.approx(3 / 6)
    assert found["within_30"] == pytest.approx(4 / 6)


def test_what_has_no_error_is_told():
    with pytest.raises(ValueError, match="1 of them not finite"):
        summarize_errors([1.0, np.nan])
    with pytest.raises(ValueError, match="at least one pixel"):
        summarize_errors([])
