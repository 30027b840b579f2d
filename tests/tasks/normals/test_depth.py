"""Normals of planes and balls whose normals are known, and where there are none."""

import numpy as np
import pytest

from keras_ctxattr.tasks.normals.depth import Camera, back_project, normals_from_depth
from keras_ctxattr.tasks.normals.metrics import angular_errors

CAMERA = Camera(focal_x=120.0, focal_y=110.0, centre_x=40.0, centre_y=28.0)
SHAPE = (60, 80)


def rays():
    return back_project(np.ones(SHAPE), CAMERA)


def draw_plane(normal, distance):
    """Gives the depth of the plane of the points p with normal . p = -distance."""
    return -distance / (rays() @ np.asarray(normal))


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.6, 0, -0.8), (-0.3, 0.5, -0.812)])
def test_a_plane_has_its_normal_everywhere(normal):
    normal = np.asarray(normal) / np.linalg.norm(normal)
    found, is_valid = normals_from_depth(draw_plane(normal, 2.0), CAMERA)
    assert is_valid[3:-3, 3:-3].all()
    assert angular_errors(found[is_valid], normal).max() < 0.01
    assert not found[~is_valid].any()


def test_a_ball_has_the_normals_of_its_radii():
    centre, radius = np.array([0.0, 0.0, 3.0]), 0.6
    ray = rays()
    a, b = (ray**2).sum(-1), ray @ centre
    inside = b**2 - a * (centre @ centre - radius**2)
    depth = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0)
    found, is_valid = normals_from_depth(depth, CAMERA, radius=1)
    truth = back_project(depth, CAMERA) - centre
    middle = inside > 0.4 * inside.max()  # away from its rim
    assert is_valid[middle].all()
    assert angular_errors(found[middle], truth[middle]).max() < 2
    assert not is_valid[inside <= 0].any()


def test_normals_point_to_the_camera():
    found, is_valid = normals_from_depth(draw_plane((0.5, 0.1, -0.86), 1.0), CAMERA)
    towards = (found * rays()).sum(axis=-1)
    assert (towards[is_valid] < 0).all()
    np.testing.assert_allclose(np.linalg.norm(found[is_valid], axis=-1), 1, rtol=1e-5)


def test_edges_of_things_and_unknown_depths_have_none():
    depth = np.full(SHAPE, 2.0)
    depth[:, 40:] = 3.0
    depth[10, 10], depth[50, 20] = 0.0, np.nan
    found, is_valid = normals_from_depth(depth, CAMERA)
    assert not is_valid[:, 38:42].any()
    assert is_valid[20, 20:34].all()
    assert not is_valid[10, 10] and not is_valid[50, 20]
    assert is_valid[10, 11]  # its neighbours have theirs
    assert angular_errors(found[10, 11], [0, 0, -1]) < 0.01


def test_nothing_known_gives_nothing():
    found, is_valid = normals_from_depth(np.zeros(SHAPE), CAMERA)
    assert not is_valid.any() and not found.any()


@pytest.mark.parametrize(
    ("depth", "settings"),
    [
        (np.ones((3, 4, 1)), {}),
        (np.ones((9, 9)), {"radius": 0}),
        (np.ones((9, 9)), {"roughness": 0}),
    ],
)
def test_impossible_settings_are_refused(depth, settings):
    with pytest.raises(ValueError, match=r"`depth` must be \[height, width\]"):
        normals_from_depth(depth, CAMERA, **settings)
