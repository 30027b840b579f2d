"""Labels of frames: scaled, mirrored and held out as geometry and honesty ask for."""

import dataclasses

import numpy as np
import pytest

from keras_ctxattr.tasks.normals.frames import (
    flip_normals,
    has_normal,
    hold_out_block,
    label_frames,
    normals_of_frame,
    scale_normals,
    scaled_shape,
)
from keras_ctxattr.tasks.normals.metrics import angular_errors
from tests.tasks.normals.scenes import FLOOR, WALL, WIDTH, Rooms, draw_room, plane_depth


def test_a_room_has_the_normals_of_its_floor_and_wall():
    found = normals_of_frame(Rooms(1).read(0), radius=2)
    _, _, normals = draw_room(0)
    is_valid = has_normal(found)
    # Millimetres do not matter here: depth is not rounded. Where planes meet none may be right.
    errors = angular_errors(found[is_valid], normals[is_valid])
    assert is_valid.mean() > 0.8
    assert np.percentile(errors, 90) < 0.1
    assert {WALL, FLOOR} == {tuple(one) for one in np.unique(normals.reshape(-1, 3), axis=0)}


def test_normals_of_the_mirrored_frame_are_the_mirrored_normals():
    """The law that tells the sign of x: depth is mirrored with its camera, normals are fitted."""
    frame = Rooms(1).read(0)
    slanted = plane_depth((0.5, -0.3, -0.8), 2.0).astype(np.float32)
    depth = np.where(frame.depth < 1.2, frame.depth, slanted)
    intrinsics, mirrored = frame.intrinsics.copy(), frame.intrinsics.copy()
    intrinsics[0, 2] = 58.5  # an optical axis away from the middle
    mirrored[0, 2] = WIDTH - 1 - 58.5
    one = dataclasses.replace(frame, depth=depth, intrinsics=intrinsics)
    other = dataclasses.replace(frame, depth=depth[:, ::-1], intrinsics=mirrored)
    expected = flip_normals(normals_of_frame(one))
    found = normals_of_frame(other)
    assert abs(found[..., 0]).max() > 0.3
    np.testing.assert_array_equal(has_normal(found), has_normal(expected))
    is_valid = has_normal(found)
    assert angular_errors(found[is_valid], expected[is_valid]).max() < 0.1


def test_flipping_twice_changes_nothing():
    normals = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float16)
    np.testing.assert_array_equal(flip_normals(flip_normals(normals)), normals)
    assert flip_normals(normals).dtype == np.float16


def test_small_normals_are_means_of_those_that_are_there():
    """Four pixels become one: none where fewer than half are there, else the mean's direction."""
    right, up = (1, 0, 0), (0, -1, 0)
    normals = np.zeros((2, 6, 3), np.float32)
    normals[0, 0], normals[1, 1] = right, up  # half
    normals[0, 2] = right  # a quarter
    normals[:, 4:] = [[right, right], [right, (-1, 0, 0)]]
    found = scale_normals(normals, (1, 3))
    np.testing.assert_allclose(found[0, 0], [np.sqrt(0.5), -np.sqrt(0.5), 0], atol=1e-6)
    np.testing.assert_array_equal(found[0, 1], 0)
    np.testing.assert_allclose(found[0, 2], right, atol=1e-6)


def test_opposite_normals_have_no_mean():
    normals = np.array([[[1, 0, 0], [-1, 0, 0]]], np.float32)
    np.testing.assert_array_equal(scale_normals(normals, (1, 1)), 0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((480, 640), (240, 320)), ((641, 427, 3), (320, 213)), ((1, 900), (1, 320))],
)
def test_the_longer_side_is_scaled(shape, expected):
    assert scaled_shape(shape, 320) == expected


def test_frames_are_read_once_in_their_order_and_scaled():
    told = []
    frames = label_frames(
        Rooms(4), (2, 0), longer_side=64, radius=1, progress=lambda *done: told.append(done)
    )
    assert frames.names == ("room-2", "room-0") and len(frames) == 2
    assert frames.pixels.shape == (2, 48, 64, 3) and frames.pixels.dtype == np.uint8
    assert frames.normals.dtype == np.float16
    assert told == [(1, 2), (2, 2)]
    truth = draw_room(2)[2][::2, ::2]
    is_valid = has_normal(frames.normals[0])
    assert np.median(angular_errors(frames.normals[0][is_valid], truth[is_valid])) < 0.1


def test_frames_of_several_sizes_or_without_normals_are_refused():
    class Odd(Rooms):
        def read(self, row):
            frame = super().read(row)
            return dataclasses.replace(frame, pixels=frame.pixels[: 90 - row * 10])

    class Empty(Rooms):
        def read(self, row):
            frame = super().read(row)
            return dataclasses.replace(frame, depth=frame.depth * 0)

    with pytest.raises(ValueError, match=r"of one size. Received: 40 x 64, 45 x 64"):
        label_frames(Odd(2), (0, 1), longer_side=64)
    with pytest.raises(ValueError, match=r"of one size. Received: none"):
        label_frames(Rooms(2), (), longer_side=64)
    with pytest.raises(ValueError, match=r"millimetres.*Received: 2 frames without one"):
        label_frames(Empty(2), (0, 1), longer_side=64)


@pytest.mark.parametrize(("count", "share"), [(25, 0.2), (7, 0.3), (2, 0.9), (10, 0.01)])
def test_every_frame_is_held_out_with_its_neighbours(count, share):
    """Each block follows the one before; training and held-out frames are all frames."""
    size = len(hold_out_block(count, share)[1])
    seen = []
    for block in range(count // size):
        rows, held_out = hold_out_block(count, share, block)
        assert list(held_out) == list(range(held_out[0], held_out[0] + size))
        assert sorted(rows + held_out) == list(range(count)) and rows
        seen += held_out
    assert seen == sorted(set(seen)) and seen[-1] == count - 1
    assert hold_out_block(count, share) == hold_out_block(count, share, count // size - 1)


def test_impossible_divisions_are_refused():
    for count, share in ((1, 0.2), (5, 0.0), (5, 1.0)):
        with pytest.raises(ValueError, match=rf"two frames.*{count} frames, held_out={share}"):
            hold_out_block(count, share)
    with pytest.raises(ValueError, match=r"`block` must be from 0 to 4.*block=5"):
        hold_out_block(25, 0.2, 5)
