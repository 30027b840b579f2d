"""Callbacks: a killed run goes on as if nothing happened; a failed one is stopped and says why."""

import io
import math
import time
import types

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from keras_ctxattr.context.recipe import ContextRecipe
from keras_ctxattr.runs import Run
from keras_ctxattr.runs.callbacks import (
    Checkpointer,
    CollapseGuard,
    MetricsLog,
    PatchPictures,
    ProgressLine,
    ProgressSchedule,
    TimeLimit,
    TrainingCollapsed,
)

NUM_STEPS, STEPS_PER_EPOCH = 20, 5


class SmallModel(keras.Model):
    """Has what is hard to restore: momentum, moving statistics, dropout, a loss scale."""

    def __init__(self, loss_weight=1.0):
        super().__init__()
        self.loss_weight = loss_weight
        self.hidden = keras.layers.Dense(16)
        self.norm = keras.layers.BatchNormalization(scale=False, center=False)
        self.dropout = keras.layers.Dropout(0.5, seed=3)
        self.head = keras.layers.Dense(4, dtype="float32")
        self.loss_metric = keras.metrics.Mean(name="loss")
        self.accuracy_metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    @property
    def metrics(self):
        return [self.loss_metric, self.accuracy_metric]

    def call(self, values, training=False):
        hidden = self.norm(self.hidden(values), training=training)
        return self.head(self.dropout(keras.ops.relu(hidden), training=training))

    def _score(self, data, training):
        values, labels = data
        logits = self(values, training=training)
        loss = keras.ops.mean(
            keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        )
        self.loss_metric.update_state(loss)
        self.accuracy_metric.update_state(labels, logits)
        return loss

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self._score(data, training=True)
            scaled = self.optimizer.scale_loss(loss * self.loss_weight)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.get_metrics_result()

    def test_step(self, data):
        self._score(data, training=False)
        return self.get_metrics_result()

    def process_patches(self, batch, training=None):
        return self.dropout(batch, training=training)


def make_model(seed=1, optimizer="sgd", loss_weight=1.0):
    keras.utils.set_random_seed(seed)
    model = SmallModel(loss_weight)
    model(np.zeros((2, 8), np.float32))
    optimizers = {
        "sgd": keras.optimizers.SGD(0.1, momentum=0.9),
        "adam": keras.optimizers.Adam(1e-2),
    }
    model.compile(optimizer=optimizers[optimizer])
    return model


def batches(first_step=0, num_steps=NUM_STEPS):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(num_steps, 8, 8)).astype(np.float32)
    labels = generator.integers(0, 4, (num_steps, 8))
    return tf.data.Dataset.from_tensor_slices((values, labels)).skip(first_step)


def open_run(folder):
    return Run.open(folder, {"seed": 1}, kind="demo")


class Kill(keras.callbacks.Callback):
    """Stands for kill -9 after some steps: nothing else of the callbacks runs."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def train(folder, *, kill_after=None, seed=1, every_steps=3, **options):
    """Ten lines of a training script: resume, one call of `fit` per epoch."""
    with open_run(folder) as run:
        model = make_model(seed, **options)
        resumed = run.restore(model)
        clock = TimeLimit(already_spent_seconds=resumed.state["seconds"] if resumed else 0)
        callbacks = [
            ProgressSchedule(lambda done: 0.1 * (1 - done), lambda s: s / 20, resumed=resumed),
            MetricsLog(run, clock, tensorboard=False, resumed=resumed),
            Checkpointer(run, clock, every_steps=every_steps, resumed=resumed),
            *([Kill(kill_after)] if kill_after else []),
            clock,
        ]
        step = resumed.step if resumed else 0
        while step < NUM_STEPS:
            steps = STEPS_PER_EPOCH - step % STEPS_PER_EPOCH
            model.fit(
                batches(step),
                steps_per_epoch=steps,
                shuffle=False,
                validation_data=batches(17),
                callbacks=callbacks,
                verbose=0,
            )
            step += steps
        return model, [{**row, "seconds": 0} for row in run.metrics.rows()]


def values_of(model):
    return [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]


# ---- resume --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "optimizer"),
    [
        ("float32", "adam"),
        ("mixed_bfloat16", "sgd"),
        ("mixed_float16", "sgd"),
        ("mixed_float16", "adam"),
    ],
)
def test_killed_and_resumed_run_ends_with_the_same_weights_and_rows(tmp_path, policy, optimizer):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        whole, whole_rows = train(tmp_path / "whole", optimizer=optimizer)
        # In the middle of an epoch and right at its end; only the first start's seed counts.
        for number, kill_after in enumerate((4, 8), start=1):
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "killed", kill_after=kill_after, seed=number, optimizer=optimizer)
        killed, killed_rows = train(tmp_path / "killed", seed=9, optimizer=optimizer)
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert [row["step"] for row in whole_rows] == [5, 10, 15, 20]
    assert killed_rows == whole_rows
    for variable, ours, theirs in zip(
        [*whole.variables, *whole.optimizer.variables],
        values_of(whole),
        values_of(killed),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs, err_msg=variable.path)
    assert whole_rows[-1]["loss"] > 0


def test_steps_are_counted_where_float16_skips_updates(tmp_path):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model, rows = train(tmp_path / "run", loss_weight=1e4)
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert int(model.optimizer.iterations) < NUM_STEPS
    assert rows[-1]["step"] == NUM_STEPS
    assert Run.read(tmp_path / "run").latest_checkpoint().step == NUM_STEPS


def test_keras_format_would_lose_the_state_of_dropout(tmp_path):
    """Why checkpoints are not `.keras`: if this fails one day, they could be."""
    values = keras.Input((8,))
    model = keras.Model(values, keras.layers.Dropout(0.5, seed=3)(values))
    model(np.ones((2, 8)), training=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert not np.array_equal(model.variables[0].numpy(), again.variables[0].numpy())


def test_row_of_a_step_is_older_than_the_checkpoint_of_that_step(tmp_path):
    """Or a kill between the two would lose the row: training goes on behind it."""
    order = []
    run = types.SimpleNamespace(
        metrics=types.SimpleNamespace(append=lambda row: order.append(("row", row["step"]))),
        save_checkpoint=lambda model, step, state, keep: order.append(("checkpoint", step)),
        commit=lambda: None,
    )
    clock = TimeLimit()
    callbacks = [
        MetricsLog(run, clock, tensorboard=False),
        Checkpointer(run, clock, every_steps=5),
    ]
    make_model().fit(batches(), steps_per_epoch=5, epochs=4, callbacks=callbacks, verbose=0)
    assert order == [(kind, step) for step in (5, 10, 15, 20) for kind in ("row", "checkpoint")]


def test_checkpoints_fall_due_by_time_and_at_the_end(tmp_path):
    with open_run(tmp_path / "run") as run:
        model = make_model()
        options = {"every_minutes": None, "every_steps": None}
        saver = Checkpointer(run, TimeLimit(), **options, state=lambda: {"seed": 7})
        model.fit(batches(), callbacks=[saver], verbose=0)
        assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000020.npz"]
        state = run.latest_checkpoint().state
        assert state == {"seconds": 0.0, "epoch_step": 0, "seed": 7}
        saver = Checkpointer(run, TimeLimit(), every_minutes=1e-9, keep=30)
        model.fit(batches(), callbacks=[saver], verbose=0)
        assert len(list(run.checkpoints.iterdir())) == NUM_STEPS


# ---- time and learning rate ----------------------------------------------------------------------


class Slow(keras.callbacks.Callback):
    """Work that is not training."""

    def on_train_batch_begin(self, batch, logs=None):
        time.sleep(0.02)

    def on_test_begin(self, logs=None):
        time.sleep(0.2)


def test_clock_counts_training_only_and_goes_on_after_a_resume():
    model = make_model()
    model.fit(batches(), verbose=0)  # traces
    clock = TimeLimit(already_spent_seconds=100)
    began = time.perf_counter()
    model.fit(batches(), validation_data=batches(17), callbacks=[Slow(), clock], verbose=0)
    total = time.perf_counter() - began
    assert 100 < clock.elapsed_seconds < 100 + total - 0.55
    assert not clock.reached and clock.fraction == 0


def test_training_stops_when_the_time_is_over_and_the_last_row_is_written(tmp_path):
    clock = TimeLimit(minutes=1, already_spent_seconds=59.9999)
    with open_run(tmp_path / "run") as run:
        log = MetricsLog(run, clock, tensorboard=False)
        make_model().fit(batches(), epochs=3, callbacks=[log, clock], verbose=0)
        assert [row["step"] for row in run.metrics.rows()] == [1]
    assert clock.reached and clock.fraction == 1
    for minutes in (0, -1, math.nan):
        with pytest.raises(ValueError, match="over 0"):
            TimeLimit(minutes)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_learning_rate_follows_the_budget(policy):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = make_model()
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
            seen.append(float(inner.learning_rate))

    schedule = ProgressSchedule(lambda done: 1.0 - done, lambda step: step / 10)
    model.fit(batches(), epochs=1, callbacks=[schedule, Look()], verbose=0)
    expected = [max(0.0, 1.0 - step / 10) for step in range(NUM_STEPS)]
    assert seen == pytest.approx(expected, abs=1e-7)


# ---- guards --------------------------------------------------------------------------------------


def feed(guard, steps, learning_rate=1.0):
    """Gives a guard the running means that Keras would log for these values."""
    guard.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace()))
    guard.on_epoch_begin(0)
    sums = {}
    for batch, values in enumerate(steps):
        guard.model.optimizer.learning_rate = (
            learning_rate(batch) if callable(learning_rate) else learning_rate
        )
        sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
        means = {name: total / (batch + 1) for name, total in sums.items()}
        guard.on_train_batch_end(batch, means)


def healthy(**changes):
    return {
        "loss": 2.0,
        "prediction_spread": 0.05,
        "active_fraction": 0.5,
        "update_norm": 1.0,
    } | changes


def test_healthy_training_goes_on_and_missing_metrics_are_not_checked():
    for values in (healthy(), {"loss": 2.0}, {}):
        guard = CollapseGuard(every=5)
        feed(guard, [values] * 200)
        assert guard.step == 200 and guard.reason is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_no_number_stops_training_at_once(value):
    guard = CollapseGuard(every=50)
    with pytest.raises(TrainingCollapsed, match=f"step 4: the loss is {value}"):
        feed(guard, [healthy()] * 3 + [healthy(loss=value)] * 10)


@pytest.mark.parametrize(
    ("name", "words"),
    [("prediction_spread", "the same for every pair"), ("active_fraction", "dead")],
)
def test_lasting_collapse_stops_training_and_says_what_to_do(name, words):
    guard = CollapseGuard(every=10, patience=3)
    with pytest.raises(TrainingCollapsed) as caught:
        feed(guard, [healthy()] * 100 + [healthy(**{name: 0.0})] * 100)
    # Found in the windows that end at 110, 120 and 130, though the running mean is still high.
    assert guard.step == 130 and guard.reason == str(caught.value)
    assert words in guard.reason and "lower `learning_rate`" in guard.reason
    # The scripts have no flag for it.
    assert "training/configs/" in guard.reason and "new run folder" in guard.reason
    assert "\n" not in guard.reason


def test_collapse_that_passes_is_forgiven():
    dips = ([healthy(prediction_spread=0.0)] * 20 + [healthy()] * 10) * 5
    guard = CollapseGuard(every=10, patience=3)
    feed(guard, dips)
    assert guard.step == len(dips) and guard.reason is None


def test_update_norm_that_grows_tenfold_stops_training():
    guard = CollapseGuard(every=10)
    feed(CollapseGuard(every=10), [healthy()] * 60 + [healthy(update_norm=9.0)] * 10)
    with pytest.raises(TrainingCollapsed, match="the gradient grew to 12 times"):
        feed(guard, [healthy()] * 60 + [healthy(update_norm=12.0)] * 10)
    assert guard.step == 70


def test_warm_up_of_the_learning_rate_is_not_taken_for_growth():
    steps = [healthy(update_norm=0.001 * (step + 1)) for step in range(200)]
    guard = CollapseGuard(every=10)
    feed(guard, steps, learning_rate=lambda step: 0.001 * (step + 1))
    assert guard.step == 200 and guard.reason is None


def test_end_of_a_schedule_is_not_taken_for_growth():
    """The mean update of a window was once divided by the rate of its last step, here almost 0."""

    def rate(step):
        return 0.001 if step < 97 else 1e-7

    guard = CollapseGuard(every=10)
    steps = [healthy(update_norm=rate(step)) for step in range(100)]
    feed(guard, steps, learning_rate=rate)
    assert guard.step == 100 and guard.reason is None


@pytest.mark.parametrize("num_steps", [200, 300, 707, 1000])
def test_decay_of_the_learning_rate_is_not_taken_for_growth(num_steps):
    """The mean of 50 steps was divided by the last rate alone, which a cosine ends near 0.

    Every healthy run by a number of steps that 50 divides, and a quarter of those by time, was
    stopped in its last step as having grown 700-fold.
    """
    rates = [ContextRecipe().rate_at(step / num_steps) for step in range(num_steps)]
    guard = CollapseGuard()
    feed(guard, [healthy(update_norm=rate) for rate in rates], learning_rate=rates.__getitem__)
    assert guard.step == num_steps and guard.reason is None


def test_growth_is_seen_while_the_learning_rate_decays():
    rates = [ContextRecipe().rate_at(step / 1000) for step in range(1000)]
    steps = [healthy(update_norm=rate * (12 if n >= 900 else 1)) for n, rate in enumerate(rates)]
    with pytest.raises(TrainingCollapsed, match="step 950: the gradient grew to 12 times"):
        feed(CollapseGuard(), steps, learning_rate=rates.__getitem__)


def test_mean_over_steps_of_an_earlier_process_is_not_divided_by_the_rates_of_this_one():
    resumed = types.SimpleNamespace(step=70, state={"epoch_step": 70})
    guard = CollapseGuard(every=10, resumed=resumed)
    guard.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=1e-3)))
    guard.on_epoch_begin(0)
    for batch in range(60):
        mean = (70 * 1.0 + (batch + 1) * 1e-3) / (71 + batch)  # 70 steps at a rate of 1
        guard.on_train_batch_end(batch, healthy(update_norm=mean))
    assert guard.step == 130 and guard.reason is None


def test_guard_stops_fit_before_the_collapsed_model_is_saved(tmp_path):
    with open_run(tmp_path / "run") as run:
        model = make_model()
        model.head.kernel.assign(np.full((16, 4), np.nan))
        saver = Checkpointer(run, TimeLimit(), every_steps=100)
        with pytest.raises(TrainingCollapsed):
            model.fit(batches(), callbacks=[CollapseGuard(), saver], verbose=0)
        assert run.latest_checkpoint() is None


@pytest.mark.parametrize("broken", ["weight", "momentum", "statistics", "loss"])
def test_what_is_not_finite_never_becomes_the_newest_checkpoint(tmp_path, broken):
    """A step that breaks the weights shows in the next one's loss; between them one was saved."""

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if broken == "loss" and batch >= 6:
                logs["loss"] = math.inf
            if broken == "loss" or batch != 6:
                return
            variable = {
                "weight": self.model.head.kernel,
                "momentum": self.model.optimizer.momentums[0],
                "statistics": self.model.norm.moving_variance,
            }[broken]
            value = variable.numpy()
            value.flat[3] = math.nan
            variable.assign(value)

    with open_run(tmp_path / "run") as run:
        saver = Checkpointer(run, TimeLimit(), every_minutes=None, every_steps=2)
        with pytest.raises(TrainingCollapsed) as caught:
            make_model().fit(batches(), callbacks=[Break(), saver], verbose=0)
        assert run.latest_checkpoint().step == 6
    message = str(caught.value)
    assert "stopped at step 8" in message
    assert "that of step 6 is the last sound one" in message
    assert "training/configs/" in message and "\n" not in message


def test_first_step_commits_the_run(tmp_path):
    class Fail(keras.callbacks.Callback):
        def __init__(self, step):
            super().__init__()
            self.step = step

        def on_train_batch_begin(self, batch, logs=None):
            if batch == self.step:
                raise ValueError

    for step in (0, 1):
        with pytest.raises(ValueError), open_run(tmp_path / str(step)) as run:
            clock = TimeLimit()
            callbacks = [MetricsLog(run, clock), Checkpointer(run, clock), Fail(step)]
            make_model().fit(batches(), callbacks=callbacks, verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


# ---- records and progress ------------------------------------------------------------------------


def scalars(folder):
    found = {}
    for path in folder.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = value
    return found


def test_tensorboard_gets_training_and_held_out_values_under_one_name(tmp_path):
    with open_run(tmp_path / "run") as run:
        make_model().fit(
            batches(),
            validation_data=batches(17),
            callbacks=[MetricsLog(run, TimeLimit())],
            verbose=0,
        )
        row = run.metrics.rows()[0]
        training, held_out = scalars(run.logs / "train"), scalars(run.logs / "held_out")
        assert ("loss", 20) in training and ("learning_rate", 20) in training
        value = tf.make_ndarray(held_out["loss", 20].tensor)
        assert float(value) == pytest.approx(row["val_loss"])


def test_pictures_show_the_patches_and_do_not_change_training(tmp_path):
    patches = np.full((30, 16, 16, 3), 40, np.float32)
    with open_run(tmp_path / "run") as run:
        plain, watched = make_model(), make_model()
        plain.fit(batches(), verbose=0)
        callback = PatchPictures(run, patches, every=8, num_patches=24)
        watched.fit(batches(), callbacks=[callback], verbose=0)
        for ours, theirs in zip(values_of(plain), values_of(watched), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        paths = sorted((run.path / "pictures").iterdir())
        assert [path.stem for path in paths] == [f"patches-{s:08d}" for s in (0, 8, 16)]
        picture = cv2.imread(str(paths[0]))
        # Dropout: 0 or twice 40, around middle grey; twelve patches a row.
        assert {128, 208} <= set(np.unique(picture)) and picture.shape[1] == 12 * 98 + 2
        assert ("what the network sees", 8) in scalars(run.logs / "train")


def test_progress_says_step_rate_scores_and_time_left():
    stream = io.StringIO()
    clock = TimeLimit(minutes=2)
    line = ProgressLine(
        clock,
        num_steps=400,
        count_pairs=lambda: 5000.0,
        every_seconds=0,
        console=Console(file=stream, width=200),
    )
    line.on_train_begin()
    line.on_epoch_begin(0)
    line.on_train_batch_end(0, {})
    clock.elapsed_seconds = 20.0  # the first step compiles: it does not count for the rate
    line.on_train_batch_end(1, {})
    clock.elapsed_seconds = 29.8
    line.on_train_batch_end(99, {"loss": 2.0, "accuracy": 0.15})  # 5000 pairs in 100 steps
    assert stream.getvalue().splitlines()[-1] == (
        "step 100 of 400 · 500 pairs/s · loss 2.000 · accuracy 15.0% · 0:30 left"
    )
    line.on_epoch_end(0, {"val_accuracy": 0.125})
    clock.elapsed_seconds = 110.0
    line.on_train_end()
    assert stream.getvalue().splitlines()[-1].endswith("held out 12.5% · 0:10 left")


def test_file_gets_few_lines_and_a_terminal_one_that_is_drawn_over():
    written = {}
    for terminal in (False, True):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=60)
        line = ProgressLine(TimeLimit(), num_steps=NUM_STEPS, console=console)
        line.on_train_begin()
        line.on_epoch_begin(0)
        for batch in range(NUM_STEPS):
            line._shown_at -= 1  # a second later
            line.on_train_batch_end(batch, {"loss": 2.0, "accuracy": 0.125})
        line.on_train_end()
        written[terminal] = stream.getvalue()
    assert written[False] == "step 20 of 20 · loss 2.000 · accuracy 12.5%\n"
    lines = written[True].splitlines()
    assert len(lines) == NUM_STEPS + 1 and not lines[0].startswith("\x1b")
    assert all(line.startswith("\x1b[1A\x1b[2K") for line in lines[1:])
    assert all(len(line.removeprefix("\x1b[1A\x1b[2K")) < 60 for line in lines)
    assert lines[9].count("━") == lines[9].count("╌") == 10
