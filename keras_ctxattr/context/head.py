"""From the features of patches to the relative positions of pairs."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ctxattr.backbones.networks import batch_normalization, uniform_initializer
from keras_ctxattr.layers.seeds import drop_by_group, set_seed

NUM_POSITIONS = 8
_DROPS = {"fc6": 8, "fc7": 9, "fc8": 10}  # numbers for `set_seed`: layers before have 0 to 7


@keras.saving.register_keras_serializable(package="keras_ctxattr")
class PairHead(keras.layers.Layer):
    """fc7 to fc9: from the features of patches to the positions of pairs.

    The first fused layer is computed per patch and then gathered, W [f_a; f_b] = W_a f_a + W_b f_b:
    with about 4.5 pairs a patch that takes less than a quarter of the work of concatenating first.

    Call arguments:
        features: float `[patches, num_features]`.
        pairs: int32 `[pairs, 2]`, indices of the first and the second patch.
        mask: bool `[pairs]`, False where a pair is padding and must stay out of the statistics.
        seeds: int32 `[groups, 2]` of the dropout, a row for each of the equal groups that patches
            and pairs come in; None goes on with the layers' own draws.
        training: whether to normalise by the batch.

    Returns:
        (`logits` float32 `[pairs, 8]`, `fused` float `[pairs, hidden_units]`: fc7 after its ReLU,
        before dropout).

    Args:
        hidden_units: width of fc7 and fc8.
        normalized: which of `"fc7"` and `"fc8"` are batch-normalised, without scale and shift.
        dropout: share of the features, of fc7 and of fc8 that training sets to 0, 0 to below 1.
            Neither the paper nor the released code drops any; small collections need it.
        seed: seed of the dropout, or None.
        **kwargs: passed on to `keras.layers.Layer`.

    Reference:
        Doersch, Gupta, Efros 2015, figure 3.
    """

    def __init__(
        self,
        hidden_units: int = 4096,
        normalized: Sequence[str] = ("fc7",),
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.hidden_units = hidden_units
        self.normalized = tuple(normalized)
        self.dropout = dropout
        self.seed = seed
        # Each half of fc7 sees half of its inputs, and starts as that half of the whole would.
        self.fc7_first = self._dense("fc7_first", "fc7" not in normalized, fan_in_share=0.5)
        self.fc7_second = self._dense("fc7_second", use_bias=False, fan_in_share=0.5)
        self.fc8 = self._dense("fc8", "fc8" not in normalized)
        self.fc9 = keras.layers.Dense(
            NUM_POSITIONS, dtype="float32", kernel_initializer=uniform_initializer(), name="fc9"
        )
        self.norms = {
            name: batch_normalization(f"{name}_norm", dtype=self.dtype_policy)
            for name in sorted(self.normalized)
        }
        self.drops = {
            name: keras.layers.Dropout(
                dropout, seed=seed, name=f"{name}_drop", dtype=self.dtype_policy
            )
            for name in _DROPS
        }

    def _dense(self, name: str, use_bias: bool, fan_in_share: float = 1.0) -> keras.layers.Dense:
        return keras.layers.Dense(
            self.hidden_units,
            use_bias=use_bias,
            kernel_initializer=uniform_initializer(fan_in_share),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, features_shape: tuple[int | None, ...], *_: Any, **__: Any) -> None:
        """Builds the layers from the width of the features."""
        self.fc7_first.build(features_shape)
        self.fc7_second.build(features_shape)
        hidden = (None, self.hidden_units)
        self.fc8.build(hidden)
        self.fc9.build(hidden)
        for norm in self.norms.values():
            norm.build(hidden)

    def set_seeds(self, seed: Any) -> None:
        """Makes the next draws of each dropout a function of a seed, int `[2]`."""
        for name, layer in self.drops.items():
            if self.dropout:  # without, a layer draws nothing
                set_seed(layer, seed, _DROPS[name])

    def call(
        self,
        features: Any,
        pairs: Any,
        mask: Any = None,
        seeds: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, Any]:
        """Gives each pair's logits, and its fused layer for the guards."""
        features = self._drop("fc6", features, seeds, training)
        first = ops.take(self.fc7_first(features), pairs[:, 0], axis=0)
        second = ops.take(self.fc7_second(features), pairs[:, 1], axis=0)
        return self._classify(first + second, mask, seeds, training)

    def _classify(self, fused: Any, mask: Any, seeds: Any, training: bool | None) -> Any:
        """Gives logits from fc7 before its activation, and fc7 after it."""
        fused = self._activate("fc7", fused, mask, training)
        hidden = self.fc8(self._drop("fc7", fused, seeds, training))
        hidden = self._activate("fc8", hidden, mask, training)
        return self.fc9(self._drop("fc8", hidden, seeds, training)), fused

    def _drop(self, name: str, values: Any, seeds: Any, training: bool | None) -> Any:
        return drop_by_group(self.drops[name], values, seeds, _DROPS[name], training)

    def _activate(self, name: str, values: Any, mask: Any, training: bool | None) -> Any:
        if name in self.norms:
            values = self.norms[name](values, training=training, mask=mask)
        return ops.relu(values)

    def compute_output_spec(
        self,
        features: Any,
        pairs: Any,
        mask: Any = None,
        seeds: Any = None,
        training: bool | None = None,
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Gives the shapes and dtypes of logits and fused layer."""
        count = pairs.shape[0]
        logits = keras.KerasTensor((count, NUM_POSITIONS), dtype="float32")
        return logits, keras.KerasTensor((count, self.hidden_units), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Gives the constructor's arguments."""
        config = {
            "hidden_units": self.hidden_units,
            "normalized": self.normalized,
            "dropout": self.dropout,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}
