"""Prints what `tensorflow_addons.losses.TripletHardLoss` gives for drawn codes, as JSON.

Runs where TensorFlow Addons does, without this package: `python tests/peer/triplets.py`. Its output
is kept in `triplet_values.json`.
"""

import json
import warnings

import numpy as np


def draw(seed: int, num_bits: int, num_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives codes float32 `[2 clusters, num_bits]` in (-1, 1), and clusters of two samples each."""
    generator = np.random.default_rng(seed)
    codes = np.tanh(generator.standard_normal((2 * num_clusters, num_bits)))
    return codes.astype(np.float32), np.repeat(np.arange(num_clusters), 2)


CASES = [(0, 8, 3), (1, 16, 12), (2, 64, 64), (3, 32, 2)]
MARGINS = [None, 1.5, 100.0]


def main() -> None:
    """Prints a list of [seed, bits, clusters, margin, value]."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons as tfa

    def hamming(codes: tf.Tensor) -> tf.Tensor:
        return (codes.shape[1] - tf.matmul(codes, codes, transpose_b=True)) / 2

    values = []
    for seed, num_bits, num_clusters in CASES:
        codes, clusters = draw(seed, num_bits, num_clusters)
        for margin in MARGINS:
            rho = num_bits / 2 if margin is None else margin
            loss = tfa.losses.TripletHardLoss(margin=rho, distance_metric=hamming)
            values.append([seed, num_bits, num_clusters, margin, float(loss(clusters, codes))])
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
