"""Spectral hashing."""

import numpy as np

from keras_ctxattr.attributes.baselines.base import FeatureHashing


class SpectralHashing(FeatureHashing):
    """The signs of eigenfunctions of a uniform distribution along the principal axes.

    On an axis of length r, eigenfunction m is cos(m pi x / r), the smoother the lower m / r. The
    `num_bits` smoothest of all axes are taken, so that long axes give several bits.

    Reference:
        Weiss, Torralba, Fergus 2008, "Spectral hashing", section 3.
    """

    def _learn(self, vectors: np.ndarray) -> None:
        self.axes_ = self._principal_axes(vectors)
        projected = vectors @ self.axes_
        self.lows_ = projected.min(axis=0)
        lengths = projected.max(axis=0) - self.lows_
        if not (lengths > 0).all():
            raise ValueError(
                "Spectral hashing needs features that vary along as many axes as there are bits: "
                f"ask for fewer. Received: num_bits={self.num_bits}, "
                f"{int((lengths > 0).sum())} axes that vary"
            )
        modes = np.arange(1, self.num_bits + 1)[:, None] * np.ones(self.num_bits)
        frequencies = np.pi * modes / lengths  # [mode, axis]
        order = np.argsort(frequencies, axis=None, kind="stable")[: self.num_bits]
        self.bit_axes_ = order % self.num_bits
        self.frequencies_ = frequencies.ravel()[order]

    def _score(self, vectors: np.ndarray) -> np.ndarray:
        along = (vectors @ self.axes_ - self.lows_)[:, self.bit_axes_]
        return np.cos(along * self.frequencies_)
