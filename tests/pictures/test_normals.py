"""Pictures of normals: known colours for known directions, grey for none."""

import cv2
import numpy as np
import pytest

from keras_ctxattr.pictures import errors_picture, normals_legend, normals_picture, normals_sheet

DIRECTIONS = {
    "right": ((1, 0, 0), (255, 128, 128)),
    "left": ((-1, 0, 0), (0, 128, 128)),
    "up": ((0, -1, 0), (128, 255, 128)),
    "down": ((0, 1, 0), (128, 0, 128)),
    "to the viewer": ((0, 0, -1), (128, 128, 255)),
    "away": ((0, 0, 1), (128, 128, 0)),
    "none": ((0, 0, 0), (128, 128, 128)),
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_direction_has_its_colour(name):
    normal, colour = DIRECTIONS[name]
    picture = normals_picture(np.full((2, 3, 3), normal, np.float32))
    assert picture.dtype == np.uint8
    assert (picture == np.array(colour, np.uint8)).all()


def test_what_is_no_map_of_normals_is_refused():
    with pytest.raises(ValueError, match=r"`normals` must be.*Received: \[4, 5\]"):
        normals_picture(np.zeros((4, 5)))


def test_errors_grow_brighter_to_the_largest_and_no_further():
    errors = np.array([[0, 20, 40, 60, 180, np.nan]])
    picture = errors_picture(errors, largest=60)
    brightness = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[0].astype(int)
    assert (np.diff(brightness[:4]) > 20).all()
    np.testing.assert_array_equal(picture[0, 3], picture[0, 4])
    np.testing.assert_array_equal(picture[0, 5], 128)
    red, _, blue = picture[0, 3].astype(int)
    assert red > blue + 100  # yellow, not cyan: RGB


def test_a_sheet_shows_the_four_in_their_order():
    photograph = np.full((40, 40, 3), (10, 200, 30), np.uint8)
    normals = np.zeros((40, 40, 3))
    normals[..., 0] = 1
    errors = np.full((40, 40), 90.0)
    sheet = normals_sheet([(photograph, normals, -normals, errors)] * 2, tile_size=160)
    row = sheet[sheet.shape[0] // 2 - 60]
    middles = [tuple(int(one) for one in row[84 + 178 * column]) for column in range(4)]
    assert middles[0] == (10, 200, 30)
    assert middles[1] == (255, 128, 128) and middles[2] == (0, 128, 128)
    assert middles[3] == tuple(errors_picture(errors)[0, 0])


@pytest.mark.parametrize("width", [480, 900])
def test_the_legend_shows_a_ball_and_the_scale_of_errors(width):
    legend = normals_legend(width)
    assert legend.shape[1] == width
    ball = legend[10:-10, 10 : len(legend) - 10].astype(int)
    side = len(ball)
    middle = ball[side // 2, side // 2]
    assert middle[2] > 250 and abs(middle[:2] - 128).max() < 5
    assert ball[side // 2, -3, 0] > 220 and ball[side // 2, 2, 0] < 35  # right red, left not
    assert ball[2, side // 2, 1] > 220 and ball[-3, side // 2, 1] < 35  # up green, down not
    assert (ball[0, 0] == 255).all()
    first, last = errors_picture(np.array([[0.0, 60.0]]))[0]
    colours = {tuple(colour) for colour in legend.reshape(-1, 3)}
    assert tuple(first) in colours and tuple(last) in colours
