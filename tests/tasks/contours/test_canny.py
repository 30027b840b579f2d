"""The baseline: at each level it is OpenCV's own detector."""

import cv2
import numpy as np
import pytest

from keras_ctxattr.tasks.contours.canny import canny_map


@pytest.fixture
def photograph():
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_a_level_is_what_the_detector_marks_there_or_above(photograph, sigma):
    scores = canny_map(photograph, sigma=sigma, ratio=0.5, levels=10)
    grey = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), sigma)
    right = cv2.Sobel(smooth, cv2.CV_16S, 1, 0, borderType=cv2.BORDER_REPLICATE)
    down = cv2.Sobel(smooth, cv2.CV_16S, 0, 1, borderType=cv2.BORDER_REPLICATE)
    marked = np.zeros(scores.shape, bool)
    for level in range(10, 0, -1):
        high = 60 * level / sigma
        marked |= cv2.Canny(right, down, 0.5 * high, high, L2gradient=True) > 0
        np.testing.assert_array_equal(scores > (level - 0.5) / 10, marked)
    assert 0.01 < marked.mean() < 0.5


def test_a_plain_photograph_has_no_edges():
    assert not canny_map(np.full((40, 50, 3), 90, np.uint8)).any()


@pytest.mark.parametrize("settings", [{"sigma": 0}, {"ratio": 1.5}, {"levels": 0}])
def test_impossible_settings_are_refused(settings, photograph):
    with pytest.raises(ValueError, match="`sigma` must be over 0, `ratio` 0 to 1 and `levels`"):
        canny_map(photograph, **settings)
