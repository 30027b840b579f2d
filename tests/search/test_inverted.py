"""The inverted index against all distances, sorted; its folder; building that is killed."""

import json
import os
import shutil
import subprocess
import sys
import threading

import faiss
import numpy as np
import pytest

from keras_ctxattr.data.shards import ShardedArray
from keras_ctxattr.runs import DiskFullError
from keras_ctxattr.search import arrays, inverting, lists
from keras_ctxattr.search.index import HammingIndex
from keras_ctxattr.search.inverted import RECALL, choose_num_probes
from keras_ctxattr.search.inverting import invert_codes
from keras_ctxattr.search.list_folder import open_inverted
from keras_ctxattr.search.recall import recall_of, search_exactly
from tests.search.codes import clustered_codes, make_codes, random_codes, sort_all


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def check_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def check_equal_but_last_ties(found, codes, queries, count):
    """Checks distances, and ids but for which of those at the last distance are found."""
    distances, rows = sort_all(codes, queries, count)
    np.testing.assert_array_equal(found[0], distances)
    is_sure = distances < distances[:, -1:]
    np.testing.assert_array_equal(found[1][is_sure], rows[is_sure])
    there = np.bitwise_count(queries[:, None] ^ codes[found[1]]).sum(axis=2)
    np.testing.assert_array_equal(there, distances)
    assert all(len(set(row)) == len(row) for row in found[1].tolist())


# --- Searching ---


@pytest.mark.parametrize("num_bytes", [1, 2, 8, 9, 16])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_with_all_lists_it_finds_what_sorting_all_distances_finds(num_bytes, count):
    codes, queries = make_codes(300, num_bytes), make_codes(40, num_bytes, seed=1)
    index = invert_codes(codes, num_lists=20)
    index.num_probes = index.num_lists
    check_equal_but_last_ties(index.search(queries, count), codes, queries, count)
    distances, ids = index.search(queries, 300)  # no tie is left out
    check_equal((distances, ids), HammingIndex(codes).search(queries, 300))
    assert distances.dtype == np.int32 and ids.dtype == np.int64


def test_it_finds_the_nearest_of_the_lists_with_the_nearest_centres():
    codes, queries = random_codes(2000), random_codes(30, seed=1)
    index = invert_codes(codes, num_lists=40)
    index.num_probes = 6
    _, lists_of_codes = sort_all(index.centres, codes, 1)
    _, probed = sort_all(index.centres, queries, 6)
    distances, ids = index.search(queries, 25)
    for query, row, some in zip(queries, range(30), probed, strict=True):
        members = np.flatnonzero(np.isin(lists_of_codes[:, 0], some))
        expected, places = sort_all(codes[members], query[None], 25)
        np.testing.assert_array_equal(distances[row], expected[0])
        is_sure = expected[0] < expected[0, -1]
        np.testing.assert_array_equal(ids[row][is_sure], members[places[0]][is_sure])


def test_where_little_is_found_the_rest_is_nothing():
    codes = np.array([[0], [1], [255], [254]], np.uint8)
    index = invert_codes(codes, [7, 5, 3, 1], num_lists=4, num_probes=1)
    distances, ids = index.search(np.array([[255]], np.uint8), 6)
    assert ids.tolist() == [[3, -1, -1, -1, -1, -1]]
    assert distances.tolist() == [[0, 9, 9, 9, 9, 9]]
    index.num_probes = 4
    distances, ids = index.search(np.array([[255]], np.uint8), 6)
    assert ids.tolist() == [[3, 1, 5, 7, -1, -1]]
    assert distances.tolist() == [[0, 1, 7, 8, 9, 9]]


def test_threads_and_batches_change_nothing():
    codes, queries = make_codes(3000, 4), make_codes(130, 4, seed=1)
    one = invert_codes(codes, num_threads=1).search(queries, 20)
    index = invert_codes(codes, num_threads=3)
    before = faiss.omp_get_max_threads()
    check_equal(index.search(queries, 20), one)
    alone = index.search(queries[3:4], 20)
    np.testing.assert_array_equal(alone[1][0], one[1][3])
    assert faiss.omp_get_max_threads() == before


def test_at_one_distance_codes_come_as_they_were_given():
    codes = np.tile(random_codes(100), (5, 1))
    index = invert_codes(codes, num_lists=10)
    index.num_probes = index.num_lists
    distances, ids = index.search(codes[:100], 5)
    np.testing.assert_array_equal(distances, 0)
    np.testing.assert_array_equal(ids, np.arange(100)[:, None] + [0, 100, 200, 300, 400])


def test_equal_codes_share_a_list():
    index = invert_codes(np.zeros((500, 8), np.uint8), num_lists=20)
    assert index.num_lists == 1 and "recall@100 1" in index.about
    assert index.search(np.zeros((1, 8), np.uint8), 3)[1].tolist() == [[0, 1, 2]]


def test_the_default_finds_most_of_clustered_codes_and_tells_so():
    codes = clustered_codes(50_000, num_clusters=500)
    index = invert_codes(codes)
    queries = clustered_codes(200, num_clusters=500, seed=1)
    exact, _ = search_exactly(codes, queries, 100)
    np.testing.assert_array_equal(exact, HammingIndex(codes).search(queries, 100)[0])
    assert recall_of(index, queries, exact) > RECALL - 0.03
    assert index.num_lists == 256 and index.num_probes <= 32
    assert index.recall[index.num_probes] >= RECALL
    assert f"recall@100 {index.recall[index.num_probes]:.3f}" in index.about
    index.num_probes += 1
    assert "recall@100 at least" in index.about
    index.num_probes = 999
    assert index.num_probes == 256 and "recall@100 1" in index.about
    assert recall_of(index, queries, exact) == 1


def test_recall_is_that_of_counting_by_hand():
    codes = np.array([[0], [1], [3], [7], [128]], np.uint8)
    exact, _ = HammingIndex(codes).search(codes[:1], 3)  # 0, 1, 1
    few = HammingIndex(codes[[0, 2, 4]])  # 0, 2, 1: the tie of 128 counts, 3 does not
    assert recall_of(few, codes[:1], exact) == pytest.approx(2 / 3)


def test_probes_are_the_fewest_that_find_enough():
    assert choose_num_probes({1: 0.5, 2: 0.95, 4: 0.99}) == 2
    assert choose_num_probes({1: 0.1, 2: 0.2, 4: 0.4}) == 4
    assert choose_num_probes({}) == 1


def test_lists_are_about_as_many_as_codes_in_one():
    sizes = (1, 1000, 10**6, 10**7, 10**8, 10**9)
    assert [lists.choose_num_lists(size) for size in sizes] == [1, 32, 1024, 4096, 8192, 32768]


# --- In parts, from files, in a folder ---


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(inverting, "PART_CODES", 700)
    monkeypatch.setattr(arrays, "CODES_AT_A_TIME", 700)


def test_parts_change_nothing(small_parts, monkeypatch, tmp_path):
    codes, queries = clustered_codes(3000), clustered_codes(20, seed=1)
    for number, part in enumerate(np.array_split(codes, 4)):
        np.save(tmp_path / f"{number}.npy", part)
    sharded = ShardedArray(sorted(tmp_path.glob("*.npy")))
    done = []
    found = invert_codes(
        sharded, folder=tmp_path / "lists", progress=lambda *told: done.append(told)
    ).search(queries, 30)
    assert done == [(700, 3000), (1400, 3000), (2100, 3000), (2800, 3000), (3000, 3000)]
    monkeypatch.setattr(inverting, "PART_CODES", 10_000)
    check_equal(found, invert_codes(codes).search(queries, 30))


def test_codes_are_never_read_all_at_once(small_parts, tmp_path):
    class Watched(ShardedArray):
        most = 0

        def __getitem__(self, index):
            found = super().__getitem__(index)
            Watched.most = max(Watched.most, len(found))
            return found

        def __array__(self, *arguments, **options):
            raise AssertionError("everything was read")

    np.save(tmp_path / "0.npy", random_codes(5000))
    invert_codes(Watched([tmp_path / "0.npy"]), folder=tmp_path / "lists", num_lists=10)
    assert Watched.most == 700


@pytest.mark.parametrize("ids", [None, range(100, 3100), np.arange(3000)[::-1] * 2])
def test_what_is_written_is_what_is_opened(ids, tmp_path):
    codes, queries = clustered_codes(3000), clustered_codes(20, seed=1)
    made = invert_codes(codes, ids)
    written = invert_codes(codes, ids, folder=tmp_path / "a/lists")
    shutil.move(tmp_path / "a/lists", tmp_path / "moved")
    assert names_in(tmp_path / "a") == []
    for opened in (
        open_inverted(tmp_path / "moved"),
        open_inverted(tmp_path / "moved", in_memory=True),
        written,
    ):
        assert opened.about == made.about and opened.recall == made.recall
        check_equal(opened.search(queries, 30), made.search(queries, 30))
        assert opened.id_range() == made.id_range()
        np.testing.assert_array_equal(opened.all_ids(), made.all_ids())
    assert open_inverted(tmp_path / "moved", num_probes=3).num_probes == 3


def test_the_same_call_opens_what_is_there(tmp_path, monkeypatch):
    codes = clustered_codes(3000)
    invert_codes(codes, folder=tmp_path / "lists")
    monkeypatch.setattr(inverting, "assign_codes", None)  # nothing is computed
    assert len(invert_codes(codes, folder=tmp_path / "lists")) == 3000


def test_a_build_that_fails_leaves_no_folder_and_goes_on(small_parts, monkeypatch, tmp_path):
    codes = clustered_codes(3000)
    assign, calls = inverting.assign_codes, []

    def fail(part, *rest):
        calls.append(len(part))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return assign(part, *rest)

    monkeypatch.setattr(inverting, "assign_codes", fail)
    with pytest.raises(KeyboardInterrupt):
        invert_codes(codes, folder=tmp_path / "lists")
    assert not (tmp_path / "lists").exists()
    (tmp_path / ".lists.partial-1").mkdir()  # of a process killed while it wrote
    monkeypatch.setattr(inverting, "learn_centres", None)  # was done
    index = invert_codes(codes, folder=tmp_path / "lists")
    assert calls == [700, 700, 700, 700, 700, 200]  # two of them were done
    assert names_in(tmp_path) == ["lists"]
    monkeypatch.undo()
    queries = clustered_codes(20, seed=1)
    check_equal(index.search(queries, 30), invert_codes(codes).search(queries, 30))


_KILLED = """
import numpy as np, sys
from keras_ctxattr.search import inverting
from tests.search.codes import clustered_codes
inverting.PART_CODES = 500
write = inverting.write_about
def told(*arguments):
    print("writing", flush=True)
    import time
    time.sleep(60)
inverting.write_about = told
inverting.invert_codes(clustered_codes(3000), folder=sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_build_leaves_no_folder_and_goes_on(tmp_path):
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "lists")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = threading.Timer(120, process.kill)
    deadline.start()
    try:
        assert process.stdout.readline() == "writing\n"
        wrong = "Only one process may write"
        with pytest.raises(ValueError, match=wrong), pytest.MonkeyPatch.context() as patch:
            patch.setattr(inverting, "PART_CODES", 500)
            invert_codes(clustered_codes(3000), folder=tmp_path / "lists")
    finally:
        deadline.cancel()
        process.kill()
        process.wait(30)
    assert not (tmp_path / "lists").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverting, "PART_CODES", 500)
        patch.setattr(inverting, "assign_codes", None)  # was done
        index = invert_codes(clustered_codes(3000), folder=tmp_path / "lists")
    assert names_in(tmp_path) == ["lists"] and len(index) == 3000


# --- What is refused ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inverted") / "lists"
    invert_codes(clustered_codes(3000), np.arange(3000) + 5, folder=folder)
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def change(path):
    kept = bytearray(path.read_bytes())
    kept[-1] ^= 1
    path.write_bytes(kept)


def set_format(path):
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "format": 99}))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("about.json", lambda path: path.unlink(), "written to its end"),
        ("about.json", cut, "written to its end"),
        ("about.json", lambda path: path.write_text("[]"), "written to its end"),
        ("about.json", set_format, "of format 1.*99"),
        ("lists.bin", lambda path: path.unlink(), r"must be whole.*lists\.bin"),
        ("lists.bin", cut, r"must be whole.*lists\.bin has"),
        ("centres.npy", lambda path: path.write_bytes(b""), "must be whole"),
        ("centres.npy", change, "centres or sizes have changed"),
        ("sizes.npy", cut, "must be whole"),
        ("sizes.npy", change, "centres or sizes have changed"),
        ("ids.npy", lambda path: path.unlink(), "must be whole"),
        ("ids.npy", cut, "must be whole"),
    ],
)
def test_damaged_and_missing_files_are_told(name, damage, words, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "lists")
    damage(tmp_path / "lists" / name)
    with pytest.raises(ValueError, match=words) as caught:
        open_inverted(tmp_path / "lists")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_changed_bit_is_told_where_it_is_looked_for(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "lists")
    assert len(open_inverted(whole, check=True)) == 3000
    change(tmp_path / "lists/lists.bin")
    with pytest.raises(ValueError, match=r"as they were written.*lists\.bin has changed"):
        open_inverted(tmp_path / "lists", check=True)


def test_rows_that_are_none_are_told(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "lists")
    with (tmp_path / "lists/lists.bin").open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(np.int64(10**12).tobytes())
    index = open_inverted(tmp_path / "lists", num_probes=10**6)
    with pytest.raises(ValueError, match=r"the file is damaged.*1000000000000 of 3000"):
        index.search(clustered_codes(1), 3000)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda codes: invert_codes(codes.astype(int)), "uint8"),
        (lambda codes: invert_codes(codes[0]), "uint8"),
        (lambda codes: invert_codes(codes[:0]), "at least one code"),
        (lambda codes: invert_codes(codes, [1]), "an id for every code"),
        (lambda codes: invert_codes(codes, range(0, 200, 2)[:99]), "an id for every code"),
        (lambda codes: invert_codes(codes, num_lists=0), "`num_lists`"),
        (lambda codes: invert_codes(codes, num_lists=101), "`num_lists`"),
        (lambda codes: invert_codes(codes, num_probes=0), "`num_probes`"),
        (lambda codes: invert_codes(codes, num_threads=0), "`num_threads`"),
        (lambda codes: invert_codes(codes, seed=-1), "`seed`"),
        (lambda codes: invert_codes(codes).search(codes[:, :3]), "as many bytes"),
        (lambda codes: invert_codes(codes).search(codes, 0), "`count`"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call(random_codes(100))
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_left_alone(whole, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="written to its end"):
        invert_codes(random_codes(100), folder=tmp_path)
    assert names_in(tmp_path) == ["notes.txt"]
    with pytest.raises(ValueError, match="another num_codes, num_lists, digest"):
        invert_codes(random_codes(100), folder=whole)
    with pytest.raises(ValueError, match="another digest"):
        invert_codes(clustered_codes(3000), range(3000), folder=whole)
    codes = clustered_codes(3000)
    codes[1234, 5] ^= 1
    with pytest.raises(ValueError, match="another digest"):
        invert_codes(codes, np.arange(3000) + 5, folder=whole)
    ids = np.arange(3000) + 5
    ids[-1] += 1
    with pytest.raises(ValueError, match="another digest"):
        invert_codes(clustered_codes(3000), ids, folder=whole)
    assert len(open_inverted(whole)) == 3000


def test_a_full_disk_is_one_line(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr("keras_ctxattr.runs.writing.shutil.disk_usage", lambda path: usage)
    codes = clustered_codes(2000)
    with pytest.raises(DiskFullError, match="No space left while writing lists") as caught:
        invert_codes(codes, folder=tmp_path / "lists")
    assert "\n" not in str(caught.value) and not (tmp_path / "lists").exists()
    monkeypatch.undo()
    assert len(invert_codes(codes, folder=tmp_path / "lists")) == 2000
