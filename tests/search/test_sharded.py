"""Several indexes searched as one; indexes chosen by the number of codes."""

import itertools
import shutil

import numpy as np
import pytest

from keras_ctxattr.search import choosing
from keras_ctxattr.search.choosing import EXACT_CODES, choose_kind, index_codes
from keras_ctxattr.search.index import HammingIndex
from keras_ctxattr.search.inverted import InvertedHammingIndex
from keras_ctxattr.search.inverting import invert_codes
from keras_ctxattr.search.sharded import ShardedHammingIndex, open_sharded
from tests.search.codes import clustered_codes, make_codes, sort_all

BORDERS = (0, 1, 120, 120, 300)  # one is empty


def exact_shards(codes, num_threads=None):
    return ShardedHammingIndex(
        [
            HammingIndex(codes[start:stop], range(start, stop))
            for start, stop in itertools.pairwise(BORDERS)
        ],
        num_threads=num_threads,
    )


@pytest.mark.parametrize("num_bytes", [1, 8, 9])
@pytest.mark.parametrize("count", [1, 7, 300, 310])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_exact_shards_find_what_the_whole_finds_ties_too(num_bytes, count, num_threads):
    codes, queries = make_codes(300, num_bytes), make_codes(150, num_bytes, seed=1)
    shards = exact_shards(codes, num_threads)
    assert len(shards) == 300 and shards.id_range() == (0, 299)
    for found, expected in zip(
        shards.search(queries, count), HammingIndex(codes).search(queries, count), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_shards_of_shards_are_shards():
    codes, queries = make_codes(600, 2), make_codes(20, 2, seed=1)
    inner = exact_shards(codes[:300])
    outer = ShardedHammingIndex([inner, HammingIndex(codes[300:], range(300, 600))])
    np.testing.assert_array_equal(outer.search(queries, 50)[1], sort_all(codes, queries, 50)[1])


def test_inverted_shards_find_everything_in_all_their_lists(tmp_path):
    codes, queries = clustered_codes(3000), clustered_codes(20, seed=1)
    folders = [tmp_path / f"disk{number}/lists" for number in range(3)]
    for number, folder in enumerate(folders):
        rows = range(1000 * number, 1000 * (number + 1))
        invert_codes(codes[rows.start : rows.stop], rows, folder=folder)
    shards = open_sharded(folders, num_codes=3000, num_probes=1000)
    distances, ids = shards.search(queries, 3000)
    expected = sort_all(codes, queries, 3000)
    np.testing.assert_array_equal(distances, expected[0])
    np.testing.assert_array_equal(ids, expected[1])
    assert shards.about.startswith("3 shards, 3,000 codes of 64 bits; 0: inverted, 1,000")
    # Shards that find less than they are asked for:
    few = open_sharded(folders, num_probes=1).search(queries, 1000)
    assert (few[1] == -1).any() and (few[0][few[1] == -1] == 65).all()
    assert (np.diff(few[0], axis=1) >= 0).all()

    with pytest.raises(ValueError, match=r"hold all 3,000 codes.*2 shards with 2,000"):
        open_sharded([folders[0], folders[2]], num_codes=3000)
    with pytest.raises(ValueError, match=r"no id in common.*id 1000 in shards 1 and 3"):
        open_sharded([*folders, folders[1]])
    shutil.rmtree(folders[1])
    with pytest.raises(ValueError, match=r"written to its end.*disk1/lists"):
        open_sharded(folders)


def test_ids_that_interleave_are_no_overlap():
    codes = make_codes(100, 2)
    even, odd = (HammingIndex(codes[start::2], range(start, 100, 2)) for start in (0, 1))
    distances, ids = ShardedHammingIndex([even, odd]).search(codes[:1], 100)
    assert sorted(ids[0]) == list(range(100)) and (np.diff(distances) >= 0).all()


@pytest.mark.parametrize(
    ("shards", "words"),
    [
        (lambda codes: [], "at least one shard"),
        (
            lambda codes: [HammingIndex(codes), HammingIndex(codes[:, :1], range(100, 200))],
            "as many bits.*codes of 8 and 16 bits",
        ),
        (lambda codes: [HammingIndex(codes), HammingIndex(codes)], "id 0 in shards 0 and 1"),
        (
            lambda codes: [
                HammingIndex(codes, range(100)),
                HammingIndex(codes[:1], [300]),
                HammingIndex(codes[:2], [250, 40]),
            ],
            "id 40 in shards 0 and 2",
        ),
    ],
)
def test_shards_that_do_not_fit_are_told(shards, words):
    with pytest.raises(ValueError, match=words) as caught:
        ShardedHammingIndex(shards(make_codes(100, 2)))
    assert "\n" not in str(caught.value)


# --- Chosen by size ---


def test_the_number_of_codes_chooses(monkeypatch, tmp_path):
    assert choose_kind(EXACT_CODES) == "exact" and choose_kind(EXACT_CODES + 1) == "inverted"
    codes = clustered_codes(1000)
    few = index_codes(codes)
    assert isinstance(few, HammingIndex)
    assert few.about == "exact, 1,000 codes of 64 bits, all compared: recall 1"
    monkeypatch.setattr(choosing, "EXACT_CODES", 999)
    many = index_codes(codes, range(7, 1007), folder=tmp_path / "lists")
    assert isinstance(many, InvertedHammingIndex) and many.id_range() == (7, 1006)
    assert many.about.startswith("inverted, 1,000 codes of 64 bits in 32 lists")
    assert (tmp_path / "lists/lists.bin").stat().st_size == 16_000
    assert isinstance(index_codes(codes, kind="exact"), HammingIndex)


def test_the_caller_may_choose():
    codes = clustered_codes(1000)
    assert isinstance(index_codes(codes, kind="inverted"), InvertedHammingIndex)
    with pytest.raises(ValueError, match=r"`kind` must be auto, exact or inverted.*'fast'"):
        index_codes(codes, kind="fast")
    with pytest.raises(ValueError, match="uint8"):
        index_codes(codes.tolist())
