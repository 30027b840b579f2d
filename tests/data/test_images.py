import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.data import images
from keras_ctxattr.data.images import encoded_reader, load_images
from keras_ctxattr.data.manifest import CollectionError, scan_images
from tests.data.encoding import encode, make_exif, make_pixels, write_images
from tests.data.test_manifest import pack, write_records


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Gives the manifest of a folder, two archives and a TFRecord file, and the bytes by key."""
    root = tmp_path_factory.mktemp("mixed")
    contents = write_images(root / "photos", ["a.png", "b.png", "c.png"])
    expected = {
        f"photos/{name}.png": content for name, content in zip("abc", contents, strict=True)
    }
    for archive, seeds in (("one", (10, 11)), ("two", (12, 13, 14))):
        members = {
            f"{seed}.jpg": encode(make_pixels(seed=seed), "JPEG", exif=make_exif(seed % 8 + 1))
            for seed in seeds
        }
        pack(root / f"{archive}.tar", members)
        expected |= {f"{archive}.tar/{name}": content for name, content in members.items()}
    records = [encode(make_pixels(seed=seed), "WEBP") for seed in (20, 21)]
    write_records(root / "r.tfrecord", records)
    expected |= {f"r.tfrecord/{n:08d}": record for n, record in enumerate(records)}
    sources = [root / name for name in ("photos", "one.tar", "two.tar", "r.tfrecord")]
    return scan_images(sources, cache_dir=root / "cache"), expected


@pytest.mark.parametrize("max_regions", [0, 64])
def test_reader_gives_the_bytes_of_every_row(mixed, max_regions, monkeypatch) -> None:
    manifest, expected = mixed
    monkeypatch.setattr(images, "MAX_REGIONS", max_regions)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(manifest)), 3))
    rows = tf.data.Dataset.from_tensor_slices(order.astype(np.int64))
    rows = rows.map(encoded_reader(manifest), num_parallel_calls=4)
    for row, content in zip(order, rows.as_numpy_iterator(), strict=True):
        assert content == expected[manifest.keys[row]]


def test_images_come_in_manifest_order_with_their_ids(mixed) -> None:
    manifest = mixed[0].select(np.array([7, 0, 3, 9, 4]))
    elements = list(load_images(manifest, num_parallel_calls=4).as_numpy_iterator())
    assert [element["image_id"] for element in elements] == [7, 0, 3, 9, 4]
    for element, height, width in zip(elements, manifest.heights, manifest.widths, strict=True):
        assert element["image"].shape == (height, width, 3)
        assert element["image"].dtype == np.uint8


def test_element_spec_is_what_the_next_stage_expects(mixed) -> None:
    spec = load_images(mixed[0]).element_spec
    assert spec["image"] == tf.TensorSpec([None, None, 3], tf.uint8)
    assert spec["image_id"] == tf.TensorSpec([], tf.int64)


def test_skipped_rows_and_empty_manifests_are_refused(mixed) -> None:
    manifest = mixed[0]
    skipped = manifest.skip_where(manifest.keys == manifest.keys[0], "unwanted")
    for wrong in (skipped, manifest.select(np.array([], int))):
        with pytest.raises(CollectionError, match=r"manifest.usable\(\)"):
            load_images(wrong)


def test_container_that_changed_after_the_scan_is_refused(tmp_path) -> None:
    path = pack(tmp_path / "a.tar", {"a.png": encode(make_pixels())})
    manifest = scan_images(path)
    pack(path, {"a.png": encode(make_pixels(200, 200)), "b.png": b"x" * 20000})
    with pytest.raises(CollectionError, match="scan the collection again"):
        load_images(manifest)
