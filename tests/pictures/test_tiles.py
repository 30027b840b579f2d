"""Tiles: the image whole above its caption, notes that can be seen."""

import numpy as np
import pytest

from keras_ctxattr.pictures import captioned_tile, contact_sheet, neighbours_sheet, note_tile

RED = np.full((20, 60, 3), (255, 0, 0), np.uint8)


@pytest.mark.parametrize("shape", [(20, 60), (300, 40), (500, 1)])
def test_an_image_is_whole_and_its_caption_below(shape) -> None:
    image = np.full((*shape, 3), (255, 0, 0), np.uint8)
    tile = captioned_tile(image, "12, 0.93", 96)
    bare = captioned_tile(image, "", 96)
    assert tile.shape == bare.shape == (96, 96, 3)
    is_red = (tile == (255, 0, 0)).all(axis=2)
    rows, columns = np.flatnonzero(is_red.any(axis=1)), np.flatnonzero(is_red.any(axis=0))
    height, width = len(rows), len(columns)
    assert is_red.sum() == height * width
    # In proportion, and as large as there is room.
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.1) or width == 1
    below = tile[rows.max() + 1 :]
    assert (below.max(axis=2) < 128).sum() > 20  # ink
    assert not (bare.max(axis=2) < 128).any()


def test_a_note_can_be_read_on_grey() -> None:
    tile = note_tile("its file is gone", 96)
    inside = tile[2:-2, 2:-2]
    assert tile.shape == (96, 96, 3)
    assert (inside < 128).sum() > 50 and (inside == 235).mean() > 0.7 and not (inside > 235).any()


def test_a_row_goes_on_without_its_query() -> None:
    found = {"near": [[RED, RED], [RED]]}
    whole = neighbours_sheet([RED, RED], found, tile_size=32)
    sheet = neighbours_sheet([RED, None], found, tile_size=32)
    assert sheet.shape == whole.shape
    assert (sheet[-34:, :36] == 255).all() and not (whole[-34:, :36] == 255).all()
    assert contact_sheet([[None, RED]], tile_size=32).shape[1] == 2 * 36 + 4
