"""Four patches drawn on a photograph, and a page of objects."""

import numpy as np
import pytest

from keras_ctxattr.pictures import ClusterCard, cluster_sheet, write_gallery
from keras_ctxattr.pictures.constellations import CORNERS, constellation_picture
from keras_ctxattr.pictures.galleries import Words

BOXES = np.array([[0, 0, 100, 100], [100, 0, 200, 100], [0, 100, 100, 200], [100, 100, 200, 200]])


def test_each_patch_has_the_colour_of_its_corner():
    picture = constellation_picture(np.zeros((200, 400, 3), np.uint8), BOXES, size=200)
    assert picture.shape == (100, 200, 3)  # half: patches are 50 pixels
    for (row, column), colour in zip([(0, 0), (0, 1), (1, 0), (1, 1)], CORNERS, strict=True):
        quarter = picture[50 * row : 50 * row + 50, 50 * column : 50 * column + 50]
        assert (quarter == colour).all(axis=-1).sum() > 150
        others = [other for other in CORNERS if other != colour]
        assert not any((quarter == other).all(axis=-1).any() for other in others)
    assert not picture[:, 101:].any()


@pytest.mark.parametrize(("boxes", "size"), [(BOXES[:3], 100), (BOXES, 31)])
def test_what_cannot_be_drawn_is_refused(boxes, size):
    with pytest.raises(ValueError, match=r"`boxes` must be \[4, 4\], and `size` at least 32"):
        constellation_picture(np.zeros((20, 20, 3), np.uint8), boxes, size=size)


def test_a_page_calls_things_by_their_names(tmp_path):
    image = np.full((150, 200, 3), 90, np.uint8)
    cards = [ClusterCard(cluster_id=1, images=[image] * 3, num_members=3, score=2)]
    words = Words(item="object", members="photographs", score="verified", order="the best")
    write_gallery(tmp_path, "Things", cards, words=words, max_tile=128)
    page = (tmp_path / "index.html").read_text().split("</style>")[1]
    assert "1 objects, 3 images in them, the best first." in page
    assert 'id="object-1"' in page and "Object 1" in page
    assert "<dt>verified</dt>" in page and "<dt>photographs</dt>" in page
    assert "cluster" not in page.lower()
    assert f'width="{6 * 130 + 2}"' in page  # six columns of 128 pixels
    wide = cluster_sheet(cards, title="Things", num_clusters=5, item="object")
    assert wide.shape[2] == 3
