"""A training run: what it leaves, how it resumes, what it refuses."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from keras_ctxattr.context.recipe import ContextRecipe, build_predictor, resolve_policy
from keras_ctxattr.context.training import (
    _segments,
    evaluation_batches,
    load_predictor,
    recipe_of,
    split_run,
    train_context,
)
from keras_ctxattr.data.grids import GridConfig
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.runs import Run, RunError

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
    for num_steps, num_epochs in _segments(step, epoch_step, 4, total):
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


SCRIPT = """
import sys
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
import dataclasses
from tests.context.test_training import TINY
from keras_ctxattr.context.training import train_context
recipe = dataclasses.replace(TINY, checkpoint_minutes=1e-6)
print("begin", flush=True)
train_context([sys.argv[1]], sys.argv[2], recipe, steps=60, held_out=0.3)
"""


def start(photos, folder):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(photos), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def kill_until_finished(photos, folder, num_kills, longest, seed=0):
    """Starts a run again and again, killing it at random; gives how many kills hit it."""
    rng = random.Random(seed)
    hits = 0
    for _ in range(num_kills):
        process = start(photos, folder)
        process.stdout.readline()
        time.sleep(rng.uniform(0, longest))
        hits += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    _, errors = start(photos, folder).communicate()
    assert (folder / "summary.json").exists(), errors.decode()[-2000:]
    return hits


@pytest.mark.slow
def test_killed_run_ends_with_the_weights_of_one_that_was_not(photos, tmp_path):
    num_kills = int(os.environ.get("CTXATTR_KILLS", "3"))
    _, errors = start(photos, tmp_path / "whole").communicate()
    assert (tmp_path / "whole" / "summary.json").exists(), errors.decode()[-2000:]
    hits = kill_until_finished(photos, tmp_path / "killed", num_kills, longest=8)
    assert hits > 0
    expected, received = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert all(np.array_equal(a, b) for a, b in zip(expected, received, strict=True))
    assert rows_without_times(tmp_path / "killed") == rows_without_times(tmp_path / "whole")
    assert isinstance(Manifest.load(tmp_path / "killed" / "images.sqlite"), Manifest)
