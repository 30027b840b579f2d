"""Contact sheets show every image where it belongs."""

import cv2
import numpy as np
import pytest

from keras_ctxattr.pictures import (
    contact_sheet,
    neighbours_sheet,
    patch_positions_picture,
    show_patches,
    write_png,
)
from keras_ctxattr.pictures.sheets import letterbox
from keras_ctxattr.pictures.text import text_box, text_size


def plain_image(colour, height=40, width=40):
    return np.full((height, width, 3), colour, np.uint8)


RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def test_tiles_lie_row_by_row_with_padding_between():
    rows = [[plain_image(RED), plain_image(GREEN)], [plain_image(BLUE)]]
    sheet = contact_sheet(rows, tile_size=40, padding=4)
    assert sheet.shape == (92, 92, 3) and sheet.dtype == np.uint8
    assert (sheet[4:44, 4:44] == RED).all()
    assert (sheet[4:44, 48:88] == GREEN).all()
    assert (sheet[48:88, 4:44] == BLUE).all()
    assert (sheet[48:88, 48:] == 255).all() and (sheet[:4] == 255).all()


def test_whole_image_is_shown_undistorted_and_centred():
    wide = plain_image(RED, 20, 80)
    box = letterbox(wide, 40)
    assert (box[15:25] == RED).all()
    assert (box[:15] == 235).all() and (box[25:] == 235).all()


def test_images_and_empty_places_are_left_as_they_came():
    image = plain_image(RED, 30, 50)
    before = image.copy()
    sheet = contact_sheet([[None, image]], tile_size=32, padding=0)
    assert (sheet[:, :32] == 255).all() and (image == before).all()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "at least one image"),
        ([[np.zeros((4, 4, 3), np.float32)]], {}, "uint8"),
        ([[np.zeros((4, 4), np.uint8)]], {}, "uint8"),
        ([[plain_image(RED)]], {"header": [("a", 2)]}, "span all 1 columns"),
        ([[plain_image(RED)]], {"row_titles": ["a", "b"]}, "1 titles"),
        ([[plain_image(RED)]], {"tile_size": 4}, "16 to 512"),
    ],
)
def test_wrong_input_is_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(rows, **options)


def test_neighbours_of_each_method_stand_in_its_own_group():
    queries = [plain_image(RED), plain_image(GREEN)]
    found = {"a": [[plain_image(BLUE)] * 2, [plain_image(RED)]], "b": [[queries[1]], [queries[0]]]}
    sheet = neighbours_sheet(queries, found, tile_size=40)
    tops = len(sheet) - 2 * 44  # first row of tiles
    middles = [24, 24 + 44 + 14, 24 + 88 + 14, 24 + 132 + 28]  # groups are set apart by 14
    first = [tuple(map(int, sheet[tops + 20, column])) for column in middles]
    second = [tuple(map(int, sheet[tops + 64, column])) for column in middles]
    assert first == [RED, BLUE, BLUE, GREEN]
    assert second == [GREEN, RED, (255, 255, 255), RED]
    assert (sheet[:tops] < 128).any(), "the names of the methods are written above"


def test_method_without_neighbours_for_a_query_is_refused():
    with pytest.raises(ValueError, match="all 2 queries"):
        neighbours_sheet([plain_image(RED)] * 2, {"a": [[plain_image(RED)]]})


def test_patches_are_painted_where_they_were_predicted():
    image, patch = plain_image((128, 128, 128), 200, 400), plain_image(GREEN)
    at = np.array([[0.25, 0.75]])
    picture = patch_positions_picture(image, [patch], np.array([[0.5, 0.5]]), at, height=200)
    top = len(picture) - 200
    right = picture[top:, 410:]
    assert (right[150 - 15 : 150 + 15, 100 - 15 : 100 + 15] == GREEN).all()
    assert (right[:120] == 225).all() and (right[:, 200:] == 225).all()
    left = picture[top:, :400]
    frame = np.argwhere((left != 128).any(axis=2))
    assert frame.mean(axis=0) == pytest.approx([100, 200], abs=1.5)


def test_position_outside_is_drawn_at_the_edge_and_wrong_counts_are_refused():
    image, patch = plain_image(RED, 100, 100), plain_image(GREEN)
    middle = np.array([[0.5, 0.5]])
    picture = patch_positions_picture(image, [patch], middle, np.array([[9.0, -3.0]]), height=100)
    assert (picture[len(picture) - 100 + 20, -20] == GREEN).all()
    with pytest.raises(ValueError, match="`predicted_positions` must be"):
        patch_positions_picture(image, [patch], middle, middle[0])


def test_normalised_patches_show_zero_as_middle_grey_and_are_clipped():
    patches = np.zeros((3, 32, 32, 3), np.float32)
    patches[1], patches[2] = 500, np.nan
    sheet = show_patches(patches, columns=2, tile_size=32)
    assert sheet.shape == (70, 70, 3)
    assert (sheet[2:34, 2:34] == 128).all() and (sheet[2:34, 36:68] == 255).all()
    assert (sheet[36:68, 2:34] == 128).all()


def test_png_reads_back_the_same_rgb_image(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    write_png(tmp_path / "new" / "a.png", image)
    assert (cv2.imread(str(tmp_path / "new" / "a.png"))[..., ::-1] == image).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_text_is_wrapped_shrunk_or_cut_to_its_box_and_never_touches_its_border():
    for text in ("query", "the same network, untrained", "antidisestablishmentarianism", "Größe"):
        for width in (40, 96, 300):
            box = text_box(text, width)
            assert box.shape[1] == width and box.shape[0] % 2 == 0
            assert (box < 128).any(), text
            assert (box[0] > 200).all() and (box[-1] > 200).all(), text
    assert text_box("", 50).shape == (0, 50, 3)
    one, two = text_box("a b", 200), text_box("word " * 20, 200)
    assert len(two) > 2 * len(one) and len(one) == text_size("")[1]
