"""A clustering that was interrupted goes on after the last whole stage."""

import numpy as np
import pytest
from sklearn.base import clone

from keras_ctxattr.clustering import DiscriminativeClustering
from keras_ctxattr.clustering import discriminative as discriminative_module
from keras_ctxattr.clustering.alternation import alternate_clusters
from keras_ctxattr.runs import DiskFullError, RunError
from tests.clustering.concepts import TINY, write_concepts
from tests.clustering.test_clustering import WORLD, make_concepts

STAGES = ["seeds", *(f"training-{n:02d}" for n in range(2)), "merged", "training-02", "training-03"]
OPTIONS = {"num_iterations": 2, "num_growths": 2, "normalize": True}


class KilledError(Exception):
    pass


@pytest.fixture
def killed(monkeypatch):
    """Makes the n-th stage fail as it begins, and tells how many began."""
    begun: list[str] = []
    names = ("seed_clusters", "fire_across", "merge_members", "grow_across")
    originals = {name: getattr(discriminative_module, name) for name in names}

    def kill_at(number):
        begun.clear()

        def stage(name):
            def run(*arguments, **options):
                if len(begun) == number:
                    raise KilledError
                begun.append(name)
                return originals[name](*arguments, **options)

            return run

        for name in names:
            monkeypatch.setattr(discriminative_module, name, stage(name))
        return begun

    return kill_at


@pytest.mark.parametrize("growths", [0, 2])
def test_every_interruption_costs_one_stage_and_changes_no_bit(tmp_path, killed, growths):
    vectors, _ = make_concepts()
    clustering = DiscriminativeClustering(**{**OPTIONS, "num_growths": growths})
    whole = clone(clustering).fit(vectors, WORLD)
    num_stages = 4 + max(1, growths)
    told = []
    for number in range(num_stages):
        begun = killed(1 if number else 0)  # each call does one stage more
        with pytest.raises(KilledError):
            clone(clustering).fit(vectors, WORLD, checkpoints=tmp_path)
        assert len(begun) == min(number, 1)
    begun = killed(1)
    resumed = clone(clustering).fit(vectors, WORLD, checkpoints=tmp_path, report=told.append)
    assert len(begun) == 1
    assert told == resumed.history_ == whole.history_
    for name in ("labels_", "classifiers_", "scores_"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    assert resumed.firing_precision_ == whole.firing_precision_
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == sorted(STAGES[:num_stages])


def test_a_clustering_without_clusters_is_kept_too(tmp_path):
    vectors, _ = make_concepts()
    strict = DiscriminativeClustering(firing_threshold=50.0)
    for _ in range(2):
        with pytest.warns(UserWarning, match="No cluster survived"):
            strict.fit(vectors, checkpoints=tmp_path)
    assert (strict.labels_ == -1).all()


@pytest.mark.parametrize("change", ["parameters", "samples", "world", "groups"])
def test_the_stages_of_another_clustering_are_refused(tmp_path, change):
    vectors, _ = make_concepts()
    groups = np.arange(len(vectors))
    DiscriminativeClustering(**OPTIONS).fit(vectors, WORLD, groups=groups, checkpoints=tmp_path)
    options = {**OPTIONS, **({"C": 0.2} if change == "parameters" else {})}
    with pytest.raises(RunError) as caught:
        DiscriminativeClustering(**options).fit(
            vectors[::-1] if change == "samples" else vectors,
            WORLD[::-1] if change == "world" else WORLD,
            groups=groups // 2 if change == "groups" else groups,
            checkpoints=tmp_path,
        )
    assert "goes on with the samples and parameters" in str(caught.value)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_other_devices_go_on_with_the_same_stages(tmp_path, killed):
    vectors, _ = make_concepts()
    DiscriminativeClustering(**OPTIONS).fit(vectors, WORLD, checkpoints=tmp_path)
    begun = killed(0)
    named = DiscriminativeClustering(**OPTIONS, devices=["CPU:0"])
    named.fit(vectors, WORLD, checkpoints=tmp_path)
    assert not begun


@pytest.mark.parametrize("name", ["seeds.npz", "clustering.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    vectors, _ = make_concepts()
    DiscriminativeClustering(**OPTIONS).fit(vectors, WORLD, checkpoints=tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:40])
    with pytest.raises(RunError) as caught:
        DiscriminativeClustering(**OPTIONS).fit(vectors, WORLD, checkpoints=tmp_path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_keeps_the_stages_before(tmp_path, monkeypatch):
    vectors, _ = make_concepts()
    real = np.savez

    def fail(path, **arrays):
        if "merged" in str(path):
            raise OSError(28, "No space left on device")
        real(path, **arrays)

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(DiskFullError, match="the stages before it are kept"):
        DiscriminativeClustering(**OPTIONS).fit(vectors, WORLD, checkpoints=tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == sorted(STAGES[:3])
    assert not list(tmp_path.glob(".*partial*"))


def test_a_run_goes_on_within_a_round_and_leaves_no_stages(tmp_path, killed):
    images = write_concepts(tmp_path / "images", num_images=120)
    run = tmp_path / "run"
    begun = killed(3)
    with pytest.raises(KilledError):
        alternate_clusters([images], run, TINY, rounds=0)
    assert len(list((run / "rounds" / "0" / "clustering").glob("*.npz"))) == 3
    begun = killed(100)
    alternate_clusters([images], run, TINY, rounds=0)
    assert begun == ["merge_members", "grow_across", "grow_across"]
    assert not (run / "rounds" / "0" / "clustering").exists()
