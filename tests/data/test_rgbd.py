"""Frames of a depth camera are read as they are, from a folder or an archive."""

import tarfile

import cv2
import numpy as np
import pytest

from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.data.rgbd import ColourCamera, RgbdFrames, to_depth_view
from tests.tasks.normals.scenes import INTRINSICS, draw_room, write_frame, write_rooms


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_rooms(tmp_path_factory.mktemp("frames") / "rooms", 3)


@pytest.fixture
def broken(tmp_path):
    """A data set of one frame, to be spoilt."""
    return write_rooms(tmp_path / "broken", 1)


def archive(folder, path, mode):
    with tarfile.open(path, mode) as file:
        file.add(folder, "./inside")
    return path


def test_a_frame_has_its_photograph_depth_and_camera(folder):
    source = RgbdFrames(folder)
    assert source.names == ("frame-000000", "frame-000001", "frame-000002")
    assert len(source) == 3
    for row in (2, 0):
        frame, (pixels, depth, _) = source.read(row), draw_room(row)
        assert frame.name == source.names[row]
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 12  # JPEG, of noise; RGB
        np.testing.assert_allclose(frame.depth, depth, atol=6e-4)
        np.testing.assert_array_equal(frame.intrinsics, INTRINSICS)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_gives_what_the_folder_gives(folder, tmp_path, mode):
    packed = RgbdFrames(archive(folder, tmp_path / "frames.tar", mode))
    assert packed.names == RgbdFrames(folder).names
    one, other = packed.read(1), RgbdFrames(folder).read(1)
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.depth, other.depth)


def test_a_folder_above_is_taken_as_well(folder):
    assert RgbdFrames(folder.parent).names == RgbdFrames(folder).names


def test_sequences_of_equal_names_are_kept_apart(tmp_path):
    """Frames of the second folder took the place of the first's."""
    write_rooms(tmp_path / "all/seq-01", 2)
    write_rooms(tmp_path / "all/seq-02", 3)
    (tmp_path / "all/seq-02/camera-intrinsics.txt").write_text("99 0 63 0 99 47 0 0 1")
    source = RgbdFrames(tmp_path / "all")
    assert source.names == (
        "seq-01/frame-000000",
        "seq-01/frame-000001",
        "seq-02/frame-000000",
        "seq-02/frame-000001",
        "seq-02/frame-000002",
    )
    assert source.read(0).intrinsics[0, 0] == INTRINSICS[0][0] != 99
    assert source.read(4).intrinsics[0, 0] == 99


def test_photograph_and_depth_are_of_one_folder(tmp_path):
    write_rooms(tmp_path / "all/a", 1)
    write_rooms(tmp_path / "all/b", 1)
    (tmp_path / "all/b/frame-000000.color.jpg").unlink()
    with pytest.raises(CollectionError, match=r"without b/frame-000000\.color\.jpg"):
        RgbdFrames(tmp_path / "all")


def test_a_camera_above_is_that_of_all_folders_below(tmp_path):
    for name in ("a", "b"):
        write_rooms(tmp_path / "all" / name, 1)
        (tmp_path / "all" / name / "camera-intrinsics.txt").rename(
            tmp_path / "all/camera-intrinsics.txt"
        )
    assert len(RgbdFrames(tmp_path / "all")) == 2


def test_both_values_of_a_missing_depth_are_0(broken):
    stored = np.full((4, 5), 1500, np.uint16)
    stored[0, 0], stored[1, 2] = 0, 65535
    cv2.imwrite(str(broken / "frame-000000.depth.png"), stored)
    depth = RgbdFrames(broken).read(0).depth
    assert depth[0, 0] == depth[1, 2] == 0
    assert depth.dtype == np.float32 and np.count_nonzero(depth == 1.5) == 18


def test_photographs_come_to_the_view_of_the_depth():
    """A board at 2 m, drawn by both cameras: the colour camera is wider and 10 cm to the right."""
    intrinsics = np.array([[120.0, 0, 63.5], [0, 120.0, 47.5], [0, 0, 1]])
    camera = ColourCamera(focal=90.0, offset=0.1)

    def board(focal, offset, shape):
        rows, columns = np.indices(shape)
        x = (columns - (shape[1] - 1) / 2) * 2 / focal + offset
        y = (rows - (shape[0] - 1) / 2) * 2 / focal
        # Smooth: a step would fall between pixels.
        return np.stack([127 + 60 * np.sin(5 * x), 127 + 60 * np.sin(4 * y), x * 0 + 9], axis=-1)

    photograph = board(90.0, 0.1, (100, 140)).astype(np.uint8)
    found = to_depth_view(photograph, np.full((96, 128), 2.0), intrinsics, camera)
    assert found.shape == (96, 128, 3)
    # The photograph ends before the depth's left edge does not: all of it is seen.
    np.testing.assert_allclose(found[4:-4, 8:-4], board(120.0, 0, (96, 128))[4:-4, 8:-4], atol=3)


def test_a_camera_of_the_same_view_changes_nothing():
    pixels = draw_room(0)[0]
    height, width = pixels.shape[:2]
    intrinsics = np.array([[80.0, 0, (width - 1) / 2], [0, 80.0, (height - 1) / 2], [0, 0, 1]])
    found = to_depth_view(pixels, np.ones((height, width)), intrinsics, ColourCamera(focal=80.0))
    np.testing.assert_array_equal(found, pixels)
    unknown = np.zeros((height, width))  # no median: the offset is left out
    camera = ColourCamera(focal=80.0, offset=0.5)
    np.testing.assert_array_equal(to_depth_view(pixels, unknown, intrinsics, camera), pixels)


def test_the_reader_applies_the_colour_camera(folder):
    camera = ColourCamera(focal=90.0, offset=0.02)
    plain = RgbdFrames(folder).read(0)
    found = RgbdFrames(folder, colour_camera=camera).read(0)
    expected = to_depth_view(plain.pixels, plain.depth, INTRINSICS, camera)
    np.testing.assert_array_equal(found.pixels, expected)
    assert not np.array_equal(found.pixels, plain.pixels)


@pytest.mark.parametrize("settings", [{"focal": 0}, {"focal": 500, "offset": 2}])
def test_an_impossible_colour_camera_is_refused(settings):
    with pytest.raises(ValueError, match=r"`focal` of a colour camera.*Received: focal="):
        ColourCamera(**settings)


def test_errors_are_one_line_each(broken, tmp_path):
    with pytest.raises(CollectionError, match=r"exists and can be read. Received: .*nowhere"):
        RgbdFrames(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CollectionError, match=r"frame-NAME.color.jpg.*with none"):
        RgbdFrames(tmp_path / "empty")
    (tmp_path / "torn.tar").write_bytes(b"no archive")
    with pytest.raises(CollectionError, match="whole tar archive"):
        RgbdFrames(tmp_path / "torn.tar")


def test_a_frame_without_depth_is_told(broken):
    (broken / "frame-000000.depth.png").unlink()
    with pytest.raises(CollectionError, match=r"without frame-000000.depth.png"):
        RgbdFrames(broken)


def test_a_depth_without_photograph_is_told(broken):
    (broken / "frame-000000.color.jpg").unlink()
    with pytest.raises(CollectionError, match=r"without frame-000000.color.jpg"):
        RgbdFrames(broken)


def test_photographs_may_be_png(broken):
    pixels = draw_room(0)[0]
    (broken / "frame-000000.color.jpg").unlink()
    cv2.imwrite(str(broken / "frame-000000.color.png"), pixels[..., ::-1])
    np.testing.assert_array_equal(RgbdFrames(broken).read(0).pixels, pixels)


def test_missing_or_odd_intrinsics_are_told(broken):
    path = broken / "camera-intrinsics.txt"
    for text in ("1 2 3", "a b c d e f g h i", "0 0 1 0 0 1 0 0 1"):
        path.write_text(text)
        with pytest.raises(CollectionError, match=r"3 x 3 numbers.*camera-intrinsics.txt: "):
            RgbdFrames(broken)
    path.unlink()
    with pytest.raises(CollectionError, match=r"need their camera's camera-intrinsics.txt"):
        RgbdFrames(broken)


def test_damaged_and_odd_pictures_are_told(broken):
    pixels, depth, _ = draw_room(0)
    cv2.imwrite(str(broken / "frame-000000.depth.png"), pixels)
    with pytest.raises(CollectionError, match=r"16 bits.*uint8 \[96, 128, 3\]"):
        RgbdFrames(broken).read(0)
    write_frame(broken, "frame-000000", pixels, depth)
    (broken / "frame-000000.color.jpg").write_bytes(b"")
    with pytest.raises(CollectionError, match=r"whole pictures.*frame-000000.color.jpg"):
        RgbdFrames(broken).read(0)


def test_frames_that_go_away_are_told(broken):
    source = RgbdFrames(broken)
    (broken / "frame-000000.depth.png").unlink()
    with pytest.raises(CollectionError, match=r"exists and can be read. Received: .*broken: No"):
        source.read(0)


@pytest.mark.data
def test_the_sample_is_read(data_folder):
    path = data_folder / "rgbd_7scenes_sample_train.tar"
    if not path.is_file():
        pytest.skip(f"the sample is not there: {path}")
    source = RgbdFrames(path)
    frame = source.read(24)
    assert len(source) == 25 and frame.name == "frame-000480"
    assert frame.pixels.shape == (480, 640, 3) and frame.intrinsics[0, 0] == 585
    known = frame.depth[frame.depth > 0]
    assert 0.9 < known.size / frame.depth.size < 0.95
    assert 0.3 < known.min() < known.max() < 10
