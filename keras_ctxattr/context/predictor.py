"""The pretext model: where does the second patch lie, seen from the first?"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_ctxattr.context.head import PairHead
from keras_ctxattr.layers.normalization import IMAGENET_MEAN
from keras_ctxattr.layers.patches import PatchCutter
from keras_ctxattr.layers.processing import PatchProcessing
from keras_ctxattr.layers.replicas import mean_results, share_of_sum, sum_over_replicas
from keras_ctxattr.layers.seeds import set_seed
from keras_ctxattr.runs.distribution import apply_summed


def position_loss(positions: Any, logits: Any, mask: Any) -> Any:
    """Gives the mean cross-entropy over the pairs that are not padding.

    Args:
        positions: int `[pairs]`, 0...7.
        logits: float32 `[pairs, 8]`.
        mask: bool or float `[pairs]`, 0 where a pair is padding.

    Returns:
        float32 `[]`, in nats; ln 8 = 2.08 is guessing.
    """
    weights = ops.cast(mask, logits.dtype)
    losses = keras.losses.sparse_categorical_crossentropy(positions, logits, from_logits=True)
    return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1)


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class ContextPredictor(keras.Model):
    """Predicts the relative position of two patches; its backbone learns visual features.

    Call arguments:
        batch: dict as `keras_ctxattr.data.grid_batches` gives: `canvases`, `sizes`, `corners`,
            `pairs`, and optionally `pair_mask`, `seed` and `redraws`.
        training: whether to downsample patches and to normalise by the batch.

    Returns:
        float32 `[pairs, 8]`, logits of the position of the second patch seen from the first.

    Args:
        backbone: any `keras.Model` from float32 `[batch, patch_size, patch_size, 3]` to
            `[batch, num_features]`, e.g. `keras_ctxattr.backbones.alexnet()`.
        preset: `"released"` or `"paper"`: processing of patches and normalisation of the head
            where code and paper differ.
        colour: guard against chromatic aberration, `"drop"`, `"project"` or `"none"`.
        mean: mean colour of the data set, 0 to 255, which preset `"paper"` subtracts.
        patch_size: side of a patch in pixels.
        jitter: largest shift of a patch per axis in pixels.
        downsampling: share of the training patches that are downsampled, 0 to 1.
        hidden_units: width of fc7 and fc8.
        dropout: share of fc6, fc7 and fc8 that training sets to 0, 0 to below 1.
        seed: seed of the draws on the device where batches carry none, or None.
        **kwargs: passed on to `keras.Model`.

    Example:
        >>> import keras_ctxattr as ca
        >>> model = ca.ContextPredictor(ca.backbones.compact(), hidden_units=64)
        >>> model.compile(optimizer="adam")

    Reference:
        Doersch, Gupta, Efros 2015, section 3.
    """

    def __init__(
        self,
        backbone: keras.Model,
        *,
        preset: str = "released",
        colour: str = "drop",
        mean: Sequence[float] = IMAGENET_MEAN,
        patch_size: int = 96,
        jitter: int = 7,
        downsampling: float = 1 / 3,
        hidden_units: int = 4096,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self._settings: dict[str, Any] = {
            "preset": preset,
            "colour": colour,
            "mean": tuple(mean),
            "patch_size": patch_size,
            "jitter": jitter,
            "downsampling": downsampling,
            "hidden_units": hidden_units,
            "dropout": dropout,
            "seed": seed,
        }
        self.cutter = PatchCutter(patch_size, jitter, seed=seed, name="cutter")
        self.processing = PatchProcessing(
            preset, colour, downsampling, mean, seed=seed, name="processing"
        )
        normalized = ("fc7",) if preset == "released" else ("fc7", "fc8")
        self.head = PairHead(
            hidden_units, normalized, dropout, seed=seed, dtype=self.dtype_policy, name="head"
        )
        self.loss_metric = keras.metrics.Mean(name="loss")
        self.accuracy_metric = keras.metrics.Mean(name="accuracy")
        self._watched = [
            keras.metrics.Mean(name=name)
            for name in ("update_norm", "prediction_spread", "active_fraction")
        ]
        self.redraws_metric = keras.metrics.Mean(name="redraws")
        # XLA compiles this model to slower code on a CPU (1.4-2.2 times, measured).
        self.supports_jit = bool(tf.config.list_physical_devices("GPU"))
        self.build()
        if seed is not None:  # else all layers would draw the same numbers
            self._set_seeds([seed, 0])
            self.head.set_seeds([seed, 0])

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Lists the metrics, which `fit` and `evaluate` reset."""
        return [self.loss_metric, self.accuracy_metric, *self._watched, self.redraws_metric]

    def build(self, input_shape: Any = None) -> None:
        """Builds all layers; patches have a fixed size, so no shape is needed."""
        if getattr(self, "built", False):
            return
        size = self.cutter.patch_size
        self.processing.build((None, size, size, 3))
        if not self.backbone.built:
            self.backbone.build((None, size, size, 3))
        features = self.backbone.compute_output_shape((None, size, size, 3))
        if len(features) != 2:
            raise ValueError(
                "`backbone` must give [batch, num_features]; append Flatten or pooling. "
                f"Received: a backbone whose output has shape {tuple(features)}"
            )
        self.head.build(features)
        self.built = True

    def call(self, batch: dict[str, Any], training: bool | None = None) -> Any:
        """Gives each pair's logits."""
        return self._predict(batch, training)[0]

    def _predict(self, batch: dict[str, Any], training: bool | None) -> tuple[Any, Any]:
        patches = self.process_patches(batch, training=training)
        features = self.backbone(patches, training=training)
        return self.head(
            features,
            batch["pairs"][:, :2],
            mask=batch.get("pair_mask"),
            seeds=_seeds(batch),
            training=training,
        )

    def process_patches(self, batch: dict[str, Any], training: bool | None = None) -> Any:
        """Gives what the backbone sees: float32 `[patches, patch_size, patch_size, 3]`."""
        seeds = _seeds(batch)
        if seeds is None:
            return self._process(batch, batch["corners"], training)
        # Each group has draws of its own, whichever device it is on.
        # Not split: TensorFlow has no kernel for that of integers on a GPU.
        groups = ops.reshape(batch["corners"], (seeds.shape[0], -1, 3))
        patches = []
        for seed, corners in zip(ops.unstack(seeds), ops.unstack(groups), strict=True):
            self._set_seeds(seed)
            patches.append(self._process(batch, corners, training))
        return patches[0] if len(patches) == 1 else ops.concatenate(patches)

    def _process(self, batch: dict[str, Any], corners: Any, training: bool | None) -> Any:
        patches = self.cutter(batch["canvases"], batch["sizes"], corners)
        return self.processing(patches, training=training)

    def _set_seeds(self, seed: Any) -> None:
        """Makes every draw of patches a function of a group's seed."""
        layers = [self.cutter, *self.processing.steps]
        random = [layer for layer in layers if hasattr(layer, "seed_generator")]
        for number, layer in enumerate(random):
            set_seed(layer, seed, number)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one gradient step on a batch, as `fit` asks for."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            logits, fused = self._predict(batch, training=True)
            loss = self.pretext_loss(batch, logits)
            # Every pair of the batch of all replicas counts alike, wherever it is.
            scaled = self.optimizer.scale_loss(loss * share_of_sum(ops.sum(_mask(batch))))
        gradients = sum_over_replicas(tape.gradient(scaled, self.trainable_variables))
        norm = self._update_norm(gradients)
        apply_summed(self.optimizer, gradients, self.trainable_variables)
        self._watch(norm, logits, fused, _mask(batch))
        if "redraws" in batch:
            redraws = ops.cast(batch["redraws"], "float32")
            self.redraws_metric.update_state(sum_over_replicas(redraws))
        self._score(batch, logits, loss)
        return mean_results(self.metrics)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch, as `evaluate` asks for."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        logits, _ = self._predict(batch, training=False)
        self._score(batch, logits, self.pretext_loss(batch, logits))
        return mean_results(self.metrics[:2])

    def pretext_loss(self, batch: dict[str, Any], logits: Any) -> Any:
        """Gives the loss of a batch: cross-entropy plus the backbone's own regularisation."""
        loss = position_loss(batch["pairs"][:, 2], logits, _mask(batch))
        for penalty in self.losses:
            loss += ops.cast(penalty, loss.dtype)
        return loss

    def _score(self, batch: dict[str, Any], logits: Any, loss: Any) -> None:
        mask = _mask(batch)
        hit = ops.equal(ops.argmax(logits, -1), ops.cast(batch["pairs"][:, 2], "int32"))
        self.loss_metric.update_state(loss, sample_weight=ops.sum(mask))
        self.accuracy_metric.update_state(ops.cast(hit, "float32"), sample_weight=mask)

    def _update_norm(self, gradients: Any) -> Any:
        """Gives the norm of one step of plain gradient descent, which the released code watches.

        Momentum and Adam make other updates of it. Their norm would tell no more: divided by a rate
        that decays, that of a velocity grows in healthy training.
        """
        scale = self.optimizer.scale_loss(tf.ones([]))
        norm = self.optimizer.learning_rate * tf.linalg.global_norm(gradients) / scale
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            # Gradients that overflow are not applied: that step's update is 0.
            norm = ops.where(ops.isfinite(norm), norm, 0.0)
        return norm

    def _watch(self, norm: Any, logits: Any, fused: Any, mask: Any) -> None:
        count = ops.maximum(sum_over_replicas(ops.sum(mask)), 1)
        share = (mask / count)[:, None]  # padding counts for nothing
        chances = ops.softmax(logits)
        alive = ops.cast(fused > 0, "float32")
        mean, active = sum_over_replicas(
            [ops.sum(share * chances, axis=0), ops.sum(share * alive, axis=0)]
        )
        variance = sum_over_replicas(ops.sum(share * ops.square(chances - mean), axis=0))
        found = (norm, ops.mean(ops.sqrt(variance)), ops.mean(active))
        for metric, value in zip(self._watched, found, strict=True):
            metric.update_state(value)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return {**super().get_config(), **self._settings, "backbone": backbone}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ContextPredictor":
        """Makes a model from `get_config`'s result."""
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects=custom_objects
        )
        return cls(**config)


def _seeds(batch: dict[str, Any]) -> Any:
    """Gives int32 `[groups, 2]`, or None where a batch carries no seeds."""
    return ops.reshape(batch["seed"], (-1, 2)) if "seed" in batch else None


def _mask(batch: dict[str, Any]) -> Any:
    """Gives float32 `[pairs]`: 0 where a pair is padding."""
    if "pair_mask" in batch:
        return ops.cast(batch["pair_mask"], "float32")
    return ops.ones(ops.shape(batch["pairs"])[:1], "float32")
