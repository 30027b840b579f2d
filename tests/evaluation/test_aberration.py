import json

import cv2
import numpy as np
import pytest
import tensorflow as tf

from evaluation import aberration
from evaluation.position_features import FeaturePositions
from keras_ctxattr.context.aberration import PositionConfig, position_batches
from keras_ctxattr.data.manifest import scan_images
from keras_ctxattr.export import export_module


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    settings = aberration.PositionConfig

    def smaller(**given):
        return settings(**{"images_per_batch": 2, "patches_per_image": 4, **given})

    monkeypatch.setattr(aberration, "PositionConfig", smaller)


def single_images(manifest, num_images, patches_per_image=4):
    """Gives one batch for each of some photographs."""
    config = PositionConfig(images_per_batch=1, patches_per_image=patches_per_image)
    return list(position_batches(manifest, config, seed=1, num_steps=num_images))


def held_out_batches(sources):
    """Gives what the models are scored on: one batch for each held-out photograph."""
    tested = scan_images(sources).usable().split(0.2)[1]
    return single_images(tested, len(tested))


def plain_error(true, predicted):
    return np.sqrt(np.mean([np.sum((a - b) ** 2) for a, b in zip(true, predicted, strict=True)]))


def test_three_guards_are_compared_as_a_plain_count_does(sources, tmp_path, monkeypatch):
    models, train = {}, aberration._train

    def keep(guard, *arguments):
        models[guard], facts = train(guard, *arguments)
        return models[guard], facts

    monkeypatch.setattr(aberration, "_train", keep)
    results = aberration.main(
        aberration.Config(images=sources, out=tmp_path, steps=2, patches_per_image=4)
    )
    batches = held_out_batches(sources)
    true = np.concatenate([batch["positions"] for batch in batches])
    for guard in ("none", "project"):  # dropping draws anew at every call
        model = models[guard]
        predicted = np.concatenate([model(batch, training=False) for batch in batches])
        assert results[guard]["rmse"] == pytest.approx(plain_error(true, predicted), rel=1e-4)
        assert results[guard]["rmse_centre"] == pytest.approx(
            plain_error(true, np.full_like(true, 0.5)), rel=1e-5
        )
    assert results["none"]["rmse"] != results["project"]["rmse"]
    for guard in aberration.GUARDS:
        values = results[guard]
        assert values["ratio"] == pytest.approx(values["rmse"] / values["rmse_centre"])
        assert values["rmse_best10"] <= values["rmse"]
        assert values["steps"] == 2
    assert json.loads((tmp_path / "results.json").read_text())["strength"] == 2.0
    assert cv2.imread(str(tmp_path / "aberration.png")) is not None


# ---- frozen features -----------------------------------------------------------------------------


def test_frozen_features_of_a_module_are_measured(
    predictor, sources, tmp_path, capsys, monkeypatch
):
    module = export_module(predictor, tmp_path / "module")
    config = aberration.Config(
        images=sources,
        out=tmp_path / "out",
        module=[module],
        regressors=False,
        patches_per_image=4,
    )
    models = []
    monkeypatch.setattr(
        aberration,
        "FeaturePositions",
        lambda *given: models.append(FeaturePositions(*given)) or models[-1],
    )
    monkeypatch.setenv("COLUMNS", "300")
    aberration.report(config)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    found = results[f"features of {module}"]
    batches = held_out_batches(sources)
    true = np.concatenate([batch["positions"] for batch in batches])
    predicted = np.concatenate([models[0](batch) for batch in batches])
    centre = plain_error(true, np.full_like(true, 0.5))
    assert found["rmse"] == pytest.approx(plain_error(true, predicted), rel=1e-4)
    assert found["rmse_centre"] == pytest.approx(centre, rel=1e-5)
    assert found["ratio"] == pytest.approx(found["rmse"] / centre, rel=1e-4)
    assert found["rmse_best10"] <= found["rmse"]
    assert found["num_training_patches"] == 4 * results["num_training_images"]
    assert found["penalty"] == models[0].penalty
    assert "none" not in results
    assert f"features of {module}" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "out" / "aberration.png")) is not None


@pytest.fixture(scope="module")
def batches(sources):
    """Gives ten photographs with 32 patches each."""
    return single_images(scan_images(sources).usable(), 10, 32)


def test_places_that_features_hold_are_found(batches):
    # Features that are the answer, rotated and stretched, beside much that has nothing to do with
    # it: the regression must find it, and on other photographs than those it learnt from.
    answers = iter([batch["positions"] for batch in batches])
    generator = np.random.default_rng(0)

    def describe(patches):
        noise = generator.normal(size=(len(patches), 5))
        rotated = next(answers) @ [[100.0, 3.0], [-3.0, 100.0]]
        return np.concatenate([rotated, noise, np.full([len(patches), 1], 3000.0)], 1)

    model = FeaturePositions(describe).fit(batches[:8])
    for batch in batches[8:]:
        assert plain_error(batch["positions"], model(batch)) < 0.01
    assert model.penalty in (1.0, 10.0)


def test_features_that_hold_nothing_answer_about_the_centre(batches):
    generator = np.random.default_rng(0)
    model = FeaturePositions(lambda patches: generator.normal(size=(len(patches), 30)))
    model.fit(batches[:8])
    assert model.penalty >= 1e3
    true = np.concatenate([batch["positions"] for batch in batches[8:]])
    predicted = np.concatenate([model(batch) for batch in batches[8:]])
    assert plain_error(true, predicted) == pytest.approx(
        plain_error(true, np.full_like(true, 0.5)), rel=0.1
    )


def test_nothing_is_put_outside_the_image(batches):
    # Features of an untrained network have outliers: one patch in a thousand made the error 1.4.
    scale = iter([1.0] * 8 + [1000.0])

    def describe(patches):
        places = next(positions) * next(scale)
        return np.concatenate([places, np.full([len(patches), 1], 3000.0)], 1)

    positions = iter([batch["positions"] for batch in batches])
    model = FeaturePositions(describe).fit(batches[:8])
    predicted = model(batches[8])
    assert predicted.dtype == np.float32
    assert predicted.min() >= 0
    assert predicted.max() == 1


def test_features_see_the_pixels_of_the_patch(batches):
    batch = batches[0]
    seen = []

    def describe(patches):
        seen.append(patches)
        return np.zeros((len(patches), 1))

    FeaturePositions(describe).fit([batch, batch])
    (height, width), number = batch["sizes"][0].numpy(), 2
    image = batch["canvases"][0, : height * width].numpy().reshape(height, width, 3)
    _, row, column = batch["corners"][number].numpy()
    expected = image[row : row + 96, column : column + 96] / 255
    np.testing.assert_allclose(seen[0][number], expected, atol=1e-6)
    assert seen[0].dtype == np.float32


def test_one_photograph_is_too_few_to_learn_from(batches):
    with pytest.raises(ValueError, match="At least 2 photographs"):
        FeaturePositions(lambda patches: tf.zeros([len(patches), 2])).fit(batches[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": 1, "steps": 1}, "not both"),
        ({"steps": 0}, "--steps"),
        ({"minutes": -1.0}, "--minutes"),
        ({"strength": -1.0}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"patches_per_image": 0}, "--patches-per-image"),
        ({"minutes": float("inf")}, "`--minutes` must be a finite number over 0. Received: inf"),
        ({"minutes": float("nan")}, "--minutes"),
        ({"learning_rate": float("inf")}, "--learning-rate"),
        ({"strength": float("inf")}, "--strength"),
        ({"held_out": 1.0}, "--held-out"),
        ({"held_out": float("nan")}, "--held-out"),
        ({"seed": -1}, "--seed"),
        ({"regressors": False}, "--module"),
    ],
)
def test_bad_values_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        aberration.Config(images=["x"], out=tmp_path, **change)
