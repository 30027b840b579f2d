"""Inverted lists beside an index of photographs, and several indexes searched as one."""

import json
import shutil

import numpy as np
import pytest

from keras_ctxattr import cli
from keras_ctxattr.search import (
    ImageIndex,
    ImageIndexError,
    add_photographs,
    choosing,
    index_photographs,
    inverting,
    remove_photographs,
)
from keras_ctxattr.search.together import ImageIndexes
from keras_ctxattr.search.writer import open_writer
from tests.search.test_commands import ctxattr  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def halves(photographs, tmp_path_factory):
    """Gives two folders with half of the photographs each."""
    folder = tmp_path_factory.mktemp("halves")
    for number, source in enumerate(sorted(photographs.rglob("*.png"))):
        target = folder / f"photos{number % 2}"
        target.mkdir(exist_ok=True)
        shutil.copy(source, target)
    return [folder / "photos0", folder / "photos1"]


@pytest.fixture(scope="module")
def indexes(halves, module, tmp_path_factory):
    """Gives an index of each half, and one of both, that no test changes."""
    folder = tmp_path_factory.mktemp("indexes")
    for number, half in enumerate(halves):
        index_photographs([str(half)], folder / f"{number}.index", module)
        add_or_make(half, folder / "both.index", module)
    return [folder / "0.index", folder / "1.index", folder / "both.index"]


def add_or_make(half, folder, module):
    if folder.exists():
        add_photographs(folder, [str(half)])
    else:
        index_photographs([str(half)], folder, module)


def names_of(matches):
    return [(one.image.name, one.distance, one.similarity) for one in matches]


def check_equal(found, expected):
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one[2] == pytest.approx(other[2], abs=1e-6)


# --- Several indexes ---


@pytest.mark.parametrize("candidates", [200, 15])
@pytest.mark.parametrize("with_vector", [True, False])
@pytest.mark.parametrize("required", [None, {2: True}])
def test_two_indexes_find_what_one_of_all_finds(
    candidates, with_vector, required, indexes, monkeypatch
):
    for module in ("images", "together"):
        monkeypatch.setattr(f"keras_ctxattr.search.{module}.CANDIDATES", candidates)
    first, second, both = map(ImageIndex, indexes)
    together = ImageIndexes([first, second])
    for row in range(0, len(both), 7):
        vector = both.vectors([row])[0] if with_vector else None
        name = both.store.images([both.ids[row]])[both.ids[row]].name
        query, owner = together.find_query(name)
        found = together.search(
            both.codes[row],
            vector,
            count=10,
            required=required,
            leave_out=[(owner, query.image.image_id)],
        )
        expected = both.search(
            both.codes[row], vector, count=10, required=required, leave_out=[both.ids[row]]
        )
        assert len(found) == 10
        check_equal(names_of(one.match for one in found), names_of(expected))
        for one in found:
            assert together.indexes[one.index].store.find([one.match.image.name])


def test_an_index_without_vectors_ranks_all_by_codes(halves, indexes, module, tmp_path):
    index_photographs([str(halves[1])], tmp_path / "codes.index", module, keep_vectors=False)
    together = ImageIndexes([ImageIndex(indexes[0]), ImageIndex(tmp_path / "codes.index")])
    both = ImageIndex(indexes[2])
    found = together.search(both.codes[3], both.vectors([3])[0], count=20)
    expected = both.search(both.codes[3], count=20)
    assert names_of(one.match for one in found) == names_of(expected)
    assert not together.has_vectors and found[0].match.similarity is None


def test_a_file_is_found_in_the_index_that_has_it(halves, indexes, monkeypatch):
    together = ImageIndexes([ImageIndex(one) for one in indexes[:2]])
    path = sorted(halves[1].iterdir())[0]
    query, _ = together.find_query(str(path))
    assert query.image is None
    best = together.search(query.description.code, query.description.vector, count=1)[0]
    assert best.index == 1 and best.match.image.place.path == str(path)
    monkeypatch.chdir(halves[1].parent)
    query, owner = together.find_query(f"photos1/{path.name}")
    assert query.image is not None and owner == 1


def test_indexes_that_do_not_fit_are_told(indexes, halves, photographs, tmp_path):
    first = ImageIndex(indexes[0])
    with pytest.raises(ImageIndexError, match="at least one index"):
        ImageIndexes([])
    with pytest.raises(ImageIndexError, match=r"given once.*0\.index twice"):
        ImageIndexes([first, ImageIndex(indexes[1]), ImageIndex(indexes[0])])
    shutil.copytree(indexes[1], tmp_path / "other.index")
    other = ImageIndex(tmp_path / "other.index")
    other.store.about["module"] = "another"
    with pytest.raises(ImageIndexError, match=r"of one module.*0\.index and .*other\.index"):
        ImageIndexes([first, other])
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        ImageIndexes([first]).search(first.codes[0], count=0)
    with pytest.raises(ImageIndexError, match="neither"):
        ImageIndexes([first]).find_query("photos0/none.png")


def test_the_command_searches_several(ctxattr, indexes, tmp_path):  # noqa: F811
    name = ImageIndex(indexes[1]).store.images([3])[3].name
    (alone,) = json.loads(ctxattr("search", indexes[2], name, "-k", 9, "--json"))
    flags = ("--also", indexes[1], "-k", 9)
    (found,) = json.loads(ctxattr("search", indexes[0], name, *flags, "--json"))
    assert [one["name"] for one in found["results"]] == [one["name"] for one in alone["results"]]
    assert {one["index"] for one in found["results"]} == {str(one) for one in indexes[:2]}
    assert "index" not in alone["results"][0]
    told = ctxattr("search", indexes[0], name, *flags).splitlines()
    assert told[0].endswith("similarity, name, index")
    assert told[1].endswith(f"{found['results'][0]['name']}  {found['results'][0]['index']}")
    ctxattr("search", indexes[0], name, *flags, "--sheet", tmp_path / "found.png")
    assert (tmp_path / "found.png").stat().st_size > 1000
    wrong = ctxattr("search", indexes[0], name, "--also", indexes[0], code=cli.ERROR_CODE)
    assert wrong.count("\n") == 1 and "given once" in wrong
    wrong = ctxattr("search", indexes[0], name, "--also", tmp_path / "no", code=cli.ERROR_CODE)
    assert wrong.count("\n") == 1 and "must be a folder that `ctxattr index` made" in wrong


# --- Inverted lists beside an index ---


@pytest.fixture
def copied(indexes, tmp_path):
    shutil.copytree(indexes[2], tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def few_are_many(monkeypatch):
    monkeypatch.setattr(choosing, "EXACT_CODES", 50)


def search_all(index, **options):
    rows = range(0, len(index), 9)
    return [
        names_of(index.search(index.codes[row], index.vectors([row])[0], count=12, **options))
        for row in rows
    ]


def all_lists(index):
    """Searches all lists of an index, which finds what comparing all finds."""
    for one in getattr(index._nearby._nearest, "shards", [index._nearby._nearest]):
        one.num_probes = 1000
    return index


def test_few_images_are_compared_whatever_lies_beside_them(copied):
    index = ImageIndex(copied)
    assert index.about.startswith("exact, 72 codes of 16 bits")
    index.prepare()
    assert index.about.startswith("exact, 72 codes") and (copied / "lists").is_dir()
    inverted = ImageIndex(copied, kind="inverted")
    assert inverted.about.startswith("inverted, 72 codes of 16 bits in ")
    for found, expected in zip(search_all(all_lists(inverted)), search_all(index), strict=True):
        check_equal(found, expected)


def test_many_images_are_searched_by_lists_once_there_are_some(copied, few_are_many):
    index = ImageIndex(copied)
    assert index.about.startswith("exact, 72 codes") and "`ctxattr prepare`" in index.about
    index.prepare()
    assert index.about.startswith("inverted, 72 codes")
    assert ImageIndex(copied).about == index.about
    assert ImageIndex(copied, kind="exact").about.endswith("recall 1")


def test_lists_stay_of_use_when_images_are_added_and_removed(
    halves, indexes, module, tmp_path, few_are_many
):
    folder = tmp_path / "index"
    index_photographs([str(halves[0])], folder, module)
    before = ImageIndex(folder, kind="exact")
    before.prepare()
    add_photographs(folder, [str(halves[1])])
    gone = [path.name for path in sorted(halves[0].iterdir())[::3]]
    remove_photographs(folder, [f"photos0/{name}" for name in gone])
    after = all_lists(ImageIndex(folder))
    assert len(after) == 72 - len(gone) == 60
    assert after.about.startswith("2 shards, 72 codes of 16 bits; 0: inverted, 36 codes")
    exact = ImageIndex(folder, kind="exact")
    for found, expected in zip(search_all(after), search_all(exact), strict=True):
        check_equal(found, expected)
    for count in (1, 59, 60, 100):  # more than there are, though some were removed
        rows, distances = after.candidates(after.codes[7], count, {})
        expected_rows, expected = exact.candidates(after.codes[7], count, {})
        np.testing.assert_array_equal(distances, expected)
        if count >= 60:
            np.testing.assert_array_equal(rows, expected_rows)
    first = next((folder / "lists").iterdir()).name
    after.prepare()
    assert [path.name for path in (folder / "lists").iterdir()] != [first]
    assert len(list((folder / "lists").iterdir())) == 1
    assert after.about.startswith("inverted, 60 codes")


def test_an_index_that_lost_most_images_still_finds_the_others(copied, few_are_many):
    ImageIndex(copied).prepare()
    everything = ImageIndex(copied, kind="exact")
    names = [image.name for image in everything.store.all_images()]
    remove_photographs(copied, names[:-3])
    left = ImageIndex(copied, kind="inverted")
    all_lists(left)
    rows, _ = left.candidates(everything.codes[0], 2, {})
    assert len(rows) == 2


def test_lists_that_cannot_be_used_are_told(copied, few_are_many):
    with pytest.raises(ValueError, match=r"must have inverted lists.*`ctxattr prepare`"):
        ImageIndex(copied, kind="inverted")
    with pytest.raises(ValueError, match="`kind` must be one of auto, exact, inverted"):
        ImageIndex(copied, kind="fast")
    index = ImageIndex(copied)
    with open_writer(index.store), pytest.raises(ImageIndexError, match="Only one process"):
        index.prepare()
    index.prepare()
    lists = next((copied / "lists").iterdir())
    (lists / "lists.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be whole.*lists\.bin has 0 bytes"):
        ImageIndex(copied)
    assert len(ImageIndex(copied, kind="exact")) == 72


def test_a_killed_preparation_is_no_list(copied, few_are_many, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inverting, "write_about", fail)
        with pytest.raises(KeyboardInterrupt):
            ImageIndex(copied).prepare()
    index = ImageIndex(copied)
    assert index.about.startswith("exact, 72")
    index.prepare()
    assert index.about.startswith("inverted, 72")
    assert len(list((copied / "lists").iterdir())) == 1


def test_the_command_prepares_what_is_large(ctxattr, copied, monkeypatch):  # noqa: F811
    told = ctxattr("prepare", copied)
    assert "exact, 72 codes of 16 bits" in told and not (copied / "lists").exists()
    monkeypatch.setattr(choosing, "EXACT_CODES", 50)
    assert "inverted, 72 codes of 16 bits in " in ctxattr("prepare", copied)
    name = ImageIndex(copied).store.images([3])[3].name
    (found,) = json.loads(ctxattr("search", copied, name, "-k", 5, "--json"))
    assert len(found["results"]) == 5


def test_bits_are_required_of_codes_of_the_right_length(indexes):
    index = ImageIndex(indexes[2])
    with pytest.raises(ValueError, match="as many bytes"):
        index.search(index.codes[0][:1], required={2: True})
