"""STL-10's binaries: upright images, labels from 0, folds as they are counted in the file."""

import numpy as np
import pytest

from keras_ctxattr.data.stl10 import SIDE, read_stl10

FILES = (
    *("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
    *("fold_indices.txt", "class_names.txt"),
)
CLASSES = ("airplane", "bird", "car")


def write_stl10(folder, train_labels=(1, 2, 3, 1, 2, 3), test_labels=(3, 2, 1), folds=("0 1 2",)):
    """Writes images in the format of the official files, value by value."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for part, labels in (("train", train_labels), ("test", test_labels)):
        images = [draw_image(label, seed) for seed, label in enumerate(labels)]
        drawn[part] = images
        stored = bytearray()
        for image in images:
            for channel in range(3):
                for column in range(SIDE):
                    stored += bytes(image[:, column, channel])
        (folder / f"{part}_X.bin").write_bytes(stored)
        (folder / f"{part}_y.bin").write_bytes(bytes(labels))
    (folder / "class_names.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "fold_indices.txt").write_text("".join(f"{fold} \n" for fold in folds))
    return drawn


def draw_image(label, seed):
    """Gives an image whose pixels are their own row and column, with noise, and stripes."""
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    noise = np.random.default_rng(seed).integers(0, 20, rows.shape)
    return np.stack([rows, columns + noise, 80 * (columns // (4 * label + 1) % 2)], -1).astype(
        np.uint8
    )


def test_images_come_upright_and_labels_from_0(tmp_path):
    drawn = write_stl10(tmp_path, folds=("0 5 2", "1 3 4"))
    images = read_stl10(tmp_path)
    np.testing.assert_array_equal(images.train_pixels, np.stack(drawn["train"]))
    np.testing.assert_array_equal(images.test_pixels, np.stack(drawn["test"]))
    # Red is the row and green, but for the noise, the column.
    assert images.train_pixels[0, 40, 7, 0] == 40 and 7 <= images.train_pixels[0, 40, 7, 1] < 27
    assert images.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert images.test_labels.tolist() == [2, 1, 0]
    assert images.class_names == list(CLASSES)


def test_folds_are_counted_from_0(tmp_path):
    write_stl10(tmp_path, folds=("0 5 2", "1 3 4"))
    folds = read_stl10(tmp_path).folds
    assert [fold.tolist() for fold in folds] == [[0, 5, 2], [1, 3, 4]]


def test_the_folder_around_will_do(tmp_path):
    write_stl10(tmp_path / "stl10_binary")
    assert len(read_stl10(tmp_path).train_labels) == 6


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    write_stl10(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"must be all there. Received: .* without {name}"):
        read_stl10(tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"folds": ("1 2 6",)}, "counted from 0 to 5. Received: line 1 .* 1 to 6"),
        ({"folds": ("0 1", "2 2 3")}, "line 2 .* 2 of 3 different"),
        ({"folds": ("0 -1",)}, "line 1 .* -1 to 0"),
        ({"folds": ("0 x",)}, "whole numbers.*'x'"),
        ({"folds": ()}, "must hold a fold a line"),
        ({"train_labels": (0, 1, 2)}, "train_y.bin must have labels from 1 .* 0 to 2"),
        ({"test_labels": (4,)}, "test_y.bin must have labels from 1 to the number of classes, 3"),
        ({"test_labels": ()}, "Received: 0 labels"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, settings, told):
    write_stl10(tmp_path, **settings)
    with pytest.raises(ValueError, match=told) as caught:
        read_stl10(tmp_path)
    assert "\n" not in str(caught.value)


def test_half_an_image_and_images_without_labels_are_refused(tmp_path):
    write_stl10(tmp_path)
    whole = (tmp_path / "train_X.bin").read_bytes()
    (tmp_path / "train_X.bin").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"whole images of 27648 bytes.*165887"):
        read_stl10(tmp_path)
    (tmp_path / "train_X.bin").write_bytes(whole[: -3 * SIDE * SIDE])
    with pytest.raises(ValueError, match="Received: 5 and 6"):
        read_stl10(tmp_path)


def test_an_archive_must_be_unpacked(tmp_path):
    (tmp_path / "stl10_binary.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"unpack stl10_binary.tar.gz. Received: .*tar.gz"):
        read_stl10(tmp_path / "stl10_binary.tar.gz")
