"""The model that learns binary attributes: a projection of a backbone's features, and its loss."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_ctxattr.attributes.codes import DEAD, DUPLICATE
from keras_ctxattr.attributes.losses import (
    dependence,
    literal_dependence,
    projected_variance,
    relaxed_codes,
    squared_norm,
    triplet_hinges,
)
from keras_ctxattr.attributes.projection import initial_projection, measure_features
from keras_ctxattr.layers import FeatureScaling, PatchProcessing, RandomTransformation
from keras_ctxattr.layers.replicas import (
    first_row,
    gather_replicas,
    mean_over_replicas,
    mean_results,
    num_replicas,
)

_WATCHED = ("triplet", "variance", "dependence", "violating", "dead_bits", "duplicate_bits")
_MAX_SAMPLES = 8_000  # that W begins from; more change it little
_MEMORY = 0.95  # of the running means of bits and of their products, a step


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class AttributeHasher(keras.Model):
    """Learns binary attributes that samples of one cluster share and those of others do not.

    Features of the backbone are brought to unit length, as those of a module are before photographs
    are described by their mean, centred and scaled, projected by W without a bias, and relaxed to
    2 sigmoid(W^T f) - 1. The loss is the mean triplet hinge over the batch, with a sample of the
    same cluster and the hardest of another, minus `alpha` times the variance of the projections,
    plus `beta` |W^T W - I|^2 and `gamma` |W|^2. Where several devices share a batch, it is that of
    the whole batch, and the hardest negative is looked for in all of it. An attribute's bit is set
    where its score W^T f is above 0.

    Call arguments:
        samples: uint8 `[batch, size, size, 3]` patches; without a backbone float
            `[batch, num_features]`.
        training: whether patches are transformed, and batch statistics used.

    Returns:
        float32 `[batch, num_attributes]`: attribute scores.

    `fit` takes batches (samples, (clusters int32 `[batch]`, positives int32 `[batch]`)), see
    `keras_ctxattr.attributes.triplet_batches`.

    Args:
        backbone: any `keras.Model` from float32 `[batch, size, size, 3]` to
            `[batch, num_features]`; None where features themselves are given.
        num_attributes: K, a multiple of 8.
        num_features: length of a feature vector, where there is no backbone.
        alpha: weight of the variance.
        beta: weight of the dependence of the bits.
        gamma: weight of |W|^2.
        margin: of the hinge in bits; None for K / 2.
        contrast_size: samples among which the hardest negative is looked for, see `triplet_hinges`;
            None for the whole batch, as in the paper.
        slope: of the sigmoid at first; `slope` is a weight that a callback may raise.
        normalize: whether the backbone's features are divided by their lengths.
        backbone_rate: which share of an optimizer's step the backbone takes: its learning rate over
            that of W, 0 to 1; 0 freezes it (`backbone.trainable` becomes False).
        literal_eq2: whether the terms are those printed: +`alpha` sum of the variances and
            |W W^T - I|^2, which make all projections vanish.
        transformations: ranges of `RandomTransformation`; None transforms nothing.
        colour: as in `PatchProcessing`.
        seed: seed of the draws on the device.
        **kwargs: passed on to `keras.Model`.

    Raises:
        ValueError: if an argument is impossible.

    Example:
        >>> import keras_ctxattr as ca
        >>> hasher = ca.AttributeHasher(num_attributes=16, num_features=32)
        >>> hasher.compile(optimizer="adam")

    Reference:
        Huang, Loy, Tang 2016, section 3.2, equation 2.
    """

    def __init__(
        self,
        backbone: keras.Model | None = None,
        *,
        num_attributes: int = 64,
        num_features: int | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 5e-4,
        margin: float | None = None,
        contrast_size: int | None = None,
        slope: float = 1.0,
        normalize: bool = True,
        backbone_rate: float = 1.0,
        literal_eq2: bool = False,
        transformations: Mapping[str, float] | None = None,
        colour: str = "none",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(backbone, num_attributes, num_features, backbone_rate, slope)
        if contrast_size is not None and contrast_size < 2:
            raise ValueError(f"`contrast_size` must be at least 2. Received: {contrast_size}")
        self.backbone = backbone
        self._settings: dict[str, Any] = {
            "num_attributes": num_attributes,
            "num_features": num_features,
            "alpha": alpha,
            "beta": beta,
            "gamma": gamma,
            "margin": margin,
            "contrast_size": contrast_size,
            "slope": slope,
            "normalize": normalize,
            "backbone_rate": backbone_rate,
            "literal_eq2": literal_eq2,
            "transformations": None if transformations is None else dict(transformations),
            "colour": colour,
            "seed": seed,
        }
        if backbone is not None:
            if backbone_rate == 0:
                backbone.trainable = False
            self.transformation = (
                None
                if transformations is None
                else RandomTransformation(**transformations, seed=seed, name="transformation")
            )
            self.processing = PatchProcessing(
                colour=colour, downsampling=0.0, seed=seed, name="processing"
            )
        self.scaling = FeatureScaling(name="scaling")
        self.projection = keras.layers.Dense(
            num_attributes,
            use_bias=False,
            kernel_initializer=keras.initializers.Orthogonal(seed=seed),
            dtype="float32",
            name="attributes",
        )
        self.loss_metric = keras.metrics.Mean(name="loss")
        self._watched = {name: keras.metrics.Mean(name=name) for name in _WATCHED}
        self.supports_jit = bool(tf.config.list_physical_devices("GPU"))  # slower on a CPU
        self.build()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Lists the metrics, which `fit` and `evaluate` reset."""
        return [self.loss_metric, *self._watched.values()]

    @property
    def num_attributes(self) -> int:
        """K."""
        return self._settings["num_attributes"]

    @property
    def normalizes(self) -> bool:
        """Whether features are brought to unit length before they are centred."""
        return bool(self._settings["normalize"])

    @property
    def drawing_layers(self) -> list[keras.layers.Layer]:
        """The layers that draw for the whole batch, however many devices share it."""
        transformation = self.transformation if self.backbone is not None else None
        return [] if transformation is None else [transformation]

    @property
    def _sample_shape(self) -> tuple[int | None, ...]:
        """The shape of samples, the batch's being None."""
        if self.backbone is None:
            return (None, self._settings["num_features"])
        return tuple(self.backbone.input_shape)

    def build(self, input_shape: Any = None) -> None:
        """Builds all layers; the backbone knows its input."""
        if getattr(self, "built", False):
            return
        features = self._sample_shape
        if self.backbone is not None:
            self.processing.build(features)
            if self.transformation is not None:
                self.transformation.build(features)
            features = tuple(self.backbone.compute_output_shape(features))
            if len(features) != 2:
                raise ValueError(
                    "`backbone` must give [batch, num_features]; append Flatten or pooling. "
                    f"Received: a backbone whose output has shape {features}"
                )
        self.scaling.build(features)
        self.projection.build(features)
        bits = self.num_attributes
        self.slope = self._weight("slope", (), self._settings["slope"])
        self.bit_means = self._weight("bit_means", (bits,), 0.0)
        self.bit_products = self._weight("bit_products", (bits, bits), 0.0)
        self.built = True

    def _weight(self, name: str, shape: tuple[int, ...], value: float) -> Any:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.Constant(value),
            trainable=False,
            dtype="float32",
        )

    def call(self, samples: Any, training: bool | None = None) -> Any:
        """Gives attribute scores."""
        return self.projection(self.scaling(self.describe(samples, training), training=training))

    def describe(self, samples: Any, training: bool | None = None) -> Any:
        """Gives features before they are centred and scaled, float `[batch, num_features]`."""
        if self.backbone is None:
            return samples
        if self.transformation is not None:
            samples = self.transformation(samples, training=training)
        patches = self.processing(samples, training=training)
        features = self.backbone(patches, training=training and self.backbone.trainable)
        if not self._settings["normalize"]:
            return features
        return ops.normalize(ops.cast(features, "float32"), axis=-1, epsilon=1e-12)

    def initialize(self, vectors: Any, labels: np.ndarray, seed: int = 0) -> None:
        """Takes the features' mean and scale, and begins W as the clusters' own binary codes.

        Args:
            vectors: what `describe` gives of the samples, float `[n, num_features]`; an array or a
                table that is sliced like one.
            labels: int `[n]`: the cluster of each sample, -1 for none.
            seed: of the samples that W is learnt from.

        Raises:
            ValueError: if fewer than two clusters have samples.

        Reference:
            Huang, Loy, Tang 2016, section 3.2; see `initial_projection`.
        """
        mean, variance = measure_features(vectors)
        self.scaling.set_statistics(mean, variance)
        rows = np.flatnonzero(np.asarray(labels) >= 0)
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:_MAX_SAMPLES])
        scaled = (np.asarray(vectors[rows], np.float64) - mean) / np.sqrt(variance)
        kernel = initial_projection(
            scaled, np.asarray(labels)[rows], self.num_attributes, seed=seed
        )
        self.projection.kernel.assign(kernel)

    def folded_projection(self) -> tuple[np.ndarray, np.ndarray]:
        """Gives (weights `[num_features, num_attributes]`, offsets `[num_attributes]`), float32.

        Scores of features f, as `describe` gives them, are f . weights + offsets: the centring and
        scaling are inside.
        """
        deviation = np.sqrt(max(float(self.scaling.variance), self.scaling.smallest))
        weights = np.asarray(self.projection.kernel, np.float64) / deviation
        offsets = -np.asarray(self.scaling.mean, np.float64) @ weights
        return weights.astype(np.float32), offsets.astype(np.float32)

    def with_backbone(self, backbone: keras.Model) -> "AttributeHasher":
        """Gives the same attributes of patches or photographs, where this model takes features.

        Args:
            backbone: a `keras.Model` whose features, as `describe` gives them, this was trained on.

        Raises:
            ValueError: if this model has a backbone, or that one gives another number of features.
        """
        num_features = self._settings["num_features"]
        if self.backbone is not None or backbone.output_shape[-1] != num_features:
            raise ValueError(
                "`backbone` must give as many features as this model takes, which must not have "
                f"one yet. Received: {backbone.output_shape[-1]} features for {num_features}"
            )
        settings = {**self.get_config(), "num_features": None, "backbone": backbone}
        found = AttributeHasher(**settings)
        found.scaling.set_weights(self.scaling.get_weights())
        found.projection.set_weights(self.projection.get_weights())
        return found

    # --- training ---

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one gradient step on a batch, as `fit` asks for."""
        samples, (clusters, positives), _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            scores = self(samples, training=True)
            terms = self.terms(scores, clusters, positives)
            loss = self.attribute_loss(terms)
            # Gradients are summed over replicas, each of which has as many samples.
            scaled = self.optimizer.scale_loss(loss / num_replicas())
        gradients = tape.gradient(scaled, self.trainable_variables)
        self._apply(gradients)
        self._score(terms, loss, scores)
        return mean_results(self.metrics)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch, as `evaluate` asks for."""
        samples, (clusters, positives), _ = keras.utils.unpack_x_y_sample_weight(data)
        scores = self(samples, training=False)
        terms = self.terms(scores, clusters, positives)
        self.loss_metric.update_state(self.attribute_loss(terms))
        for name in ("triplet", "variance", "dependence", "violating"):
            self._watched[name].update_state(terms[name])
        return mean_results(self.metrics[:5])

    def terms(self, scores: Any, clusters: Any, positives: Any) -> dict[str, Any]:
        """Gives each term of the loss, unweighted, float32 `[]`; and the share of hinges above 0.

        Args:
            scores: float32 `[batch, num_attributes]`.
            clusters: int `[batch]`.
            positives: int `[batch]`, see `triplet_hinges`.
        """
        codes = relaxed_codes(scores, self.slope)
        given = self._settings
        hinges = triplet_hinges(
            codes,
            clusters,
            positives,
            given["margin"],
            given["contrast_size"],
            gather=gather_replicas,
            first=first_row(ops.shape(codes)[0]),
        )
        weights = self.projection.kernel
        literal = given["literal_eq2"]
        return {
            "triplet": ops.mean(hinges),
            "violating": ops.mean(ops.cast(hinges > 0, "float32")),
            "variance": projected_variance(scores),
            "dependence": literal_dependence(weights) if literal else dependence(weights),
            "norm": squared_norm(weights),
        }

    def attribute_loss(self, terms: Mapping[str, Any]) -> Any:
        """Gives the weighted sum of the terms, and the backbone's own regularisation."""
        given = self._settings
        # As printed, the variance is a sum over the bits, and has a plus.
        balance = self.num_attributes if given["literal_eq2"] else -1.0
        loss = (
            terms["triplet"]
            + given["alpha"] * balance * terms["variance"]
            + given["beta"] * terms["dependence"]
            + given["gamma"] * terms["norm"]
        )
        for penalty in self.losses:
            loss += ops.cast(penalty, loss.dtype)
        return loss

    def _apply(self, gradients: list[Any]) -> None:
        """Takes the optimizer's step, of which the backbone takes its share."""
        rate = self._settings["backbone_rate"]
        slow = self.backbone.trainable_variables if self.backbone is not None and rate < 1 else []
        # Copies: a variable itself would be read only after it has changed.
        before = [tf.identity(variable.value) for variable in slow]
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        for variable, old in zip(slow, before, strict=True):
            variable.assign(old + rate * (variable - old))

    def _score(self, terms: Mapping[str, Any], loss: Any, scores: Any) -> None:
        self.loss_metric.update_state(loss)
        signs = ops.sign(ops.stop_gradient(scores))
        products = ops.matmul(ops.transpose(signs), signs) / ops.cast(
            ops.shape(signs)[0], "float32"
        )
        means, products = map(mean_over_replicas, (ops.mean(signs, axis=0), products))
        self.bit_means.assign(_MEMORY * self.bit_means + (1 - _MEMORY) * means)
        self.bit_products.assign(_MEMORY * self.bit_products + (1 - _MEMORY) * products)
        dead, duplicate = self._count_idle_bits()
        found = {**terms, "dead_bits": dead, "duplicate_bits": duplicate}
        for name, metric in self._watched.items():
            metric.update_state(found[name])

    def _count_idle_bits(self) -> tuple[Any, Any]:
        """Counts bits that are nearly always alike, and those that nearly repeat an earlier one."""
        # Running means begin at 0; the diagonal of the products would be 1 and tells how far.
        known = ops.maximum(ops.mean(ops.diagonal(self.bit_products)), 1e-6)
        means = self.bit_means / known
        spread = ops.sqrt(ops.maximum(1 - ops.square(means), 1e-6))
        covariance = self.bit_products / known - means[:, None] * means[None, :]
        correlation = ops.abs(covariance) / (spread[:, None] * spread[None, :])
        is_dead = ops.abs(means) > DEAD
        alive = ops.logical_not(is_dead)
        repeats = ops.logical_and(ops.tril(correlation, -1) > DUPLICATE, alive[None, :])
        duplicates = ops.logical_and(ops.any(repeats, axis=1), alive)
        return ops.sum(ops.cast(is_dead, "float32")), ops.sum(ops.cast(duplicates, "float32"))

    # --- saving ---

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        backbone = self.backbone and keras.saving.serialize_keras_object(self.backbone)
        return {**super().get_config(), **self._settings, "backbone": backbone}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "AttributeHasher":
        """Makes a model from `get_config`'s result."""
        config = dict(config)
        if config["backbone"] is not None:
            config["backbone"] = keras.saving.deserialize_keras_object(
                config["backbone"], custom_objects=custom_objects
            )
        return cls(**config)


def _check(
    backbone: keras.Model | None,
    num_attributes: int,
    num_features: int | None,
    backbone_rate: float,
    slope: float,
) -> None:
    """Refuses arguments of `AttributeHasher` that cannot be, in one line."""
    if num_attributes < 8 or num_attributes % 8:
        raise ValueError(
            "`num_attributes` must be a multiple of 8, so that codes are whole bytes. "
            f"Received: {num_attributes}"
        )
    if (backbone is None) == (num_features is None):
        raise ValueError(
            "Either `backbone` or `num_features` must be given, and not both. Received: "
            f"backbone={backbone}, num_features={num_features}"
        )
    if not 0 <= backbone_rate <= 1 or slope <= 0:
        raise ValueError(
            "`backbone_rate` must be 0 to 1 and `slope` above 0. Received: "
            f"backbone_rate={backbone_rate}, slope={slope}"
        )
