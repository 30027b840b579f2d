"""Queries, explanations, duplicates and outliers of an index of real files."""

import csv
import dataclasses
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_ctxattr.attributes import hamming
from keras_ctxattr.search import (
    ImageIndex,
    ImageIndexError,
    explain,
    export_vectors,
    find_duplicates,
    find_outliers,
    find_query,
    index_photographs,
    remove_photographs,
    summarize_index,
)
from keras_ctxattr.search.describing import UndecodableError
from keras_ctxattr.search.pixels import UnavailableError, read_pixels
from keras_ctxattr.search.sheets import (
    TILE,
    duplicates_sheet,
    explanation_sheet,
    outliers_sheet,
    search_sheet,
)


@pytest.fixture(scope="module")
def index(photographs, module, tmp_path_factory):
    """Gives an index that no test changes."""
    target = tmp_path_factory.mktemp("indexes") / "index"
    index_photographs([str(photographs)], target, module)
    return ImageIndex(target)


@pytest.fixture
def folder(photographs, tmp_path):
    """Gives copies of 18 photographs that a test may change."""
    (tmp_path / "photos").mkdir()
    for source in sorted(photographs.rglob("*.png"))[::4]:
        shutil.copy(source, tmp_path / "photos")
    return tmp_path / "photos"


def name_of(index, row):
    return index.store.images([int(index.ids[row])])[int(index.ids[row])].name


def re_encode(source, target, *, quality=50, scale=1.0):
    pixels = cv2.imread(str(source))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(target), small, [cv2.IMWRITE_JPEG_QUALITY, quality])


# --- Queries ---


def test_a_name_and_its_file_are_described_alike(index, photographs):
    name = name_of(index, 5)
    named = find_query(index, name)
    filed = find_query(index, str(photographs.parent / name))
    assert named.image is not None and named.image.name == name
    assert filed.image is None
    np.testing.assert_array_equal(named.description.code, filed.description.code)
    np.testing.assert_allclose(named.description.vector, filed.description.vector, atol=1e-3)
    np.testing.assert_array_equal(named.pixels(), filed.pixels())


def test_a_file_goes_before_a_name_unless_it_is_the_same(index, photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(photographs.parent)
    name = name_of(index, 5)
    assert find_query(index, name).image is not None  # the very file that was indexed
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(parents=True)
    shutil.copy(photographs.parent / name_of(index, 6), name)
    found = find_query(index, name)
    assert found.image is None
    np.testing.assert_array_equal(found.description.code, index.codes[6])


def test_a_query_may_be_of_a_format_that_tensorflow_does_not_read(
    index, photographs, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cv2.imwrite(str(tmp_path / ".a.tif"), cv2.imread(str(photographs.parent / name_of(index, 3))))
    found = find_query(index, str(tmp_path / ".a.tif"))
    np.testing.assert_array_equal(found.description.code, index.codes[3])


def test_what_is_no_query_is_told(index, tmp_path):
    with pytest.raises(ImageIndexError, match="which is neither"):
        find_query(index, "photos/none.png")
    (tmp_path / "a.jpg").write_bytes(b"words")
    with pytest.raises(UndecodableError, match=r"a\.jpg: unreadable"):
        find_query(index, str(tmp_path / "a.jpg"))


def test_pixels_are_read_from_archives_upright(module, tmp_path):
    from PIL import Image

    noise = cv2.resize(np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8), (70, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = Image.fromarray(noise).transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "a.png", exif=exif)
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "below/a.png")
    index_photographs([str(tmp_path / "photos.tar")], tmp_path / "index", module)
    (image,) = ImageIndex(tmp_path / "index").store.all_images()
    np.testing.assert_array_equal(read_pixels(image), noise)


def test_a_file_that_is_gone_or_changed_is_a_tile_with_a_note(folder, module, tmp_path):
    index_photographs([str(folder)], tmp_path / "index", module)
    opened = ImageIndex(tmp_path / "index")
    query = find_query(opened, name_of(opened, 0))
    own = [query.image.image_id]
    matches = opened.search(
        query.description.code, query.description.vector, count=12, leave_out=own
    )
    whole = search_sheet([query], [matches])
    gone, changed = (Path(match.image.place.path) for match in matches[1:3])
    gone.unlink()
    changed.write_bytes(Path(matches[4].image.place.path).read_bytes())
    with pytest.raises(UnavailableError, match="gone"):
        read_pixels(matches[1].image)
    with pytest.raises(UnavailableError, match="changed"):
        read_pixels(matches[2].image)
    sheet = search_sheet([query], [matches])
    assert sheet.shape == whole.shape
    # [row, column]: two rows of results, of which the first has ten
    assert sheet.shape[0] > 2 * TILE and sheet.shape[1] > 11 * TILE
    differs = np.abs(sheet.astype(int) - whole).max(axis=(0, 2)) > 0
    columns = np.flatnonzero(differs)
    assert len(columns) and columns.max() - columns.min() < 2.2 * TILE


# --- Explanations ---


def test_strength_and_share_are_those_of_the_whole_index(index):
    query = find_query(index, name_of(index, 7))
    found = explain(index, query.description, num_examples=4)
    assert sorted(one.bit for one in found) == list(range(16))
    scores = index.scores()
    bits = np.unpackbits(index.codes, axis=1)
    for one in found:
        column = scores[:, one.bit]
        side = 1 if one.is_set else -1
        assert one.is_set == bool(bits[7, one.bit])
        assert one.share == pytest.approx(bits[:, one.bit].mean())
        expected = side * (column[7] - column.mean()) / column.std()
        assert one.strength == pytest.approx(expected, abs=1e-3)
        order = np.argsort(-side * column, kind="stable")
        assert [image.image_id for image in one.examples] == index.ids[order[:4]].tolist()
        farthest = sorted((side * column)[:].tolist())[:4]
        rows = index.rows_of([image.image_id for image in one.opposites])
        assert (side * column[rows]).tolist() == farthest
    strengths = [one.strength for one in found]
    assert strengths == sorted(strengths, reverse=True)


def test_examples_are_the_same_read_in_chunks(index, monkeypatch):
    description = find_query(index, name_of(index, 7)).description
    whole = explain(index, description, num_examples=3, leave_out=[int(index.ids[7])])
    monkeypatch.setattr("keras_ctxattr.search.explaining._CHUNK", 10)
    parts = explain(index, description, num_examples=3, leave_out=[int(index.ids[7])])
    for one, other in zip(whole, parts, strict=True):
        assert [image.name for image in one.examples] == [image.name for image in other.examples]
        assert len(one.opposites) == len(other.opposites) == 3
        assert int(index.ids[7]) not in {image.image_id for image in one.examples}


def test_explanation_sheet_has_a_row_an_attribute(index):
    query = find_query(index, name_of(index, 7))
    sheet = explanation_sheet(query, explain(index, query.description, count=3))
    assert 3 * TILE < sheet.shape[0] < 4 * TILE
    assert sheet.shape[1] > 13 * TILE


# --- Duplicates ---


@pytest.fixture
def copies(tmp_path):
    """Gives a folder of 20 smooth pictures, with three copies of every 8th."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(20):
        coarse = generator.integers(0, 255, (generator.integers(3, 12), 5, 3), np.uint8)
        source = tmp_path / f"photos/{number}.png"
        cv2.imwrite(str(source), cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC))
        if number % 8 == 0:
            re_encode(source, tmp_path / f"photos/{number}_quality.jpg")
            re_encode(source, tmp_path / f"photos/{number}_half.jpg", quality=95, scale=0.5)
            shutil.copy(source, tmp_path / f"photos/{number}_same.png")
    return tmp_path / "photos"


def stems(groups):
    return sorted(sorted(Path(image.name).stem for image in group.images) for group in groups)


def test_copies_are_found_and_nothing_else(copies, module, tmp_path):
    index_photographs([str(copies)], tmp_path / "index", module)
    opened = ImageIndex(tmp_path / "index")
    groups = find_duplicates(opened)
    ends = ("", "_half", "_quality", "_same")
    expected = [sorted(f"{number}{end}" for end in ends) for number in (0, 8, 16)]
    assert stems(groups) == sorted(expected)
    for group in groups:
        assert not group.is_equal
        assert group.images[-1].name.endswith("_half.jpg")  # the smallest is last
    equal = find_duplicates(opened, similarity=2)
    assert [group.is_equal for group in equal] == [True] * 3
    assert all({Path(i.name).suffix for i in group.images} == {".png"} for group in equal)
    sheet = duplicates_sheet(groups)
    assert sheet.shape[0] > 3 * TILE and sheet.shape[1] > 4 * TILE


def test_unconfirmed_look_alikes_count_where_features_alone_are_asked(index):
    assert find_duplicates(index, similarity=0.0) == []
    loose = find_duplicates(index, similarity=0.0, confirm=False)
    assert max(len(group.images) for group in loose) > 20
    bounded = find_duplicates(index, similarity=0.0, distance=0, confirm=False)
    for group in bounded:
        rows = index.rows_of([image.image_id for image in group.images])
        assert hamming(index.codes[rows], index.codes[rows]).max() == 0  # joined by equal codes
    assert sum(len(group.images) for group in bounded) < sum(len(group.images) for group in loose)


def test_copies_whose_files_are_gone_are_judged_by_features(copies, module, tmp_path):
    index_photographs([str(copies)], tmp_path / "index", module)
    before = find_duplicates(ImageIndex(tmp_path / "index"), similarity=0.9, confirm=False)
    shutil.rmtree(copies)
    assert find_duplicates(ImageIndex(tmp_path / "index"), similarity=0.9) == before != []


def test_an_index_without_vectors_finds_copies_too(copies, module, tmp_path):
    index_photographs([str(copies)], tmp_path / "index", module, keep_vectors=False)
    groups = find_duplicates(ImageIndex(tmp_path / "index"))
    assert [len(group.images) for group in groups] == [4, 4, 4]


@pytest.mark.parametrize("wrong", [{"distance": -1}, {"similarity": float("nan")}])
def test_impossible_bounds_are_refused(index, wrong):
    with pytest.raises(ValueError, match="must be"):
        find_duplicates(index, **wrong)


def test_an_empty_index_has_no_duplicates_and_no_outliers(index, module, tmp_path):
    from keras_ctxattr.search.store import IndexStore

    IndexStore.create(tmp_path / "index", module, keep_vectors=True)
    empty = ImageIndex(tmp_path / "index")
    assert find_duplicates(empty) == []
    with pytest.raises(ValueError, match="at least 2 images"):
        find_outliers(empty)
    with pytest.raises(ValueError, match="empty"):
        explain(empty, find_query(index, name_of(index, 0)).description)


# --- Outliers ---


def test_what_is_unlike_all_comes_first(folder, module, tmp_path):
    cv2.imwrite(str(folder / "odd.png"), np.full((32, 32, 3), (0, 0, 255), np.uint8))
    index_photographs([str(folder)], tmp_path / "index", module)
    found = find_outliers(ImageIndex(tmp_path / "index"), count=5)
    assert found[0].image.name == "photos/odd.png"
    assert found[0].similarity < found[1].similarity <= found[4].similarity
    assert all(one.nearest.name != one.image.name for one in found)
    assert outliers_sheet(found).shape[1] > 5 * TILE


# --- Export ---


def read_table(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def test_every_format_has_the_same_rows_in_one_order(index, tmp_path):
    import faiss
    import pyarrow.parquet as pq

    for kind in ("npy", "parquet", "faiss"):
        export_vectors(index, tmp_path / kind, kind)
    vectors = np.load(tmp_path / "npy/vectors.npy")
    codes = np.load(tmp_path / "npy/codes.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, index.vectors(), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(codes, index.codes)
    rows = read_table(tmp_path / "npy/images.csv")
    assert [int(row["id"]) for row in rows] == index.ids.tolist()
    assert [row["name"] for row in rows] == [name_of(index, row) for row in range(len(index))]
    assert all(Path(row["path"]).stat().st_size == int(row["length"]) for row in rows)
    table = pq.read_table(tmp_path / "parquet/images.parquet").to_pydict()
    assert table["name"] == [row["name"] for row in rows]
    np.testing.assert_array_equal(np.array(table["vector"], np.float32), vectors)
    assert b"".join(table["code"]) == codes.tobytes()
    assert read_table(tmp_path / "faiss/images.csv") == rows
    similar = faiss.read_index(str(tmp_path / "faiss/vectors.faiss"))
    np.testing.assert_array_equal(similar.reconstruct_n(0, len(index)), vectors)
    np.testing.assert_allclose(similar.search(vectors[:9], 1)[0], 1, atol=1e-6)
    near = faiss.read_index_binary(str(tmp_path / "faiss/codes.faiss"))
    assert (near.search(codes, 1)[0] == 0).all() and near.ntotal == len(index)


def test_names_that_are_no_unicode_survive(photographs, module, tmp_path):
    import pyarrow.parquet as pq

    (tmp_path / "photos").mkdir()
    source = next(photographs.rglob("*.png"))
    shutil.copy(source, tmp_path / 'photos/caf\udce9,\n"x".png')
    index_photographs([str(tmp_path / "photos")], tmp_path / "index", module)
    opened = ImageIndex(tmp_path / "index")
    export_vectors(opened, tmp_path / "npy")
    export_vectors(opened, tmp_path / "parquet", "parquet")
    (row,) = read_table(tmp_path / "npy/images.csv")
    assert row["name"] == 'photos/caf\udce9,\n"x".png'
    table = pq.read_table(tmp_path / "parquet/images.parquet").to_pydict()
    assert table["name"] == ['photos/caf\\xe9,\n"x".png']


def test_nothing_is_written_over_or_left_by_halves(index, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="new or empty folder"):
        export_vectors(index, tmp_path / "out")
    with pytest.raises(ValueError, match="must be one of"):
        export_vectors(index, tmp_path / "other", "xml")

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="no space"):
        export_vectors(index, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_vectors_codes_are_exported_alone(photographs, module, tmp_path):
    index_photographs([str(photographs)], tmp_path / "index", module, keep_vectors=False)
    opened = ImageIndex(tmp_path / "index")
    assert export_vectors(opened, tmp_path / "npy") == ["codes.npy", "images.csv"]
    assert export_vectors(opened, tmp_path / "faiss", "faiss") == ["codes.faiss", "images.csv"]


# --- Summary ---


def test_summary_counts_what_is_there(folder, module, tmp_path):
    (folder / "bad.jpg").write_bytes(b"words")
    shutil.copy(next(folder.rglob("*.png")), folder / "copy.png")
    index_photographs([str(folder)], tmp_path / "index", module)
    found = summarize_index(tmp_path / "index")
    assert (found["num_images"], found["num_distinct"]) == (19, 18)
    assert found["formats"] == {"png": 19}
    assert found["sources"] == [{"place": str(folder), "label": "photos", "num_images": 19}]
    assert [file["name"] for file in found["skipped"]] == ["photos/bad.jpg"]
    assert found["bytes"]["codes"] >= 2 * 19 and found["bytes"]["module"] > 10_000
    total = sum(path.stat().st_size for path in (tmp_path / "index").rglob("*") if path.is_file())
    assert sum(found["bytes"].values()) == total


def test_a_search_skips_what_was_removed_meanwhile(folder, module, tmp_path):
    index_photographs([str(folder)], tmp_path / "index", module)
    opened = ImageIndex(tmp_path / "index")
    image = find_query(opened, name_of(opened, 0)).image
    remove_photographs(opened.store.folder, [name_of(opened, 1)])
    opened.refresh()
    with pytest.raises(ImageIndexError, match="changed in the meantime"):
        from keras_ctxattr.search.queries import describe_indexed

        describe_indexed(opened, dataclasses.replace(image, image_id=999))
