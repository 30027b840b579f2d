"""The commands of `ctxattr` over an index: what is printed, as text, as JSON, as a picture."""

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_ctxattr import cli
from keras_ctxattr.search import ImageIndex, index_photographs


@pytest.fixture(scope="module")
def indexed(photographs, module, tmp_path_factory):
    """Gives an index that no test changes."""
    target = tmp_path_factory.mktemp("indexes") / "index"
    index_photographs([str(photographs)], target, module)
    return target


@pytest.fixture
def ctxattr(monkeypatch, capfd, tmp_path):
    """Gives a function that runs a command as the shell does, and gives what it printed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["ctxattr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capfd.readouterr()
        assert int(stop.value.code or 0) == code, captured.err
        return captured.out if code == 0 else captured.err

    return run


@pytest.fixture
def few(photographs, tmp_path):
    """Gives a folder of three photographs and one damaged file."""
    (tmp_path / "few").mkdir()
    for source in sorted(photographs.rglob("*.png"))[:3]:
        shutil.copy(source, tmp_path / "few")
    (tmp_path / "few/bad.jpg").write_bytes(b"words")
    return tmp_path / "few"


def names(index):
    return [image.name for image in ImageIndex(index).store.all_images()]


def is_picture(path):
    return cv2.imread(str(path)).std() > 10


def test_index_add_and_remove_say_what_they_did(ctxattr, few, module, photographs, tmp_path):
    # The folder of `ctxattr learn` has its module in `attributes`.
    shutil.copytree(module, tmp_path / "learnt/attributes/module")
    out = tmp_path / "index"
    told = ctxattr("index", few, "--module", tmp_path / "learnt", "--out", out).splitlines()
    assert told[0].startswith("skipped few/bad.jpg: unreadable")
    assert "3 described, 0 copied, 0 unchanged, 0 removed, 1 skipped" in told[-1]
    assert len(told) == 2
    other = sorted(photographs.rglob("*.png"))[5]
    report = json.loads(ctxattr("add", out, other, "--json"))
    assert (report["described"], report["skipped"]) == (1, 1)
    assert report["skipped_files"][0]["name"] == "few/bad.jpg"
    next(few.glob("*.png")).unlink()
    again = json.loads(ctxattr("index", few, "--module", out, "--out", out, "--json"))
    assert (again["unchanged"], again["removed"]) == (2, 1)
    assert "1 images removed" in ctxattr("remove", out, other.name)
    assert len(names(out)) == 2
    wrong = ctxattr("remove", out, "nothing/*", code=cli.ERROR_CODE)
    assert wrong.startswith("ctxattr: What is to be removed") and wrong.count("\n") == 1


def test_info_of_an_index_and_of_a_module(ctxattr, indexed, module):
    report = json.loads(ctxattr("info", indexed, "--json"))
    assert report["num_images"] == 72 and report["module"]["num_features"] == 16
    told = ctxattr("info", indexed)
    assert "72, of 72 different bytes" in told and "72 as photos/ of" in told
    assert json.loads(ctxattr("info", module, "--json"))["module_folder"] == str(module)
    assert "16 features" in ctxattr("info", module)


def test_a_name_is_not_its_own_result_and_a_file_is(ctxattr, indexed, photographs):
    name = names(indexed)[4]
    (by_name,) = json.loads(ctxattr("search", indexed, name, "-k", "5", "--json"))
    (by_file,) = json.loads(
        ctxattr("search", indexed, photographs.parent / name, "-k", "6", "--json")
    )
    assert name not in [one["name"] for one in by_name["results"]]
    assert len(by_name["results"]) == 5
    own = next(one for one in by_file["results"] if one["name"] == name)
    assert own["distance"] == 0 and own["path"] == str(photographs.parent / name)
    assert own["similarity"] == pytest.approx(1, abs=2e-3)


def test_bits_are_required_and_forbidden(ctxattr, indexed):
    opened = ImageIndex(indexed)
    bits = np.unpackbits(opened.codes, axis=1)
    name = names(indexed)[4]
    flags = ("--bit", 2, "--bit", "-5", "-k", 100, "--json")
    (found,) = json.loads(ctxattr("search", indexed, name, *flags))
    expected = {one for one, row in zip(names(indexed), bits, strict=True) if row[2] and not row[5]}
    assert {one["name"] for one in found["results"]} == expected - {name} != set()
    wrong = ctxattr("search", indexed, name, "--bit", "16", code=cli.ERROR_CODE)
    assert "must be 0 to 15" in wrong


def test_search_and_explain_as_text_and_as_pictures(ctxattr, indexed, tmp_path):
    first, second = names(indexed)[4:6]
    told = ctxattr("search", indexed, first, second, "-k", 3).splitlines()
    assert len(told) == 8 and told[0].startswith(first) and told[4].startswith(second)
    ctxattr("search", indexed, first, second, "--sheet", tmp_path / "found.png")
    assert is_picture(tmp_path / "found.png")
    told = ctxattr("explain", indexed, first, "-k", 4).splitlines()
    assert len(told) == 5 and "set" in told[1]
    report = json.loads(ctxattr("explain", indexed, first, "--json"))
    strengths = [one["strength"] for one in report["attributes"]]
    assert len(strengths) == 8 and strengths == sorted(strengths, reverse=True)
    ctxattr("explain", indexed, first, "--sheet", tmp_path / "why.png")
    assert is_picture(tmp_path / "why.png")


def test_duplicates_and_outliers(ctxattr, few, module, tmp_path):
    shutil.copy(next(few.glob("*.png")), few / "same.png")
    index_photographs([str(few)], tmp_path / "index", module)
    (group,) = json.loads(ctxattr("duplicates", tmp_path / "index", "--similarity", 2, "--json"))
    assert group["kind"] == "equal" and len(group["images"]) == 2
    told = ctxattr("duplicates", tmp_path / "index", "--similarity", 2).splitlines()
    assert told[0] == "equal bytes" and told[-1].startswith("1 groups; 1 images beside")
    sheet = tmp_path / "sheet.png"
    ctxattr("duplicates", tmp_path / "index", "--similarity", 2, "--sheet", sheet)
    assert is_picture(sheet)
    assert len(json.loads(ctxattr("outliers", tmp_path / "index", "-k", 3, "--json"))) == 3
    assert len(ctxattr("outliers", tmp_path / "index", "-k", 2).splitlines()) == 2
    ctxattr("outliers", tmp_path / "index", "--sheet", tmp_path / "odd.png")
    assert is_picture(tmp_path / "odd.png")


def test_vectors_are_exported(ctxattr, indexed, tmp_path):
    told = ctxattr("export-vectors", indexed, "--out", tmp_path / "out")
    assert "codes.npy, images.csv, vectors.npy: 72 images" in told
    assert np.load(tmp_path / "out/vectors.npy").shape == (72, 16)
    wrong = ctxattr(
        "export-vectors", indexed, "--out", tmp_path / "x", "--format", "xml", code=cli.ERROR_CODE
    )
    assert "`format` must be one of" in wrong


def test_compare_writes_results_and_a_picture(ctxattr, photographs, module, tmp_path):
    kept = tmp_path / "photos"
    for source in sorted(photographs.rglob("*.png"))[::3]:
        target = kept / source.relative_to(photographs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    out = tmp_path / "out"
    flags = ("--module", module, "--module", "untrained", "--labels", "folders", "--out", out)
    # Six classes of four photographs: too few for five examples of each.
    wrong = ctxattr("compare", kept, *flags, code=cli.ERROR_CODE)
    assert "more than 5 photographs" in wrong and not out.exists()
    told = ctxattr("compare", kept, *flags, "--shots", 2)
    assert (
        "accuracy of 2 shot" in told
        and "chance, 6 classes" in told
        and "neighbours in common" in told
    )
    results = json.loads((out / "results.json").read_text())
    assert {"knn_accuracy", "accuracy_of_2_shot"} <= set(results["networks"]["untrained"])
    assert set(results["networks"]) == {Path(module).name, "untrained"}
    assert results["num_images"] == 24 and "protocol" in results and "versions" in results
    assert is_picture(out / "neighbours.png")
