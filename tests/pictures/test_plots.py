"""Plots show values where they belong."""

import numpy as np
import pytest

from keras_ctxattr.pictures import (
    confusion_picture,
    learning_curves,
    line_plot,
    precision_recall_plot,
)
from keras_ctxattr.pictures.plots import _COLOURS, _tick_text, _ticks


def places_of(picture, colour):
    return np.argwhere((picture == colour).all(axis=2))


def test_diagonal_of_a_perfect_confusion_is_dark_and_the_rest_white():
    picture = confusion_picture(np.eye(4) * 7, ["a", "b", "c", "d"], cell_size=40)
    dark = places_of(picture, _COLOURS[0])
    top, left = dark.min(axis=0)
    for row in range(4):
        for column in range(4):
            corner = picture[top + 40 * row + 1, left + 40 * column + 1]
            assert (corner == (_COLOURS[0] if row == column else (255, 255, 255))).all()


def test_rows_of_a_confusion_are_shares_so_their_scale_does_not_matter():
    counts = np.array([[1, 3], [5, 5]])
    scaled = counts * np.array([[10], [1]])
    assert (confusion_picture(counts, "ab") == confusion_picture(scaled, "ab")).all()
    confusion_picture(np.zeros((2, 2)), "ab")
    with pytest.raises(ValueError, match="square"):
        confusion_picture(counts, "abc")


def test_line_rises_from_left_to_right_and_two_lines_have_two_colours():
    picture = line_plot({"up": ([0, 1], [0, 1]), "down": ([0, 1], [1, 0])}, size=(300, 200))
    below = picture[40:]  # without the legend
    up, down = places_of(below, _COLOURS[0]), places_of(below, _COLOURS[1])
    assert np.corrcoef(up.T)[0, 1] < -0.9 and np.corrcoef(down.T)[0, 1] > 0.9


def test_points_that_are_not_finite_are_left_out_and_constants_are_drawn():
    picture = line_plot({"a": ([0, 1, 2], [np.nan, 3.0, 3.0])}, size=(300, 200))
    assert len(places_of(picture, _COLOURS[0]))
    for series in ({}, {"a": ([0], [np.inf])}, {str(n): ([0], [0]) for n in range(7)}):
        with pytest.raises(ValueError, match="1 to 6 lines"):
            line_plot(series)
    with pytest.raises(ValueError, match="as many horizontal"):
        line_plot({"a": ([0, 1], [0])})


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.125, 0.24, ["0.125", "0.150", "0.175", "0.200", "0.225", "0.250"]),
        (0, 4000, ["0", "1000", "2000", "3000", "4000"]),
        (-3, 7, ["-4", "-2", "0", "2", "4", "6", "8"]),
        (5, 5, ["4.4", "4.6", "4.8", "5.0", "5.2", "5.4", "5.6"]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, texts):
    ticks = _ticks(low, high)
    assert [_tick_text(tick, ticks) for tick in ticks] == texts


def test_learning_curves_take_the_rows_of_a_run():
    rows = [{"step": s, "loss": 2 - s / 100, "accuracy": 0.125} for s in range(0, 50, 10)]
    rows[-1]["val_accuracy"] = 0.2
    picture = learning_curves(rows, chance=0.125)
    assert picture.shape[1] == 1040
    assert len(places_of(picture[:, 520:], _COLOURS[1])), "held-out accuracy is there"
    assert not len(places_of(picture[:, :520], _COLOURS[1])), "there is no held-out loss"
    with pytest.raises(ValueError, match="loss or an accuracy"):
        learning_curves([{"step": 1}])


def test_precision_by_recall_marks_the_best():
    curve = ([0.2, 0.6], [0.9, 0.7])
    plain = precision_recall_plot({"ours": curve}, size=(300, 300))
    marked = precision_recall_plot({"ours": curve}, best={"ours": (0.6, 0.7)}, size=(300, 300))
    changed = np.argwhere((plain != marked).any(axis=-1))
    assert 20 < len(changed) < 200
    # Recall .6 lies to the right of the middle, precision .7 above it.
    assert changed[:, 1].mean() > 150 and changed[:, 0].mean() < 200
    with pytest.raises(ValueError, match="1 to 6 lines"):
        precision_recall_plot({})
