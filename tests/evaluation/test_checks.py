import os
import types

import pytest

from evaluation.checks import MAX_SEED, check_counts, check_positive, check_seed
from evaluation.report import check_folder

NAN, INFINITY = float("nan"), float("inf")


def test_counts_are_named_as_the_user_typed_them():
    config = types.SimpleNamespace(num_images=3, num_rows=0)
    check_counts(config, "num_images", at_least=3)
    with pytest.raises(ValueError, match=r"`--num-rows` must be at least 1\. Received: 0"):
        check_counts(config, "num_images", "num_rows")


@pytest.mark.parametrize("value", [0.0, -1.0, NAN, INFINITY, -INFINITY])
def test_numbers_that_are_not_finite_and_positive_are_refused(value):
    with pytest.raises(ValueError, match="`--peak-tflops` must be a finite number over 0"):
        check_positive(types.SimpleNamespace(peak_tflops=value), "peak_tflops")


def test_what_was_not_given_passes():
    check_positive(types.SimpleNamespace(minutes=None, rate=1e-9), "minutes", "rate")


@pytest.mark.parametrize("seed", [-5, -1, MAX_SEED + 1])
def test_seeds_that_no_draw_can_take_are_refused(seed):
    with pytest.raises(ValueError, match="`--seed` must be between 0 and 2147483647"):
        check_seed(types.SimpleNamespace(seed=seed))


@pytest.mark.parametrize("seed", [0, MAX_SEED])
def test_the_ends_of_the_range_are_seeds(seed):
    check_seed(types.SimpleNamespace(seed=seed))


def test_a_folder_that_can_be_written_is_not_made_yet(tmp_path):
    # It was made before anything else was checked, and stayed when that failed.
    assert check_folder(tmp_path / "deep" / "down") == tmp_path / "deep" / "down"
    assert not list(tmp_path.iterdir())
    (tmp_path / "there").mkdir()
    check_folder(tmp_path / "there")
    assert (tmp_path / "there").is_dir()


def test_a_folder_that_cannot_be_written_fails_before_the_work(tmp_path):
    (tmp_path / "file").write_text("words")
    for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "new" / ("x" * 300)):
        with pytest.raises(ValueError, match="`--out` must be a folder"):
            check_folder(out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match="may write to"):
            check_folder(tmp_path)
    finally:
        tmp_path.chmod(0o700)
