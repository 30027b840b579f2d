"""What attributes are learnt from besides samples: which of them are alike."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.attributes.batches import count_usable, neighbour_batches, triplet_batches
from keras_ctxattr.attributes.learning.recipe import AttributeRecipe
from keras_ctxattr.runs import digest_arrays


@dataclasses.dataclass(frozen=True)
class Groups:
    """Which samples are alike: those of a cluster, or neighbours.

    Attributes:
        labels: int32 `[n]`: the cluster of each; with neighbours a number of its own.
        neighbours: int64 `[n, k]`, or None.
        num_usable: samples that are learnt from.
        num_clusters: of those; 0 with neighbours.
    """

    labels: np.ndarray
    neighbours: np.ndarray | None
    num_usable: int
    num_clusters: int

    @classmethod
    def of(
        cls,
        samples: Any,
        labels: np.ndarray | None,
        neighbours: np.ndarray | None,
        recipe: AttributeRecipe,
    ) -> "Groups":
        """Checks what there is."""
        count = len(samples)
        if (labels is None) == (neighbours is None):
            raise ValueError(
                "Give `labels` or `neighbours`. Received: "
                + ("neither" if labels is None else "both")
            )
        if neighbours is not None:
            return cls(np.arange(count, dtype=np.int32), np.asarray(neighbours), count, 0)
        labels = np.asarray(labels, np.int32)
        if labels.shape != (count,):
            raise ValueError(
                "There must be a label for every sample. Received: "
                f"{count} samples and labels of shape {list(labels.shape)}"
            )
        return cls(labels, None, *count_usable(labels, recipe.samples_per_cluster))

    @property
    def digest(self) -> str:
        """Tells these groups from others."""
        known = self.labels if self.neighbours is None else self.neighbours
        return digest_arrays([known])

    def batches(
        self,
        samples: Any,
        recipe: AttributeRecipe,
        seed: int,
        first_step: int,
        share: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Gives training batches without end; see `triplet_batches`."""
        if self.neighbours is not None:
            return neighbour_batches(
                samples,
                self.neighbours,
                batch_size=recipe.batch_size,
                seed=seed,
                first_step=first_step,
                share=share,
            )
        return triplet_batches(
            samples,
            self.labels,
            batch_size=recipe.batch_size,
            samples_per_cluster=recipe.samples_per_cluster,
            seed=seed,
            first_step=first_step,
            share=share,
        )
