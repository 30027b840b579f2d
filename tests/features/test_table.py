import json

import numpy as np
import pytest

from keras_ctxattr.data.shards import ShardedArray
from keras_ctxattr.features import FeatureTable


def make_table(count=7, num_features=5, dtype=np.float32, **options):
    generator = np.random.default_rng(count)
    low = generator.uniform(0, 50, (count, 2))
    return FeatureTable(
        generator.integers(0, 9, count),
        np.concatenate([low, low + 9], 1),
        generator.normal(size=(count, num_features)).astype(dtype),
        **options,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_table_is_read_as_it_was_saved(tmp_path, dtype) -> None:
    table = make_table(dtype=dtype, config={"made": "by hand", "sides": (3, 4)})
    table.save(tmp_path / "table", shard_rows=3)
    opened = FeatureTable.open(tmp_path / "table")
    assert isinstance(opened.vectors, ShardedArray)
    assert (len(opened), opened.num_features, opened.vectors.dtype) == (7, 5, dtype)
    for name, kind in (("image_ids", np.int64), ("boxes", np.float32), ("vectors", dtype)):
        values = np.asarray(getattr(opened, name))
        assert values.dtype == kind
        np.testing.assert_array_equal(values, getattr(table, name))
    assert opened.config == {"made": "by hand", "sides": [3, 4]}


def test_selection_keeps_rows_together(tmp_path) -> None:
    table = make_table()
    table.save(tmp_path / "table", shard_rows=2)
    opened = FeatureTable.open(tmp_path / "table")
    for rows in (np.array([6, 0, 0]), np.arange(7) % 2 == 0):
        part = opened.select(rows)
        for name in ("image_ids", "boxes", "vectors"):
            np.testing.assert_array_equal(getattr(part, name), getattr(table, name)[rows])


def test_files_hold_no_pickle_and_say_what_made_them(tmp_path) -> None:
    make_table().save(tmp_path / "table")
    arrays = list((tmp_path / "table").rglob("*.npy"))
    assert len(arrays) == 3
    for path in arrays:
        np.load(path, allow_pickle=False)
    stored = json.loads((tmp_path / "table" / "table.json").read_text())
    assert stored["kind"] == "features"
    assert {"python", "numpy"} <= stored["versions"].keys()


def test_a_table_is_not_saved_over_something(tmp_path) -> None:
    make_table().save(tmp_path / "table")
    for taken in (tmp_path / "table", tmp_path):
        with pytest.raises(ValueError, match="new or empty"):
            make_table().save(taken)
    with pytest.raises(ValueError, match="at least 1 row"):
        make_table(0).save(tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_ids": np.arange(6)},
        {"boxes": np.zeros([7, 3])},
        {"vectors": np.zeros([7, 5])},
        {"vectors": np.zeros([7], np.float32)},
        {"vectors": np.zeros([8, 5], np.float32)},
    ],
    ids=["image_ids", "boxes", "float64", "axes", "rows"],
)
def test_columns_that_do_not_fit_are_refused(wrong) -> None:
    table = make_table()
    columns = {name: getattr(table, name) for name in ("image_ids", "boxes", "vectors")} | wrong
    with pytest.raises(ValueError, match="equally many") as caught:
        FeatureTable(**columns)
    assert "\n" not in str(caught.value)
