"""Pictures of results: from folders and archives, upright, and none of what has changed."""

import tarfile

import cv2
import numpy as np
import pytest

from keras_ctxattr.search import ImageIndex, index_photographs
from keras_ctxattr.search.pixels import UnavailableError, read_pixels


def only_image(index):
    (image,) = ImageIndex(index).store.all_images()
    return image


def test_an_image_of_an_archive_is_read_where_it_lies(photographs, module, tmp_path):
    path = next(photographs.rglob("*.png"))
    with tarfile.open(tmp_path / "photos.tar", "w") as target:
        target.add(path, arcname="one.png")
    index_photographs([str(tmp_path / "photos.tar")], tmp_path / "index", module)
    expected = cv2.imread(str(path))[:, :, ::-1]
    np.testing.assert_array_equal(read_pixels(only_image(tmp_path / "index")), expected)


def test_a_reduced_jpeg_is_upright_and_large_enough(module, tmp_path):
    from PIL import Image

    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    stored = np.stack([np.tile(ramp, (240, 1))] * 3, axis=-1)  # brighter to the right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: brighter to the bottom
    (tmp_path / "photos").mkdir()
    Image.fromarray(stored).save(tmp_path / "photos/one.jpg", exif=exif, quality=95)
    index_photographs([str(tmp_path / "photos")], tmp_path / "index", module)
    image = only_image(tmp_path / "index")
    whole, reduced = read_pixels(image), read_pixels(image, 100)
    assert whole.shape == (400, 240, 3) and reduced.shape == (100, 60, 3)
    assert whole[0].mean() < 5 and whole[-1].mean() > 250
    expected = cv2.resize(whole, (60, 100), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(reduced.astype(float), expected, atol=4)


def test_what_is_gone_or_has_other_bytes_is_not_shown(photographs, module, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    path, other = sorted(photographs.rglob("*.png"))[:2]
    (folder / "one.png").write_bytes(path.read_bytes())
    index_photographs([str(folder)], tmp_path / "index", module)
    image = only_image(tmp_path / "index")
    read_pixels(image)
    (folder / "one.png").write_bytes(other.read_bytes())
    with pytest.raises(UnavailableError, match="has changed"):
        read_pixels(image)
    (folder / "one.png").unlink()
    with pytest.raises(UnavailableError, match="is gone"):
        read_pixels(image)
