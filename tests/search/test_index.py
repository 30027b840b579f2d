"""The Hamming index against all distances, sorted."""

import faiss
import numpy as np
import pytest

from keras_ctxattr.attributes import hamming
from keras_ctxattr.data.shards import ShardedArray
from keras_ctxattr.search import HammingIndex, arrays
from keras_ctxattr.search import index as index_module
from tests.search.codes import make_codes


@pytest.mark.parametrize("num_bytes", [1, 2, 8, 9])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_it_finds_what_sorting_all_distances_finds(num_bytes, count):
    codes, queries = make_codes(300, num_bytes), make_codes(40, num_bytes, seed=1)
    distances, ids = HammingIndex(codes).search(queries, count)
    every = hamming(queries, codes)
    order = np.argsort(every, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(every, order, axis=1))
    assert distances.dtype == np.int32 and ids.dtype == np.int64


def test_threads_and_batches_change_nothing():
    codes, queries = make_codes(500, 4), make_codes(130, 4, seed=1)
    one = HammingIndex(codes, num_threads=1).search(queries, 20)
    for num_threads in (2, 5):
        for found, expected in zip(
            HammingIndex(codes, num_threads=num_threads).search(queries, 20), one, strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    alone = HammingIndex(codes).search(queries[3:4], 20)
    np.testing.assert_array_equal(alone[1][0], one[1][3])


@pytest.mark.parametrize("count", [1, 20, 499])
def test_codes_divided_among_threads_change_nothing(count, monkeypatch):
    codes, queries = make_codes(500, 4), make_codes(130, 4, seed=1)
    whole = HammingIndex(codes).search(queries, count)
    monkeypatch.setattr(index_module, "PART_CODES", 100)
    divided = HammingIndex(codes, num_threads=3)
    assert [place.num_codes for place in divided.places()] == [166, 167, 167]
    for found, expected in zip(divided.search(queries, count), whole, strict=True):
        np.testing.assert_array_equal(found, expected)
    named = HammingIndex(codes, np.arange(500)[::-1], num_threads=3)
    np.testing.assert_array_equal(named.search(queries, count)[1], 499 - whole[1])


@pytest.mark.parametrize("share", [1, 10**9])
@pytest.mark.parametrize("count", [1, 30, 1000])
def test_both_ways_of_faiss_find_the_same(share, count, monkeypatch):
    codes, queries = make_codes(1500, 2), make_codes(10, 2, seed=1)
    monkeypatch.setattr(index_module, "_HEAP_SHARE", share)
    distances, ids = HammingIndex(codes).search(queries, count)
    every = hamming(queries, codes)
    order = np.argsort(every, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(every, order, axis=1))


def test_ids_are_those_given_and_minus_one_past_the_end():
    codes = make_codes(3, 2)
    distances, ids = HammingIndex(codes, ids=[70, 50, 60]).search(codes[1:2], 5)
    assert ids[0, 0] == 50 and sorted(ids[0, :3]) == [50, 60, 70]
    assert ids[0, 3:].tolist() == [-1, -1] and distances[0, 3:].tolist() == [17, 17]
    empty = HammingIndex(np.zeros((0, 2), np.uint8))
    assert len(empty) == 0 and empty.search(codes, 2)[1].tolist() == [[-1, -1]] * 3
    assert HammingIndex(codes).search(codes[:0], 2)[0].shape == (0, 2)


def test_mapped_codes_are_read_in_parts(monkeypatch, tmp_path):
    codes, queries = make_codes(500, 4), make_codes(30, 4, seed=1)
    for number, part in enumerate(np.array_split(codes, 3)):
        np.save(tmp_path / f"{number}.npy", part)
    monkeypatch.setattr(arrays, "CODES_AT_A_TIME", 70)
    mapped = HammingIndex(ShardedArray(sorted(tmp_path.glob("*.npy"))))
    for found, expected in zip(
        mapped.search(queries, 20), HammingIndex(codes).search(queries, 20), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_what_was_set_for_faiss_comes_back():
    faiss.omp_set_num_threads(2)
    HammingIndex(make_codes(500, 4)).search(make_codes(1, 4), 20)
    assert faiss.omp_get_max_threads() == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: HammingIndex(np.zeros((3, 2))), "uint8"),
        (lambda: HammingIndex(make_codes(3, 2), ids=[1]), "an id for every code"),
        (lambda: HammingIndex(make_codes(3, 2)).search(make_codes(3, 1)), "as many bytes"),
        (lambda: HammingIndex(make_codes(3, 2)).search(make_codes(3, 2), 0), "`count`"),
        (lambda: HammingIndex(make_codes(3, 2), num_threads=0), "`num_threads`"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
