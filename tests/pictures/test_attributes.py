"""Pictures of attributes: what lies where."""

import numpy as np
import pytest

from keras_ctxattr.pictures import attribute_map, attribute_sheet

RED, BLUE = (np.full((20, 20, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))


def share_of(picture, colour):
    return (picture == np.array(colour)).all(axis=2).mean(axis=0)  # [column]


def test_set_images_are_left_of_the_others():
    sheet = attribute_sheet({"bit 0": ([RED] * 3, [BLUE] * 3), "bit 1": ([RED] * 3, [BLUE] * 3)})
    red, blue = share_of(sheet, (255, 0, 0)), share_of(sheet, (0, 0, 255))
    assert np.flatnonzero(red).max() < np.flatnonzero(blue).min()
    assert red.max() > 0.7


def test_images_lie_where_they_are_and_the_border_between_them():
    """Red at the left, blue at the right, and x = 5 is the border; set where x is larger."""
    positions = np.array([[0, 0], [0, 10], [10, 0], [10, 10]], float)
    picture = attribute_map([RED, RED, BLUE, BLUE], positions, {"bit 3": (2.0, 0.0, -10.0)})
    assert picture.shape == (1000, 1000, 3)
    red, blue = (np.flatnonzero(share_of(picture, c)) for c in ((255, 0, 0), (0, 0, 255)))
    assert red.max() < 80 and blue.min() > 920
    border = share_of(picture, (200, 40, 40))
    middle = (red.min() + blue.max()) / 2
    assert abs(np.flatnonzero(border > 0.5).mean() - middle) < 4
    letters = np.flatnonzero((picture[..., 0] < 255) & (picture[..., 0] > picture[..., 1] + 50))
    columns = letters % 1000
    columns = columns[(columns > 80) & (columns < 920) & (np.abs(columns - middle) > 5)]
    assert len(columns) > 0 and columns.min() > middle  # the name is on the side that is set


def test_an_image_that_would_cover_another_is_left_out():
    positions = np.array([[0, 0], [0.1, 0], [10, 10]], float)
    picture = attribute_map([RED, BLUE, RED], positions, {})
    assert not share_of(picture, (0, 0, 255)).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attribute_sheet({}), "no attribute"),
        (lambda: attribute_sheet({"a": ([RED], [])} | {"b": ([RED], [BLUE])}), "as many images"),
        (lambda: attribute_map([RED], np.zeros((2, 2)), {}), "positions"),
        (lambda: attribute_map([RED], np.array([[0, np.nan]]), {}), "finite"),
        (
            lambda: attribute_map([RED], np.zeros((1, 2)), {str(n): (1, 0, 0) for n in range(5)}),
            "At most 4 borders",
        ),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
