"""Measures of frames: of all valid pixels together, at the depth's size; and where frames are."""

import numpy as np
import pytest

from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.tasks.normals.frames import has_normal, normals_of_frame
from keras_ctxattr.tasks.normals.metrics import angular_errors, summarize_errors
from keras_ctxattr.tasks.normals.scoring import score_frame, score_frames
from keras_ctxattr.tasks.normals.sources import FramesPlace, divide_frames, rows_of
from tests.tasks.normals.scenes import FLOOR, WALL, Rooms, write_rooms


def always(normal):
    return lambda _, shape: np.broadcast_to(np.float32(normal), (*shape, 3))


def test_measures_are_of_all_pixels_together():
    rooms, told = Rooms(3), []
    values = score_frames(
        rooms, (2, 0), {"wall": always(WALL)}, radius=2, progress=lambda *done: told.append(done)
    )
    errors = []
    for row in (2, 0):
        normals = normals_of_frame(rooms.read(row), radius=2)
        errors.append(angular_errors(normals[has_normal(normals)], np.array(WALL)))
    expected = summarize_errors(np.concatenate(errors))
    assert values["wall"] == pytest.approx(expected, rel=1e-5)
    assert [one["name"] for one in values["frames"]] == ["room-2", "room-0"]
    for one, of_frame in zip(values["frames"], errors, strict=True):
        assert one["num_valid"] == len(of_frame)
        assert one["wall"] == pytest.approx(of_frame.mean(), rel=1e-5)
    assert told == [(1, 2), (2, 2)]


def test_a_wall_is_right_where_there_is_one_and_the_floor_90_degrees_away():
    scored = score_frame(Rooms(1).read(0), always(WALL), radius=2)
    is_floor = angular_errors(scored.normals, np.array(FLOOR)) < 1
    is_wall = angular_errors(scored.normals, np.array(WALL)) < 1
    assert scored.errors[is_wall].max() < 1 and is_wall.mean() > 0.2
    np.testing.assert_allclose(scored.errors[is_floor], 90, atol=1)
    assert np.isnan(scored.errors[~has_normal(scored.normals)]).all()


def test_predictions_are_asked_for_at_the_depths_size():
    shapes = []

    def predict(photograph, shape):
        shapes.append((photograph.shape, shape))
        return np.ones((*shape, 3))

    score_frames(Rooms(1), (0,), {"one": predict})
    assert shapes == [((96, 128, 3), (96, 128))]


def test_no_frames_have_no_measures():
    with pytest.raises(ValueError, match="at least one pixel"):
        score_frames(Rooms(1), (), {"wall": always(WALL)})


def test_settings_that_do_not_belong_together_are_refused():
    for settings, message in (
        ({"frames": "f", "splits": "s.mat"}, r"`splits` belongs to nyu.*s.mat for f"),
        ({"frames": "n.mat", "colour_focal": 500.0}, r"`colour_focal` belongs to.*500.0 for n.mat"),
        ({"frames": "f", "colour_offset": 0.1}, r"`colour_offset` needs `colour_focal`.*0.1"),
    ):
        with pytest.raises(ValueError, match=message):
            FramesPlace(**settings)


def test_frames_are_divided_and_found_again_by_name(tmp_path):
    place = FramesPlace(frames=str(write_rooms(tmp_path / "rooms", 5)), colour_focal=110.0)
    assert FramesPlace(**place.describe()) == place
    source, rows, held_out = divide_frames(place, 0.4)
    assert rows == (0, 1, 2) and held_out == ("frame-000003", "frame-000004")
    assert source.colour_camera.focal == 110.0
    assert rows_of(source, held_out, "here") == (3, 4)
    with pytest.raises(CollectionError, match=r"here must hold.*1 of 2 missing, such as other"):
        rows_of(source, ("other", "frame-000001"), "here")
