"""How Fast R-CNN and R-CNN take a training step: decay as Caffe has it, rates of their own."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops


class RegionLearner(keras.Model):
    """A network that is trained to tell regions of photographs apart; the base of both methods.

    A subclass says how a batch is scored, and which variables learn at another rate.

    Args:
        network: what is trained.
        weight_decay: of kernels, as a penalty of half their squares.
        **kwargs: passed on to `keras.Model`.
    """

    def __init__(self, network: keras.Model, *, weight_decay: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.weight_decay = weight_decay
        self.loss_metric = keras.metrics.Mean(name="loss")

    def score(self, batch: dict[str, Any], outputs: dict[str, Any]) -> Any:
        """Gives the loss of a batch, and counts what is right."""
        raise NotImplementedError

    def rate_factors(self) -> dict[int, float]:
        """Gives, by the id of a variable, its learning rate over that of the others."""
        raise NotImplementedError

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one gradient step on a batch, as `fit` asks for."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.score(batch, self(batch, training=True)) + self._penalty()
            # Gradients are summed over replicas.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(share)
        gradients = tape.gradient(scaled, self.trainable_variables)
        pairs = [
            (gradient if gradient is None or rate == 1 else gradient * rate, variable)
            for gradient, rate, variable in zip(
                gradients, self._rates(), self.trainable_variables, strict=True
            )
        ]
        self.optimizer.apply_gradients(pairs)
        self.loss_metric.update_state(loss)
        return self.compute_metrics(None, None, None)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Scores one batch, as `evaluate` asks for."""
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.loss_metric.update_state(self.score(batch, self(batch, training=False)))
        return self.compute_metrics(None, None, None)

    def _penalty(self) -> Any:
        """Gives the decay of kernels, as Caffe has it: in the gradient, so momentum sees it."""
        kernels = [one for one in self.trainable_variables if len(one.shape) > 1]
        return 0.5 * self.weight_decay * sum(ops.sum(ops.square(one)) for one in kernels)

    def _rates(self) -> list[float]:
        """Gives each variable's learning rate over the optimiser's: twice as high for biases."""
        factors = self.rate_factors()
        return [
            (2.0 if len(one.shape) == 1 else 1.0) * factors.get(id(one), 1.0)
            for one in self.trainable_variables
        ]

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "weight_decay": self.weight_decay,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "RegionLearner":
        """Makes a model from `get_config`'s result."""
        network = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        return cls(**{**config, "network": network})
