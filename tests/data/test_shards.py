import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from keras_ctxattr.data.shards import ShardedArray, TableFolder, split_rows

WHOLE = np.arange(11 * 6, dtype=np.float32).reshape(11, 2, 3)
LENGTHS = (4, 1, 0, 4, 2)


def write_shards(folder, whole=WHOLE, lengths=LENGTHS):
    """Writes an array as files of given lengths and gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.npy" for number in range(len(lengths))]
    borders = np.cumsum(lengths)[:-1]
    for path, part in zip(paths, np.split(whole, borders), strict=True):
        np.save(path, part)
    return paths


@pytest.fixture
def rows(tmp_path):
    return ShardedArray(write_shards(tmp_path))


def test_whole_is_what_the_files_hold_one_after_another(rows) -> None:
    assert (rows.shape, rows.dtype, len(rows), rows.ndim) == ((11, 2, 3), np.float32, 11, 3)
    assert rows.nbytes == WHOLE.nbytes
    np.testing.assert_array_equal(np.asarray(rows), WHOLE)
    np.testing.assert_array_equal(np.stack(list(rows)), WHOLE)
    assert np.asarray(rows, np.float64).dtype == np.float64


@pytest.mark.parametrize(
    "index",
    [
        0,
        10,
        -1,
        np.int64(-11),
        slice(None),
        slice(3, 6),
        slice(4, 5),
        slice(-3, None),
        slice(8, 2),
        slice(None, None, 3),
        slice(9, 1, -2),
        slice(5, 100),
        [3, 3, 0, 10],
        [],
        np.array([10, 4, 4, -11, 5], np.int32),
        np.array([], np.int64),
        np.arange(11) % 3 == 1,
        np.zeros(11, bool),
    ],
    ids=repr,
)
def test_indexing_is_that_of_numpy(rows, index) -> None:
    chosen = rows[index]
    np.testing.assert_array_equal(chosen, WHOLE[index])
    assert chosen.shape == WHOLE[index].shape
    assert chosen.dtype == WHOLE.dtype


def test_many_random_row_numbers_are_those_of_numpy(tmp_path) -> None:
    generator = np.random.default_rng(0)
    for number in range(20):
        lengths = generator.integers(0, 5, 7)
        lengths[generator.integers(7)] += 1
        whole = generator.integers(0, 256, (lengths.sum(), 3), np.uint8)
        rows = ShardedArray(write_shards(tmp_path / str(number), whole, lengths))
        wanted = generator.integers(-len(whole), len(whole), 30)
        np.testing.assert_array_equal(rows[wanted], whole[wanted])


def test_results_are_copies_in_memory(rows) -> None:
    for index in (slice(None), slice(1, 3), [1, 2], 1):
        chosen = rows[index]
        assert type(chosen) is np.ndarray
        chosen[...] = -1
    np.testing.assert_array_equal(np.asarray(rows), WHOLE)


def test_only_the_shards_that_hold_the_rows_are_opened(rows, monkeypatch) -> None:
    opened, load = [], np.load
    monkeypatch.setattr(np, "load", lambda path, **kw: opened.append(path) or load(path, **kw))
    _ = rows[[6, 5]]
    assert [path.name for path in opened] == ["00003.npy"]
    _ = rows[9:]
    assert [path.name for path in opened] == ["00003.npy", "00004.npy"]


def test_many_shards_do_not_use_up_the_file_handles(tmp_path) -> None:
    rows = ShardedArray(write_shards(tmp_path, np.arange(400), [2] * 200))
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir()))
    np.testing.assert_array_equal(rows[::-1], np.arange(400)[::-1])
    assert len(list(handles.iterdir())) - before < 40


def test_another_process_gets_the_files_and_not_their_content(rows) -> None:
    _ = rows[:]
    sent = pickle.dumps(rows)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent)[:], WHOLE)


@pytest.mark.parametrize(
    "index",
    [11, -12, [0, 11], np.zeros(10, bool), (0, 1), [0.5], "a", None, np.zeros((2, 2), int)],
    ids=repr,
)
def test_impossible_index_is_refused_in_one_line(rows, index) -> None:
    with pytest.raises(IndexError, match="Received: ") as caught:
        rows[index]
    assert "\n" not in str(caught.value)


def test_one_array_without_a_copy_is_refused(rows) -> None:
    with pytest.raises(ValueError, match="leave out `copy`"):
        np.array(rows, copy=False)


def test_files_that_do_not_fit_together_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="at least one file"):
        ShardedArray([])
    first, second = write_shards(tmp_path, lengths=(5, 6))
    np.save(second, WHOLE[5:].astype(np.float64))
    with pytest.raises(ValueError, match=r"one shape and dtype.*00001.npy with \(6, 2, 3\)"):
        ShardedArray([first, second])
    np.save(second, WHOLE[5:, :1])
    with pytest.raises(ValueError, match="one shape and dtype"):
        ShardedArray([first, second])


def test_damaged_file_is_refused(tmp_path) -> None:
    paths = write_shards(tmp_path)
    whole = paths[0].read_bytes()
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "scalar.npy", np.array(3.0))
    damaged = [whole[:-1], whole + b"0", whole[:20], b"", b"no array at all", None]
    damaged += [(tmp_path / f"{name}.npy").read_bytes() for name in ("object", "scalar")]
    for content in damaged:
        if content is None:
            paths[0].unlink()
        else:
            paths[0].write_bytes(content)
        with pytest.raises(ValueError, match=r"must be a whole .npy.*00000.npy") as caught:
            ShardedArray(paths)
        assert "\n" not in str(caught.value)


def test_split_rows_lays_batches_together_and_holds_every_row_once() -> None:
    generator = np.random.default_rng(1)
    for shard_rows in (1, 3, 7, 100):
        lengths = generator.integers(0, 9, 12)
        batches = np.split(np.arange(lengths.sum()), np.cumsum(lengths)[:-1])
        shards = list(split_rows(((batch, -batch) for batch in batches), shard_rows))
        assert all(len(shard[0]) == shard_rows for shard in shards[:-1])
        assert 0 < len(shards[-1][0]) <= shard_rows
        for sign, column in zip((1, -1), zip(*shards, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(column), sign * np.arange(lengths.sum()))
    assert list(split_rows([], 3)) == []


# --- Table folders ---


def start(folder, config=None, num_rows=5, shard_rows=2, kind="things"):
    return TableFolder.start(
        folder, kind, config or {"side": 3}, num_rows=num_rows, shard_rows=shard_rows
    )


def fill(table):
    for shard in range(table.num_shards):
        first, stop = table.shard_range(shard)
        table.write_shard(shard, {"values": np.arange(first, stop)})
    return table


def test_table_is_read_as_it_was_written(tmp_path) -> None:
    fill(start(tmp_path / "table"))
    table = TableFolder.open(tmp_path / "table", "things")
    assert (table.num_shards, table.num_rows, table.config) == (3, 5, {"side": 3})
    np.testing.assert_array_equal(np.asarray(table.column("values")), np.arange(5))
    stored = json.loads((tmp_path / "table" / "table.json").read_text())
    assert stored["versions"]["numpy"] == np.__version__


def test_other_configuration_is_refused_with_what_differs(tmp_path) -> None:
    start(tmp_path)
    start(tmp_path)  # the same is fine
    for config, shard_rows, named in (
        ({"side": 4}, 2, r"side=4 \(there: 3\)"),
        ({"side": 3, "new": 1}, 2, r"new=1 \(there: None\)"),
        ({"side": 3}, 4, r"shard_rows=4 \(there: 2\)"),
    ):
        with pytest.raises(ValueError, match=named) as caught:
            start(tmp_path, config, shard_rows=shard_rows)
        assert "\n" not in str(caught.value)


def test_folder_of_something_else_is_refused(tmp_path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"new or empty, or its own.*letter.txt"):
        start(tmp_path)
    with pytest.raises(ValueError, match="a file"):
        start(tmp_path / "letter.txt")
    start(tmp_path / "things")
    with pytest.raises(ValueError, match="must hold a table of others"):
        start(tmp_path / "things", kind="others")


def test_table_that_is_missing_or_not_finished_is_not_opened(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"a whole table.json"):
        TableFolder.open(tmp_path, "things")
    (tmp_path / "table.json").write_text("{")
    with pytest.raises(ValueError, match=r"a whole table.json"):
        TableFolder.open(tmp_path, "things")
    table = fill(start(tmp_path / "known"))
    table.shard_path(1).rename(tmp_path / "taken")
    with pytest.raises(ValueError, match=r"without 1 of 3: 1$"):
        TableFolder.open(tmp_path / "known", "things")
    table = start(tmp_path / "unknown", num_rows=None)
    table.write_shard(0, {"values": np.arange(2)})
    with pytest.raises(ValueError, match=r"finished before it is opened.* with 1 shards"):
        TableFolder.open(tmp_path / "unknown", "things")
    table.finish(2)
    assert TableFolder.open(tmp_path / "unknown", "things").num_rows == 2


def test_rows_that_contradict_the_description_are_refused(tmp_path) -> None:
    table = fill(start(tmp_path))
    table.write_shard(2, {"values": np.arange(2)})
    with pytest.raises(ValueError, match=r"as many rows as its table.json says.* 6 of 5"):
        table.column("values")


def test_impossible_numbers_are_refused(tmp_path) -> None:
    for wrong in ({"num_rows": 0}, {"shard_rows": 0}):
        with pytest.raises(ValueError, match="at least 1 row"):
            start(tmp_path, **wrong)


def test_one_process_writes_and_what_a_killed_one_left_is_removed(tmp_path) -> None:
    table = start(tmp_path)
    (tmp_path / ".00000.partial-123").mkdir()
    with table.lock():
        assert not (tmp_path / ".00000.partial-123").exists()
        with pytest.raises(ValueError, match="Only one process may write"), table.lock():
            pass
    with table.lock():
        pass


def test_shard_is_there_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    """Killed while it writes the second column: the shard is not there."""
    table = start(tmp_path)
    columns = {"a": np.arange(2), "b": np.arange(2)}
    table.write_shard(0, columns)
    child = os.fork()
    if not child:
        save = np.save
        saved = []

        def save_or_die(path, values, **options):
            if saved:
                os._exit(9)
            saved.append(save(path, values, **options))

        monkeypatch.setattr(np, "save", save_or_die)
        table.write_shard(1, columns)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [entry.name for entry in tmp_path.glob(".00001*/*")] == ["a.npy"]
    assert table.num_whole == 1
    assert table.missing_shards() == [1, 2]
    with table.lock():
        assert not list(tmp_path.glob(".00001*"))
