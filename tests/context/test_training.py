"""A training run: what it leaves, how it resumes, what it refuses."""

import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones.precision import resolve_policy
from keras_ctxattr.context.images import collect_images, explained_changes
from keras_ctxattr.context.recipe import ContextRecipe, build_predictor
from keras_ctxattr.context.training import (
    evaluation_batches,
    export_run,
    load_predictor,
    recipe_of,
    split_run,
    train_context,
)
from keras_ctxattr.data.grids import GridConfig, grid_batches
from keras_ctxattr.data.manifest import CollectionError, Manifest
from keras_ctxattr.runs import Run, RunError, RunWarning
from keras_ctxattr.runs.callbacks import fit_segments
from keras_ctxattr.runs.checkpoints import checkpoint_paths, checkpoint_step

TINY = ContextRecipe(
    backbone="compact",
    backbone_options={"width": 4, "num_features": 16},
    hidden_units=16,
    dropout=0.2,
    grids=GridConfig(images_per_batch=2, patches_per_batch=24, pairs_per_batch=100),
    dtype_policy="float32",
    evaluate_every=4,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight smooth random pictures of different shapes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(8):
        coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (300 + 20 * number, 280), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


def weights_of(folder):
    """All weights and statistics; random layers start afresh in a `.keras` file."""
    model = keras.saving.load_model(folder / "model.keras")
    kept = [v for v in model.variables if not v.path.endswith("seed_generator_state")]
    return [np.array(variable) for variable in kept]


def rows_without_times(folder):
    rows = Run.read(folder).metrics.rows()
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize(
    ("step", "epoch_step", "total", "expected"),
    [
        (0, 0, 10, [4, 8, 10]),
        (3, 3, 10, [4, 8, 10]),
        (8, 0, 10, [10]),
        (7, 3, 8, [8]),
        (9, 1, 10, [10]),
        (10, 2, 10, []),
    ],
)
def test_segments_end_epochs_where_an_uninterrupted_run_does(step, epoch_step, total, expected):
    ends = []
    for num_steps, num_epochs in fit_segments(step, epoch_step, 4, total):
        for _ in range(num_epochs):
            step += num_steps
            ends.append(step)
    assert ends == expected


def test_run_leaves_model_metrics_and_summary(photos, tmp_path):
    summary = train_context([photos], tmp_path / "run", TINY, steps=6, held_out=0.3)
    assert summary["steps"] == 6
    assert 0 < summary["accuracy"] < 1
    assert summary["num_training_images"] + summary["num_held_out_images"] == 8
    assert [row["step"] for row in Run.read(tmp_path / "run").metrics.rows()] == [4, 6]
    assert (tmp_path / "run" / "pictures" / "patches-00000000.png").exists()
    assert recipe_of(Run.read(tmp_path / "run")) == TINY


def test_finished_run_is_not_trained_again(photos, tmp_path):
    first = train_context([photos], tmp_path / "run", TINY, steps=4, held_out=0.3)
    before = (tmp_path / "run" / "model.keras").stat().st_mtime_ns
    assert train_context([photos], tmp_path / "run", TINY, steps=4, held_out=0.3) == first
    assert (tmp_path / "run" / "model.keras").stat().st_mtime_ns == before


def test_run_of_another_recipe_in_the_same_folder_is_refused(photos, tmp_path):
    train_context([photos], tmp_path / "run", TINY, steps=4, held_out=0.3)
    other = dataclasses.replace(TINY, learning_rate=0.5)
    with pytest.raises(RunError, match="learning_rate"):
        train_context([photos], tmp_path / "run", other, steps=4, held_out=0.3)


def test_named_held_out_images_leave_all_others_for_training(photos, tmp_path):
    held_out = [photos / "0.png", photos / "1.png"]
    rest = [photos / f"{number}.png" for number in range(2, 8)]
    summary = train_context(rest, tmp_path / "run", TINY, steps=1, held_out_images=held_out)
    assert (summary["num_training_images"], summary["num_held_out_images"]) == (6, 2)
    training, tested = split_run(Run.read(tmp_path / "run"))
    assert not set(training.digests) & set(tested.digests)


def test_minutes_end_a_run_and_count_across_resumes(photos, tmp_path):
    first = train_context([photos], tmp_path / "run", TINY, minutes=1e-4, held_out=0.3)
    assert first["steps"] == 1
    limit = first["seconds"] / 60 + 0.02
    longer = train_context([photos], tmp_path / "run", TINY, minutes=limit, held_out=0.3)
    assert longer["seconds"] >= 60 * limit > first["seconds"]
    assert longer["steps"] > first["steps"]


def test_steps_and_minutes_together_are_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="not both"):
        train_context([photos], tmp_path / "run", TINY, steps=4, minutes=1)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"seed": -1}, r"`seed` must be from 0 to 2\*\*31 - 1. Received: seed=-1"),
        ({"seed": 2**31}, "Received: seed=2147483648"),
        ({"held_out": 2.0}, "`held_out` must lie between 0 and 1. Received: held_out=2.0"),
        ({"held_out": float("nan")}, "Received: held_out=nan"),
        ({"minutes": float("inf")}, "`minutes` a finite number over 0. Received: .*minutes=inf"),
        ({"minutes": float("nan")}, "minutes=nan"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_bad_number_is_told_by_its_name_before_anything_is_written(tmp_path, numbers, message):
    """`--minutes inf` was told as "Out of range float values are not JSON compliant"."""
    with pytest.raises(ValueError, match=message):
        train_context(["nowhere"], tmp_path / "run", TINY, **numbers)
    assert not list(tmp_path.iterdir())


def make_one_photograph(folder):
    cv2.imwrite(str(folder / "a.png"), np.full((300, 300, 3), 9, np.uint8))


def make_small_photographs(folder):
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 40, 3), number, np.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder.rmdir(), "must exist"),
        (lambda folder: None, "empty"),
        (make_one_photograph, "At least two different usable images"),
        (make_small_photographs, "usable to learn from.* with 3 too small"),
    ],
)
def test_failed_start_leaves_the_run_folder_to_the_corrected_command(tmp_path, make, message):
    """A wrong --images left a config.json, which refused the right one."""
    (tmp_path / "wrong").mkdir()
    make(tmp_path / "wrong")
    with pytest.raises(CollectionError, match=message) as caught:
        train_context([tmp_path / "wrong"], tmp_path / "runs" / "run", TINY, steps=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_scan_is_told_in_a_line(photos, tmp_path, capsys):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "notes.txt").write_text("words")
    looked_at = []
    config = {"held_out_images": [], "held_out": 0.3}
    with Run.open(tmp_path / "run", config, kind="context") as run:
        collect_images(run, [folder], [], TINY.grids, lambda *counts: looked_at.append(counts))
        assert re.fullmatch(
            r"\d photographs to learn from, \d held out; skipped: 1 duplicate, 1 not an image "
            r"\(`ctxattr check` lists them\)\.\n",
            capsys.readouterr().err,
        )
        assert looked_at[-1] == (10, 10)
        collect_images(run, [folder], [], TINY.grids)  # a later start reads what this one found
        assert capsys.readouterr().err == ""


class At(keras.callbacks.Callback):
    """Does something after a step."""

    def __init__(self, step, do):
        super().__init__()
        self.step, self.do = step, do

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self.step:
            self.do()


def remove_photographs(folder):
    for path in folder.iterdir():
        path.unlink()


def break_photographs(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:200].ljust(path.stat().st_size, b"?"))


def check_told(message, words):
    assert re.search(words, message)
    assert "restore what changed" in message and "new run folder" in message
    assert "\n" not in message and "function_node" not in message


def test_photographs_that_change_while_it_trains_are_told_in_one_line(photos, tmp_path):
    """It was `{{function_node ...}} Error in user-defined function passed to ...`."""
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    spoil = At(2, lambda: break_photographs(folder))
    with pytest.raises(CollectionError) as caught:
        train_context([folder], tmp_path / "run", TINY, steps=60, held_out=0.3, callbacks=[spoil])
    check_told(str(caught.value), r"\d\.png has other content \(")
    assert Run.read(tmp_path / "run").path.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [(remove_photographs, r"\d\.png is gone \("), (break_photographs, "has other content")],
)
def test_photographs_that_change_before_it_trains_are_told_in_one_line(
    photos, tmp_path, change, words
):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    config = {"held_out_images": [], "held_out": 0.3}
    with Run.open(tmp_path / "run", config, kind="context") as run:
        training, tested = collect_images(run, [folder], [], TINY.grids)
        change(folder)
        with pytest.raises(CollectionError) as caught, explained_changes(run, training, tested):
            next(iter(grid_batches(training, TINY.grids, num_steps=1)))
    check_told(str(caught.value), words)


def test_error_of_the_training_itself_is_not_blamed_on_the_photographs(tmp_path):
    error = tf.errors.ResourceExhaustedError(None, None, "OOM [[IteratorGetNext/_4]]")
    with (
        Run.open(tmp_path / "run", {}, kind="context") as run,
        pytest.raises(tf.errors.ResourceExhaustedError),
        explained_changes(run),
    ):
        raise error


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_context([photos], folder, TINY, steps=4, held_out=0.3)
    return folder


def test_damaged_model_is_replaced_by_the_checkpoint_of_its_step(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    path = folder / "model.keras"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.warns(RunWarning, match="damaged: its checkpoint of step 4"):
        model = load_predictor(folder)
    whole = load_predictor(finished)
    for ours, theirs in zip(model.weights, whole.weights, strict=True):
        if not ours.path.endswith("seed_generator_state"):
            np.testing.assert_array_equal(ours, theirs)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(RunError, match=r"model\.keras is damaged, and .* no whole checkpoint"):
        load_predictor(folder)


def test_export_says_what_the_run_reached(finished, tmp_path):
    export_run(finished, tmp_path / "module")
    described = json.loads((tmp_path / "module" / "module.json").read_text())
    summary = Run.read(finished).summary
    assert described["metrics"] == {
        "held_out_accuracy": summary["accuracy"],
        "held_out_loss": summary["loss"],
        "step": 4,
    }
    assert described["config"] == Run.read(finished).config
    assert described["trained_on"] == {
        "images": Run.read(finished).config["images"],
        "num_training_images": summary["num_training_images"],
        "num_held_out_images": summary["num_held_out_images"],
    }


def test_rows_count_the_scales_that_were_drawn_again(finished):
    """They were counted in every batch and read by nobody."""
    training, _ = split_run(Run.read(finished))
    counts = [int(batch["redraws"]) for batch in grid_batches(training, TINY.grids, num_steps=4)]
    assert Run.read(finished).metrics.rows()[-1]["redraws"] == pytest.approx(np.mean(counts))


def test_model_of_an_unfinished_run_comes_from_its_checkpoint(photos, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    recipe = dataclasses.replace(TINY, checkpoint_minutes=1e-6)
    with pytest.raises(KeyboardInterrupt):
        train_context([photos], tmp_path / "run", recipe, steps=8, held_out=0.3, callbacks=[Stop()])
    assert not (tmp_path / "run" / "model.keras").exists()
    model = load_predictor(tmp_path / "run")
    checkpoint = Run.read(tmp_path / "run").latest_checkpoint()
    first = build_predictor(recipe, seed=0)
    assert checkpoint.step > 0
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(model.trainable_variables, first.trainable_variables, strict=True)
    ]
    assert all(changed)


def test_model_of_an_extended_run_is_not_the_one_of_its_first_end(photos, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if self.model.optimizer.iterations >= 8:
                raise KeyboardInterrupt

    recipe = dataclasses.replace(TINY, checkpoint_minutes=1e-6)
    train_context([photos], tmp_path / "run", recipe, steps=4, held_out=0.3)
    with pytest.raises(KeyboardInterrupt):
        train_context([photos], tmp_path / "run", recipe, steps=9, held_out=0.3, callbacks=[Stop()])
    before = keras.saving.load_model(tmp_path / "run" / "model.keras")
    after = load_predictor(tmp_path / "run")
    assert not np.array_equal(before.head.fc9.kernel, after.head.fc9.kernel)


def test_evaluation_shows_every_image_once_with_the_same_number_of_pairs(photos):
    from keras_ctxattr.data.manifest import scan_images

    manifest = scan_images([photos])
    batches = list(evaluation_batches(manifest, GridConfig(), pairs_per_image=64))
    assert len(batches) == 8
    assert all(int(np.sum(batch["pair_mask"])) == 64 for batch in batches)
    shapes = {tuple(batch["canvases"].numpy().ravel()[:3000:7]) for batch in batches}
    assert len(shapes) == 8


def test_learning_rate_rises_then_falls_to_zero():
    recipe = ContextRecipe(learning_rate=0.1, warmup=0.1)
    assert 0 < recipe.rate_at(0.0) < recipe.rate_at(0.05) < recipe.rate_at(0.1) == 0.1
    assert recipe.rate_at(0.55) == pytest.approx(0.05)
    assert recipe.rate_at(1.0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("field", ["backbone", "optimizer", "decay"])
def test_unknown_name_in_a_recipe_lists_the_known_ones(field):
    with pytest.raises(ValueError, match=rf"`{field}` must be one of .*Received: {field}='nosuch'"):
        ContextRecipe(**{field: "nosuch"})


def test_auto_policy_is_one_that_this_machine_computes_in():
    assert resolve_policy("auto") in ("float32", "mixed_bfloat16")
    assert resolve_policy("mixed_float16") == "mixed_float16"


def test_building_a_model_leaves_the_global_policy_alone():
    model = build_predictor(dataclasses.replace(TINY, dtype_policy="mixed_bfloat16"))
    assert keras.config.dtype_policy().name == "float32"
    assert model.backbone.get_layer("conv1").compute_dtype == "bfloat16"


NUM_STEPS = 60
SCRIPT = f"""
import sys
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
import dataclasses
from tests.context.test_training import TINY
from keras_ctxattr.context.training import train_context
recipe = dataclasses.replace(TINY, checkpoint_minutes=1e-6)  # a checkpoint after every step
train_context([sys.argv[1]], sys.argv[2], recipe, steps={NUM_STEPS}, held_out=0.3)
"""


def start(photos, folder):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path.cwd())}
    errors = (folder.parent / f"{folder.name}.txt").open("ab")
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(photos), str(folder)], env=environment, stderr=errors
    )


def newest_step(folder):
    return max(map(checkpoint_step, checkpoint_paths(folder / "checkpoints")), default=0)


def kill_at(photos, folder, step, delay):
    """Starts or resumes a run and kills it soon after a step; gives its newest checkpoint's."""
    process = start(photos, folder)
    while newest_step(folder) < step and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    assert process.poll() is None, (folder.parent / f"{folder.name}.txt").read_text()[-2000:]
    process.send_signal(signal.SIGKILL)
    process.wait()
    return newest_step(folder)


def kill_until_finished(photos, folder, num_kills, seed=0):
    """Kills a run at random steps, waiting for each, however slow the machine; gives the steps."""
    draws = random.Random(seed)
    reached = [0]
    # Up to a few steps before the end, which must not come before the kill.
    for step in sorted(draws.sample(range(1, NUM_STEPS - 8), num_kills)):
        if reached[-1] >= NUM_STEPS - 8:
            break
        # The last kill may have come after this step: then after the next one.
        wanted = max(step, reached[-1] + 1)
        reached.append(kill_at(photos, folder, wanted, delay=draws.uniform(0, 0.03)))
    start(photos, folder).wait()
    assert (folder / "summary.json").exists()
    return reached[1:]


@pytest.mark.slow
def test_killed_run_ends_with_the_weights_of_one_that_was_not(photos, tmp_path):
    """The kills were drawn by time: on a busy machine all of them came before any checkpoint."""
    num_kills = int(os.environ.get("CTXATTR_KILLS", "2"))
    start(photos, tmp_path / "whole").wait()
    assert (tmp_path / "whole" / "summary.json").exists()
    steps = kill_until_finished(photos, tmp_path / "killed", num_kills)
    assert all(0 < step < NUM_STEPS for step in steps), steps
    assert len(set(steps)) >= min(3, num_kills), steps
    errors = (tmp_path / "killed.txt").read_text()
    told = [int(step) for step in re.findall(r"Going on from step (\d+)\.", errors)]
    assert told == steps
    expected, received = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert all(np.array_equal(a, b) for a, b in zip(expected, received, strict=True))
    assert rows_without_times(tmp_path / "killed") == rows_without_times(tmp_path / "whole")
    assert isinstance(Manifest.load(tmp_path / "killed" / "images.sqlite"), Manifest)
