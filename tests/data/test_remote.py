"""Collections at a URL: what is listed there, read in parts, and whose fault a failure is."""

import io
import tarfile

import pytest

from keras_ctxattr.data.manifest import CollectionError, remote
from keras_ctxattr.data.manifest.inspection import load_entry
from keras_ctxattr.data.manifest.remote import StoreError, is_url, list_remote, read_remote

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))


@pytest.fixture
def memory(monkeypatch):
    """Gives the file system of `memory://`, which pauses no longer than it must."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def make_tar(**members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"{name}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_urls_are_told_from_paths_and_data_sets():
    assert is_url("s3://bucket/photos") and is_url("memory://photos")
    assert not any(map(is_url, ("/photos", "photos", "tfds:mnist:train", "a:b")))


def test_objects_and_members_of_archives_are_listed_with_their_places(memory):
    memory.pipe({"/photos/a/one.png": PNG, "/photos/two.tar": make_tar(x=PNG, y=PNG[:20])})
    memory.pipe({"/photos/.hidden/three.png": PNG, "/photos/four.tar.gz": b"zip"})
    found = {entry.key: entry for entry in list_remote("memory://photos")}
    assert sorted(found) == ["a/one.png", "four.tar.gz", "two.tar/x.png", "two.tar/y.png"]
    for key, content in (("a/one.png", PNG), ("two.tar/x.png", PNG), ("two.tar/y.png", PNG[:20])):
        entry = found[key]
        assert read_remote(entry.path, entry.offset, entry.length) == content
    assert found["four.tar.gz"].skip == "unreadable: a compressed archive; store it as .tar"


def test_an_archive_and_an_image_may_be_named_themselves(memory):
    memory.pipe({"/two.tar": make_tar(x=PNG), "/one.png": PNG, "/four.tgz": b"zip"})
    (member,) = list_remote("memory://two.tar")
    (image,) = list_remote("memory://one.png")
    assert (member.key, image.key, image.must_be_image) == ("x.png", "one.png", True)
    with pytest.raises(CollectionError, match="must not be compressed"):
        list(list_remote("memory://four.tgz"))


def test_a_damaged_archive_is_skipped_among_others_and_an_error_by_itself(memory):
    memory.pipe({"/photos/bad.tar": make_tar(x=PNG)[:700], "/photos/one.png": PNG})
    found = {entry.key: entry.skip for entry in list_remote("memory://photos")}
    assert found["one.png"] == "" and "whole, undamaged archive" in found["bad.tar"]
    with pytest.raises(CollectionError, match="whole, undamaged archive"):
        list(list_remote("memory://photos/bad.tar"))


def failing(memory, monkeypatch, name, times, error):
    """Has a method of the file system fail a few times, and gives how often it was called."""
    calls = []
    whole = getattr(type(memory), name)

    def fail(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) <= times:
            raise error
        return whole(self, *arguments, **options)

    monkeypatch.setattr(type(memory), name, fail)
    return calls


def test_a_store_that_fails_for_a_moment_is_asked_again(memory, monkeypatch):
    memory.pipe_file("/one.png", PNG)
    calls = failing(memory, monkeypatch, "cat_file", 2, RuntimeError("reset\nby peer"))
    assert read_remote("memory://one.png", 1, 3) == PNG[1:4] and len(calls) == 3


@pytest.mark.parametrize("error", [RuntimeError("reset\nby peer"), ConnectionError("gone")])
def test_a_store_that_does_not_answer_is_no_reason_to_skip(error, memory, monkeypatch, tmp_path):
    memory.pipe({"/photos/one.png": PNG, "/photos/two.tar": make_tar(x=PNG)})
    entries = list(list_remote("memory://photos"))
    with monkeypatch.context() as patched:
        failing(memory, patched, "cat_file", 99, error)
        with pytest.raises(StoreError, match="must answer") as caught:
            load_entry(entries[0], max_pixels=1000, cache_dir=tmp_path)
    assert "\n" not in str(caught.value) and "memory://" in str(caught.value)
    with monkeypatch.context() as patched:
        failing(memory, patched, "open", 99, error)
        with pytest.raises(StoreError, match=r"must answer.*two\.tar"):
            list(list_remote("memory://photos"))


def test_an_object_that_is_gone_is_skipped(memory, tmp_path):
    memory.pipe({"/photos/one.png": PNG})
    (entry,) = list_remote("memory://photos")
    memory.rm("/photos/one.png")
    facts, _ = load_entry(entry, max_pixels=1000, cache_dir=tmp_path)
    assert facts.skip.startswith("unreadable: ")


def test_an_unknown_store_says_what_to_install(memory):
    with pytest.raises(CollectionError, match="pip install") as caught:
        list(list_remote("nonsense://photos"))
    assert "nonsense://" in str(caught.value) and "\n" not in str(caught.value)
