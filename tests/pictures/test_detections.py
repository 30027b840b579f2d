"""Pictures of detections show every box where it is, and what it is."""

import numpy as np
import pytest

from keras_ctxattr.pictures import DrawnBoxes, detection_picture, detections_sheet
from keras_ctxattr.pictures.detections import KINDS

GREY = np.full((120, 160, 3), 128, np.uint8)


def draw(box, kind, label="", image=GREY, size=160):
    return detection_picture(
        image, DrawnBoxes(boxes=[box], labels=[label], kinds=[kind]), size=size
    )


def where(picture, kind):
    """Rows and columns of the colour of a kind."""
    return np.nonzero((picture == KINDS[kind].colour).all(axis=2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_is_drawn_along_its_edges(kind):
    picture = draw([30, 20, 90, 100], kind)
    rows, columns = where(picture, kind)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 99, 30, 89)
    inside = picture[24:96, 34:86]
    assert (inside == 128).all()
    full = 2 * (60 + 80) * 2 - 4 * 4
    share = len(rows) / full
    assert 0.4 < share < 0.7 if KINDS[kind].is_dashed else share == 1


def test_kinds_look_different():
    looks = {(style.colour, style.is_dashed) for style in KINDS.values()}
    assert len({colour for colour, _ in looks}) == len(KINDS)
    assert {kind for kind, style in KINDS.items() if style.is_dashed} == {
        "object",
        "missed",
        "difficult",
    }


def test_boxes_are_scaled_with_the_photograph_and_lines_are_not():
    picture = draw([30, 20, 90, 100], "right", size=480)
    assert picture.shape == (360, 480, 3)
    rows, columns = where(picture, "right")
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (60, 299, 90, 269)
    assert (picture[150, 94:260] == 128).all()


def test_a_box_at_the_border_or_beyond_is_seen():
    rows, columns = where(draw([-20, 0, 400, 120], "wrong"), "wrong")
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 119, 0, 159)
    assert len(where(draw([50, 50, 50, 50], "wrong"), "wrong")[0]) > 0  # an empty box is a dot


def test_labels_do_not_hide_each_other():
    boxes = DrawnBoxes(
        boxes=np.tile([60, 60, 100, 90], (3, 1)),
        labels=["cat .93", "dog .52", "cow .11"],
        kinds=["right", "wrong", "duplicate"],
    )
    picture = detection_picture(GREY, boxes)
    counts = [len(where(picture, kind)[0]) for kind in boxes.kinds]
    alone = [
        len(where(detection_picture(GREY, one), one.kinds[0])[0])
        for one in (
            DrawnBoxes(boxes=boxes.boxes[:1], labels=[label], kinds=[kind])
            for label, kind in zip(boxes.labels, boxes.kinds, strict=True)
        )
    ]
    outline = 2 * (40 + 30) * 2 * 16 - 64  # at 4 times the size at most
    assert all(count > 0.9 * (whole - outline) for count, whole in zip(counts, alone, strict=True))


def test_a_label_is_whole_wherever_the_box_is():
    counts = {
        len(where(draw(box, "right", "person .5"), "right")[0])
        - len(where(draw(box, "right"), "right")[0])
        for box in ([40, 40, 60, 60], [0, 0, 20, 20], [140, 100, 160, 120], [0, 100, 20, 120])
    }
    assert min(counts) > 400


def test_the_photograph_stays_as_it_was():
    image = GREY.copy()
    draw([10, 10, 50, 50], "right", "cat", image=image)
    assert (image == 128).all()


def test_a_sheet_has_all_photographs_and_a_legend_of_what_occurs():
    tall = np.full((160, 80, 3), (10, 200, 10), np.uint8)
    boxes = [
        DrawnBoxes(boxes=[[10, 10, 50, 50]], labels=["cat"], kinds=["right"]),
        DrawnBoxes(boxes=np.empty((0, 4)), labels=[], kinds=[]),
        DrawnBoxes(boxes=[[10, 10, 50, 50]], labels=[""], kinds=["missed"]),
    ]
    sheet = detections_sheet([GREY, tall, GREY], boxes, columns=2, size=160, title="Test")
    assert sheet.shape[1] == 10 + 2 * 170
    is_green = (sheet == (10, 200, 10)).all(axis=2)
    assert is_green.sum() == 160 * 80
    legend = sheet[-24:]
    shown = {kind for kind in KINDS if len(where(legend, kind)[0]) > 30}  # letters have greys
    assert shown == {"right", "missed"}
    named = detections_sheet(
        [GREY, tall, GREY], boxes, columns=2, size=160, captions=["a", "b", "c"]
    )
    assert len(named) > len(detections_sheet([GREY, tall, GREY], boxes, columns=2, size=160))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DrawnBoxes(boxes=[[0, 0, 1, 1]], labels=[], kinds=["right"]), "1 boxes, 0 labels"),
        (lambda: DrawnBoxes(boxes=[[0, 0, 1, 1]], labels=[""], kinds=["good"]), "Received: good"),
        (lambda: draw([0, 0, 1, 1], "right", image=GREY[:, :, 0]), r"uint8 \[120, 160\]"),
        (lambda: draw([0, 0, 1, 1], "right", size=8), "size=8"),
        (lambda: detections_sheet([], []), "0 photographs"),
        (lambda: detections_sheet([GREY], []), "1 photographs, 0 with boxes"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
