"""NYU Depth v2 is read the right way round, cut to its valid pixels, by its own split."""

import h5py
import numpy as np
import pytest
import scipy.io

from keras_ctxattr.data.manifest import CollectionError
from keras_ctxattr.data.nyu import NyuFrames, read_nyu_split

COUNT = 4


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file in NYU's format: in frame k (from 0) channel 0 is the row / 2, channel 1 the column /
    3, channel 2 k; the depth is 1 + row / 1000 + 10 column / 1000; every seventh pixel is not seen.
    """
    place = tmp_path_factory.mktemp("nyu") / "nyu_depth_v2_labeled.mat"
    rows, columns = np.indices((480, 640))  # as MATLAB shows it
    with h5py.File(place, "w", userblock_size=512) as file:
        images = file.create_dataset("images", (COUNT, 3, 640, 480), np.uint8)
        depths = file.create_dataset("depths", (COUNT, 640, 480), np.float32)
        raw = file.create_dataset("rawDepths", (COUNT, 640, 480), np.float32)
        for k in range(COUNT):
            image = np.stack([rows // 2, columns // 3, np.full_like(rows, k)], axis=-1)
            images[k] = image.transpose(2, 1, 0)  # MATLAB's [row, column, channel] on the disk
            depth = 1 + rows / 1000 + 10 * columns / 1000 + 100 * k
            depths[k] = depth.T
            raw[k] = np.where((rows + columns) % 7 == 0, 0, depth + 0.5).T
    return place


@pytest.fixture(scope="module")
def splits(path):
    place = path.parent / "splits.mat"
    columns = {"trainNdxs": np.array([[3], [1]]), "testNdxs": np.array([[2], [4]])}
    scipy.io.savemat(place, columns)
    return place


def test_pixels_and_depth_are_where_they_belong(path):
    source = NyuFrames(path)
    assert source.names == ("0001", "0002", "0003", "0004")
    frame = source.read(2)
    assert frame.pixels.shape == (427, 561, 3) and frame.pixels.dtype == np.uint8
    assert frame.depth.shape == (427, 561) and frame.depth.dtype == np.float32
    rows, columns = np.indices(frame.depth.shape)
    rows, columns = rows + 44, columns + 40  # rows 45 to 471, columns 41 to 601, from 1
    np.testing.assert_array_equal(frame.pixels[..., 0], rows // 2)
    np.testing.assert_array_equal(frame.pixels[..., 1], columns // 3)
    assert (frame.pixels[..., 2] == 2).all()
    is_seen = (rows + columns) % 7 != 0
    expected = 1 + rows / 1000 + 10 * columns / 1000 + 200
    np.testing.assert_allclose(frame.depth[is_seen], expected[is_seen], rtol=1e-6)
    assert not frame.depth[~is_seen].any()


def test_the_optical_axis_stays_where_it_was(path):
    """It is column 325.58 counted from 1: 324.58 from 0, of which 40 are cut away."""
    intrinsics = NyuFrames(path).read(0).intrinsics
    np.testing.assert_allclose(intrinsics[0], [518.8579, 0, 325.58245 - 1 - 40], atol=1e-4)
    np.testing.assert_allclose(intrinsics[1], [0, 519.4696, 253.73617 - 1 - 44], atol=1e-4)


def test_the_split_counts_from_1(path, splits):
    train, test = (NyuFrames(path, split=splits, part=part) for part in ("train", "test"))
    assert train.names == ("0003", "0001") and test.names == ("0002", "0004")
    assert (train.read(0).pixels[..., 2] == 2).all()
    assert (test.read(1).pixels[..., 2] == 3).all()


def test_a_split_of_another_file_is_refused(path, tmp_path):
    for numbers, told in (([1, 5], "5"), ([0, 1], "0"), ([], "none")):
        place = tmp_path / "splits.mat"
        scipy.io.savemat(place, {"trainNdxs": np.array(numbers), "testNdxs": np.array([1])})
        message = rf"trainNdxs must name frames from 1 to 4. Received: .*with {told}"
        with pytest.raises(CollectionError, match=message):
            NyuFrames(path, split=place)
    assert read_nyu_split(place, "test") == (1,)


def test_other_files_are_refused(path, splits, tmp_path):
    with pytest.raises(CollectionError, match=r"a file of HDF5. Received: .*splits.mat"):
        NyuFrames(splits)
    with pytest.raises(CollectionError, match=r"a file of HDF5. Received: .*nowhere"):
        NyuFrames(tmp_path / "nowhere.mat")
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["images"] = np.zeros((2, 3, 64, 48), np.uint8)
    with pytest.raises(CollectionError, match=r"with images \[2, 3, 64, 48\]$"):
        NyuFrames(tmp_path / "other.mat")
    with h5py.File(tmp_path / "empty.mat", "w") as file:
        file["labels"] = np.zeros(2)
    with pytest.raises(CollectionError, match="with none of these"):
        NyuFrames(tmp_path / "empty.mat")


def test_other_splits_are_refused(path, splits, tmp_path):
    scipy.io.savemat(tmp_path / "other.mat", {"scenes": np.arange(3)})
    with pytest.raises(CollectionError, match=r"splits.mat as distributed.*other.mat: 'trainNdxs'"):
        NyuFrames(path, split=tmp_path / "other.mat")
    with pytest.raises(ValueError, match=r"`part` must be one of train, test. Received: 'val'"):
        NyuFrames(path, split=splits, part="val")
