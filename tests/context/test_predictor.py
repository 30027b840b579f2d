"""The pretext model equals two explicit towers, trains in every precision, saves and reloads."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.backbones import alexnet, compact
from keras_ctxattr.context.predictor import ContextPredictor, PairHead, position_loss
from keras_ctxattr.layers import PatchCutter, PatchProcessing
from keras_ctxattr.layers.seeds import drop_by_group
from tests import contracts
from tests import restatements as plain

SIZE = 24  # of a patch in most tests; `compact` needs a multiple of 32
KEYS = {"loss", "accuracy", "update_norm", "prediction_spread", "active_fraction", "redraws"}


def make_batch(patch_size=SIZE, num_pairs=40, num_padded=8, seed=0, step=(5, 9)):
    """Gives a batch by hand: two noisy images, one grid in each, some padded pairs at the end."""
    generator = np.random.default_rng(seed)
    pitch, gap = patch_size + 8, 8
    sizes = [(4 * pitch, 2 * pitch), (2 * pitch, 3 * pitch)]
    num_pixels = 8 * pitch * pitch
    canvases, corners, pairs = [], [], []
    for number, size in enumerate(sizes):
        image = generator.integers(0, 256, (*size, 3), np.uint8)
        canvases.append(np.pad(image.reshape(-1, 3), ((0, num_pixels - size[0] * size[1]), (0, 0))))
        grid = plain.lay_grid(size, (1, 3), pitch=pitch, gap=gap)
        slots = {cell: len(corners) + index for index, cell in enumerate(grid)}
        corners += [(number, *corner) for corner in grid.values()]
        pairs += [(slots[a], slots[b], label) for a, b, label in plain.pair_neighbours(grid)]
    generator.shuffle(pairs)
    pairs = [*pairs[:num_pairs], *[(0, 0, 0)] * num_padded]
    assert len(pairs) == num_pairs + num_padded
    return {
        "canvases": np.array(canvases, np.uint8),
        "sizes": np.array(sizes, np.int32),
        "corners": np.array(corners, np.int32),
        "pairs": np.array(pairs, np.int32),
        "pair_mask": np.arange(len(pairs)) < num_pairs,
        "seed": np.array(step, np.int32),
    }


def as_tensors(batch):
    return {name: tf.constant(array) for name, array in batch.items()}


def toy_backbone(size=SIZE, num_features=6):
    """A backbone without BatchNorm."""
    inputs = keras.Input((size, size, 3))
    flow = keras.layers.Rescaling(1 / 50)(inputs)
    flow = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(flow)
    features = keras.layers.Dense(num_features, activation="relu")(keras.layers.Flatten()(flow))
    return keras.Model(inputs, features)


def toy_model(backbone=None, **options):
    keras.utils.set_random_seed(0)
    settings = {"patch_size": SIZE, "jitter": 3, "hidden_units": 12, **options}
    return ContextPredictor(backbone or toy_backbone(), **settings)


def scramble_statistics(model):
    """Gives every BatchNorm statistics of its own, so that using them shows."""
    generator = np.random.default_rng(3)
    for variable in model.non_trainable_variables:
        if variable.path.endswith("moving_mean"):
            variable.assign(generator.uniform(-0.5, 0.5, variable.shape))
        if variable.path.endswith("moving_variance"):
            variable.assign(generator.uniform(0.1, 1, variable.shape))


def dataset_of(batch, num_steps):
    return tf.data.Dataset.from_tensors(as_tensors(batch)).repeat(num_steps)


def numbers(logs):
    return {name: float(value) for name, value in logs.items()}


def fit(model, batch, num_steps, **options):
    steps = dataset_of(batch, num_steps)
    return model.fit(steps, verbose=0, shuffle=False, **options).history


# ---- two explicit towers -------------------------------------------------------------------------


def two_towers(model, patches, pairs, mask, training):
    """The specification's network, naively: both patches of every pair, concatenated features.

    Written in float32 TensorFlow, so that its gradients can be compared; `mask` tells which pairs
    count for the batch's statistics.
    """
    weights = {v.path.split("head/")[-1]: v.value for v in model.head.variables}
    first = model.backbone(tf.gather(patches, pairs[:, 0]), training=training)
    second = model.backbone(tf.gather(patches, pairs[:, 1]), training=training)
    both = tf.concat([first, second], axis=1)
    kernel = tf.concat([weights["fc7_first/kernel"], weights["fc7_second/kernel"]], axis=0)

    def finish(name, values):
        if f"{name}_norm/moving_mean" in weights:
            if training:
                valid = tf.boolean_mask(values, mask)
                mean, variance = tf.nn.moments(valid, [0])
            else:
                mean = weights[f"{name}_norm/moving_mean"]
                variance = weights[f"{name}_norm/moving_variance"]
            return tf.nn.relu((values - mean) / tf.sqrt(variance + 1e-5))
        return tf.nn.relu(
            values + weights[f"{name}_first/bias" if name == "fc7" else f"{name}/bias"]
        )

    hidden = finish("fc7", both @ kernel)
    hidden = finish("fc8", hidden @ weights["fc8/kernel"])
    return hidden @ weights["fc9/kernel"] + weights["fc9/bias"]


def randomize(model):
    """Gives all weights, biases and statistics values of their own."""
    generator = np.random.default_rng(1)
    for variable in model.head.variables:
        if "bias" in variable.path:
            variable.assign(generator.normal(0, 0.5, variable.shape))
    scramble_statistics(model)


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("kind", ["toy", "compact"])
def test_inference_equals_two_explicit_towers(preset, kind):
    size = SIZE if kind == "toy" else 32
    backbone = toy_backbone() if kind == "toy" else compact(input_size=32, num_features=6, width=4)
    model = toy_model(backbone, preset=preset, patch_size=size)
    randomize(model)
    batch = as_tensors(make_batch(size))
    patches = model.process_patches(batch, training=False)
    expected = two_towers(model, patches, batch["pairs"], batch["pair_mask"], training=False)
    logits = model(batch, training=False)
    assert np.asarray(expected).std() > 0.05
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    # The order within the pair matters: the towers are shared, fc7 is not symmetric.
    swapped = tf.gather(batch["pairs"], [1, 0, 2], axis=1)
    other = two_towers(model, patches, swapped, batch["pair_mask"], training=False)
    assert np.abs(logits - other).max() > 0.01


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_training_equals_two_explicit_towers_gradients_included(preset):
    model = toy_model(preset=preset)
    randomize(model)
    batch = as_tensors(make_batch())
    patches = model.process_patches(batch, training=True)  # the seed repeats the draws
    count = int(batch["pair_mask"].numpy().sum())
    labels = batch["pairs"][:count, 2]
    with tf.GradientTape() as tape:
        expected = two_towers(model, patches, batch["pairs"], batch["pair_mask"], training=True)
        entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, expected[:count])
        loss = tf.reduce_mean(entropies)
    sources = [variable.value for variable in model.trainable_variables]
    wanted = tape.gradient(loss, sources)
    with tf.GradientTape() as tape:
        logits = model(batch, training=True)
        own_loss = model.pretext_loss(batch, logits)
    found = tape.gradient(own_loss, sources)
    np.testing.assert_allclose(logits[:count], expected[:count], rtol=1e-3, atol=1e-4)
    assert float(own_loss) == pytest.approx(float(loss), rel=1e-5)
    for variable, ours, theirs in zip(model.trainable_variables, found, wanted, strict=True):
        assert np.abs(theirs).max() > 1e-5, variable.path
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-3, atol=1e-5 * np.abs(theirs).max() + 1e-6, err_msg=variable.path
        )


def test_each_patch_goes_through_the_backbone_once():
    seen = []

    class Counting(keras.layers.Layer):
        def call(self, patches):
            seen.append(patches.shape[0])
            return patches

    inputs = keras.Input((SIZE, SIZE, 3))
    model = toy_model(keras.Model(inputs, toy_backbone()(Counting()(inputs))))
    seen.clear()
    batch = make_batch()
    model(as_tensors(batch))
    assert seen == [len(batch["corners"])]


def test_the_loss_is_the_mean_cross_entropy_of_the_valid_pairs():
    logits = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")
    labels, mask = np.array([0, 7, 3, 2, 5]), np.array([True, True, False, True, False])
    entropies = [
        -logits[i, labels[i]] + np.log(np.exp(logits[i]).sum()) for i in range(5) if mask[i]
    ]
    assert float(position_loss(labels, logits, mask)) == pytest.approx(np.mean(entropies), rel=1e-5)
    guessing = position_loss(labels, np.zeros((5, 8), "float32"), mask)
    assert float(guessing) == pytest.approx(np.log(8), rel=1e-6)
    assert float(position_loss(labels, logits, np.zeros(5, bool))) == 0


# ---- padding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_padded_pairs_stay_out_of_everything(preset):
    """Loss, accuracy, watched values, statistics and gradients: whatever the padding holds."""
    results = []
    for content in ((0, 0, 0), (3, 5, 7), None):
        batch = make_batch()
        if content is None:  # no padding at all
            batch["pairs"] = batch["pairs"][batch["pair_mask"]]
            del batch["pair_mask"]
        else:
            batch["pairs"][~batch["pair_mask"]] = content
        model = toy_model(preset=preset)
        model.compile(keras.optimizers.SGD(0.1))
        logs = [numbers(model.train_step(as_tensors(batch))) for _ in range(2)][-1]
        model.reset_metrics()
        scores = numbers(model.test_step(as_tensors(batch)))
        # The states of the draws belong to no one's training, and sums differ by the padding.
        weights = [v.numpy() for v in model.trainable_variables + model.head.variables]
        results.append((logs, scores, weights))
    logs, scores, weights = results[0]
    for other_logs, other_scores, other_weights in results[1:]:
        assert set(other_logs) == KEYS
        assert other_logs == pytest.approx(logs, rel=1e-4)
        assert other_scores == pytest.approx(scores, rel=1e-4)
        for one, other in zip(weights, other_weights, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)


def test_statistics_of_the_head_are_those_of_the_valid_pairs():
    head = PairHead(4, ("fc7",))
    generator = np.random.default_rng(0)
    features = generator.normal(size=(7, 3)).astype("float32")
    pairs = generator.integers(0, 7, (10, 2)).astype("int32")
    mask = np.arange(10) < 6
    head.build((None, 3))
    head(features, pairs, mask=mask, training=True)
    weights = {v.path.split("/", 1)[-1]: np.asarray(v) for v in head.variables}
    fused = features[pairs[:, 0]] @ np.asarray(head.fc7_first.kernel)
    fused = fused + features[pairs[:, 1]] @ np.asarray(head.fc7_second.kernel)
    momentum = head.norms["fc7"].momentum
    moving = next(value for name, value in weights.items() if name.endswith("moving_mean"))
    np.testing.assert_allclose(moving, (1 - momentum) * fused[:6].mean(0), rtol=1e-4, atol=1e-6)


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", contracts.POLICIES)
def test_the_loss_falls_and_is_not_0_in_every_precision(policy):
    with contracts.dtype_policy(policy):
        model = toy_model()
        model.compile(keras.optimizers.Adam(0.01))
        scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scales == (policy == "mixed_float16")
        history = fit(model, make_batch(num_pairs=32), 5, epochs=8)
    losses = history["loss"]
    assert losses[0] > 1.5
    assert losses[0] < 4
    assert 0 < losses[-1] < 0.6 * losses[0]
    assert history["accuracy"][-1] > history["accuracy"][0] + 0.2
    for name in KEYS:
        assert np.isfinite(history[name]).all(), (name, history[name])
    dtypes = {keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables}
    assert dtypes == {"float32"}


def test_logits_are_float32_in_every_precision():
    for policy in contracts.POLICIES:
        with contracts.dtype_policy(policy):
            logits = toy_model()(as_tensors(make_batch()))
        assert contracts.describe(logits) == [((48, 8), "float32")]


def test_training_logs_what_the_guards_watch():
    model = toy_model()
    model.compile(keras.optimizers.SGD(0.05))
    batch = as_tensors({**make_batch(), "redraws": np.int32(3)})
    with tf.GradientTape() as tape:
        logits, fused = model._predict(batch, training=True)
        loss = model.pretext_loss(batch, logits)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    norm = np.sqrt(sum((np.asarray(gradient) ** 2).sum() for gradient in gradients))
    count = int(batch["pair_mask"].numpy().sum())
    chances = np.asarray(keras.ops.softmax(logits))[:count]
    hits = np.asarray(logits)[:count].argmax(1) == np.asarray(batch["pairs"])[:count, 2]
    assert numbers(model.train_step(batch)) == pytest.approx(
        {
            "loss": float(loss),
            "accuracy": hits.mean(),
            "update_norm": 0.05 * norm,
            "prediction_spread": chances.std(0).mean(),
            "active_fraction": (np.asarray(fused)[:count] > 0).mean(),
            "redraws": 3,
        },
        rel=1e-4,
    )
    # The progress line counts pairs by it.
    assert float(model.accuracy_metric.count) == count


def test_evaluation_logs_loss_and_accuracy_and_changes_nothing():
    model = toy_model()
    model.compile("sgd")
    before = [np.array(v) for v in model.trainable_variables + model.backbone.variables]
    batch = as_tensors(make_batch())
    scores = model.evaluate(dataset_of(make_batch(), 2), verbose=0, return_dict=True)
    logits = model(batch, training=False)
    assert set(scores) == {"loss", "accuracy"}
    loss = position_loss(batch["pairs"][:, 2], logits, batch["pair_mask"])
    assert scores["loss"] == pytest.approx(float(loss), rel=1e-5)
    after = model.trainable_variables + model.backbone.variables
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_epochs_loss_weighs_steps_by_their_pairs():
    model = toy_model()
    model.compile(keras.optimizers.SGD(0.0))
    batches = [make_batch(num_pairs=40, num_padded=0), make_batch(num_pairs=10, num_padded=30)]
    losses = [
        model.evaluate(dataset_of(batch, 1), verbose=0, return_dict=True)["loss"]
        for batch in batches
    ]
    both = dataset_of(batches[0], 1).concatenate(dataset_of(batches[1], 1))
    scores = model.evaluate(both, verbose=0, return_dict=True)
    assert abs(losses[0] - losses[1]) > 0.01
    assert scores["loss"] == pytest.approx((40 * losses[0] + 10 * losses[1]) / 50, rel=1e-5)


def test_the_backbones_own_regularisation_is_part_of_the_loss():
    backbone = toy_backbone()
    inputs = keras.Input((SIZE, SIZE, 3))
    dense = keras.layers.Dense(6, kernel_regularizer=keras.regularizers.L2(0.1))
    model = toy_model(keras.Model(inputs, dense(backbone(inputs))))
    batch = as_tensors(make_batch())
    logits = model(batch)
    plain_loss = position_loss(batch["pairs"][:, 2], logits, batch["pair_mask"])
    penalty = 0.1 * (np.asarray(dense.kernel) ** 2).sum()
    loss = model.pretext_loss(batch, logits)
    assert float(loss) == pytest.approx(float(plain_loss) + penalty, rel=1e-5)


def test_a_batch_without_a_single_pair_teaches_nothing_and_breaks_nothing():
    model = toy_model()
    model.compile(keras.optimizers.SGD(0.1))
    batch = make_batch()
    batch["pair_mask"][:] = False
    before = [np.array(v) for v in model.trainable_variables]
    logs = model.train_step(as_tensors(batch))
    for name, value in logs.items():
        assert np.isfinite(float(value)), name
    for one, other in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- draws ---------------------------------------------------------------------------------------


def test_the_seed_in_the_batch_decides_all_draws_whatever_was_drawn_before():
    batch = make_batch()
    weights = []
    for num_draws in (0, 3):
        model = toy_model(seed=num_draws)
        model.compile(keras.optimizers.SGD(0.1))
        for _ in range(num_draws):
            model(as_tensors(make_batch(step=(1, num_draws))), training=True)
            model(as_tensors({k: v for k, v in batch.items() if k != "seed"}))
        model.backbone.set_weights(toy_model().backbone.get_weights())
        scramble_statistics(model)
        fit(model, batch, 3)
        weights.append([v.numpy() for v in model.trainable_variables])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_seeds_draw_other_jitter_sides_and_colours():
    model = toy_model(downsampling=0.5)
    batches = [as_tensors(make_batch(step=(5, number))) for number in range(4)]
    patches = [model.process_patches(b, training=True).numpy().tobytes() for b in batches]
    assert len(set(patches)) == 4
    again = model.process_patches(batches[0], training=True).numpy().tobytes()
    assert again == patches[0]


def test_groups_of_a_batch_draw_what_they_would_draw_alone():
    """So a device that has one of them sees the very patches that one with both would."""
    model = toy_model(downsampling=0.5, dropout=0.5)
    batch = as_tensors(make_batch())
    half = len(batch["corners"]) // 2
    both = {
        **batch,
        "corners": batch["corners"][: 2 * half],
        "seed": tf.constant([[5, 9], [7, 1]]),
    }
    together = model.process_patches(both, training=True).numpy()
    for group, seed in enumerate([[5, 9], [7, 1]]):
        own = slice(group * half, (group + 1) * half)
        alone = {**both, "corners": both["corners"][own], "seed": tf.constant([seed])}
        np.testing.assert_array_equal(model.process_patches(alone, training=True), together[own])
    dropout = model.head.drops["fc6"]
    values = tf.ones([8, 50])
    dropped = drop_by_group(dropout, values, both["seed"], 8, training=True).numpy()
    for group, seed in enumerate([[5, 9], [7, 1]]):
        own = drop_by_group(dropout, values[:4], tf.constant([seed]), 8, training=True)
        np.testing.assert_array_equal(own, dropped[4 * group : 4 * group + 4])
    assert (dropped[:4] != dropped[4:]).any()


def test_batches_without_a_seed_draw_anew_every_time():
    model = toy_model()
    batch = as_tensors({k: v for k, v in make_batch().items() if k != "seed"})
    first, second = (model.process_patches(batch).numpy() for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_no_two_of_the_models_layers_draw_from_the_same_numbers(seed):
    model = toy_model(seed=seed, dropout=0.5)
    generators = [v for v in model.non_trainable_variables if "seed_generator" in v.path]
    assert len(generators) == 6  # cutter, downsampling, colours, three times dropout
    assert len({tuple(state.numpy()) for state in generators}) == 6
    for step in ((5, 9), (2**31 - 2, 2**31 - 2)):
        model.process_patches(as_tensors(make_batch(step=step)))
        assert len({tuple(state.numpy()) for state in generators}) == 6


def test_dropout_acts_in_training_only_and_follows_the_seed_in_the_batch():
    batch = as_tensors(make_batch())
    without, with_dropout = toy_model(), toy_model(dropout=0.5)
    for one, other in zip(
        with_dropout.trainable_variables, without.trainable_variables, strict=True
    ):
        one.assign(other)
    contracts.assert_equal(with_dropout(batch), without(batch))
    trained = with_dropout(batch, training=True)
    assert np.abs(trained - without(batch, training=True)).max() > 0.01
    with_dropout({name: value for name, value in batch.items() if name != "seed"}, training=True)
    contracts.assert_equal(with_dropout(batch, training=True), trained)


def test_a_step_whose_gradients_overflow_in_float16_counts_as_no_update():
    with contracts.dtype_policy("mixed_float16"):
        model = toy_model()
        inner = keras.optimizers.SGD(0.1)
        model.compile(keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**40))
    before = [np.array(v) for v in model.trainable_variables]
    logs = numbers(model.train_step(as_tensors(make_batch())))
    assert logs["update_norm"] == 0
    assert logs["loss"] > 1
    for one, other in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_evaluation_jitters_and_drops_colours_but_does_not_downsample(preset):
    model = toy_model(preset=preset, downsampling=1.0)
    batch = as_tensors(make_batch())
    patches = model.process_patches(batch, training=False)
    model._set_seeds(batch["seed"])
    cut = model.cutter(batch["canvases"], batch["sizes"], batch["corners"]).numpy()
    unjittered = PatchCutter(SIZE, jitter=0)(batch["canvases"], batch["sizes"], batch["corners"])
    assert (cut != unjittered.numpy()).any((1, 2, 3)).mean() > 0.8
    for patch, original in zip(patches.numpy(), cut, strict=True):
        kept = patch.std((0, 1)).argmax()
        assert (np.sort(patch.std((0, 1)))[:2] < patch.std((0, 1))[kept] / 20).all()
        pair = patch[..., kept].ravel(), original[..., kept].ravel()
        assert np.corrcoef(*pair)[0, 1] > 1 - 1e-5
    trained = model.process_patches(batch, training=True).numpy()
    assert np.abs(trained - patches).max((1, 2, 3)).min() > 1


# ---- saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("colour", ["drop", "project", "none"])
def test_saved_models_reload_with_equal_outputs(tmp_path, preset, colour):
    backbone = compact(input_size=32, num_features=6, width=4)
    options = {"preset": preset, "colour": colour, "downsampling": 0.5, "seed": 4}
    model = toy_model(backbone, patch_size=32, **options)
    randomize(model)
    batch = as_tensors(make_batch(32))
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    assert json.dumps(reloaded.get_config()) == json.dumps(model.get_config())
    for training in (False, True):
        contracts.assert_equal(reloaded(batch, training=training), model(batch, training=training))
    # Without a seed in the batch, the draws go on from where they were.
    del batch["seed"]
    contracts.assert_equal(reloaded(batch), model(batch))


def test_a_reloaded_model_goes_on_training_as_if_it_had_never_been_away(tmp_path):
    model = toy_model()
    model.compile(keras.optimizers.Adam(0.01))
    batch = make_batch()
    fit(model, batch, 2)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    histories = [fit(each, batch, 2) for each in (model, reloaded)]
    for name in KEYS:
        assert histories[0][name] == pytest.approx(histories[1][name], rel=1e-5), name
    for one, other in zip(model.trainable_variables, reloaded.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_model_reloads_as_it_was_under_another_policy(tmp_path, policy):
    with contracts.dtype_policy(policy):
        model = toy_model()
        model.compile("adam")
        batch = as_tensors(make_batch())
        model.train_step(batch)
        model.save(tmp_path / "model.keras")
        outputs = model(batch)
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    contracts.assert_equal(reloaded(batch), outputs)


def test_weights_alone_reload_into_a_model_made_anew(tmp_path):
    model = toy_model()
    model.save_weights(tmp_path / "model.weights.h5")
    other = toy_model()
    scramble_statistics(other)
    for variable in other.trainable_variables:
        variable.assign(variable + 1)
    other.load_weights(tmp_path / "model.weights.h5")
    batch = as_tensors(make_batch())
    contracts.assert_equal(other(batch), model(batch))


def test_defaults_are_the_released_ones():
    model = ContextPredictor(toy_backbone(96))
    config = model.get_config()
    expected = {"preset": "released", "colour": "drop", "patch_size": 96, "jitter": 7}
    assert {name: config[name] for name in expected} == expected
    assert config["downsampling"] == pytest.approx(1 / 3)
    assert config["hidden_units"] == 4096
    assert set(model.head.norms) == {"fc7"}
    assert set(toy_model(preset="paper").head.norms) == {"fc7", "fc8"}


# ---- backbones -----------------------------------------------------------------------------------


def test_a_backbone_of_keras_applications_trains():
    backbone = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    model = toy_model(backbone, patch_size=96)
    model.compile("sgd")
    before = [np.array(v) for v in backbone.trainable_variables]
    logs = model.train_step(as_tensors(make_batch(96)))
    assert 0 < float(logs["loss"]) < 20
    changed = [
        not np.array_equal(one, other)
        for one, other in zip(before, backbone.trainable_variables, strict=True)
    ]
    assert np.mean(changed) > 0.9


def test_the_papers_alexnet_fits_the_model():
    model = toy_model(alexnet(num_features=8), patch_size=96)
    batch = make_batch(96, num_pairs=10, num_padded=2)
    assert np.isfinite(model(as_tensors(batch))).all()


def test_a_backbone_that_gives_maps_is_one_clear_error():
    inputs = keras.Input((SIZE, SIZE, 3))
    maps = keras.Model(inputs, keras.layers.Conv2D(4, 5, strides=4)(inputs))
    with pytest.raises(ValueError, match=r"append Flatten or pooling.*\(None, 5, 5, 4\)"):
        toy_model(maps)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"preset": "new"}, "preset='new'"),
        ({"colour": "grey"}, "colour='grey'"),
        ({"jitter": -2}, "jitter=-2"),
        ({"downsampling": 3.0}, "3.0"),
    ],
)
def test_bad_arguments_are_named_with_their_value(arguments, named):
    with pytest.raises(ValueError, match=named):
        toy_model(**arguments)


def test_the_processing_is_that_of_the_layer():
    model = toy_model(preset="released", colour="project")
    batch = as_tensors(make_batch())
    patches = model.process_patches(batch, training=False)
    model._set_seeds(batch["seed"])
    cut = model.cutter(batch["canvases"], batch["sizes"], batch["corners"])
    expected = PatchProcessing("released", "project")(cut, training=False)
    np.testing.assert_allclose(patches, expected, atol=1e-4)


# ---- the head ------------------------------------------------------------------------------------


def test_head_survives_its_config():
    features = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    pairs = np.array([[0, 1], [4, 2]], np.int32)
    contracts.assert_survives_its_config(
        lambda: PairHead(4, ("fc7", "fc8"), name="head"), [features, pairs]
    )


def test_the_halves_of_fc7_start_as_one_layer_over_both_patches_would():
    """Each half once started with the fan-in of half the inputs, sqrt(2) too wide."""
    head = PairHead(hidden_units=64)
    head.build((None, 300))
    first, second = (np.asarray(half.kernel) for half in (head.fc7_first, head.fc7_second))
    for half in (first, second):
        assert np.abs(half).max() == pytest.approx(np.sqrt(3 / 600), rel=0.01)
    assert np.abs(first - second).max() > 0.05
    assert np.abs(np.asarray(head.fc8.kernel)).max() == pytest.approx(np.sqrt(3 / 64), rel=0.01)


@pytest.mark.parametrize("policy", contracts.POLICIES)
def test_symbolic_call_of_the_head_tells_shapes_and_dtypes(policy):
    features = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    pairs = np.array([[0, 1], [4, 2]], np.int32)
    with contracts.dtype_policy(policy):
        contracts.assert_symbolic_call_tells_shape_and_dtype(
            lambda: PairHead(4, name="head"), [features, pairs]
        )
