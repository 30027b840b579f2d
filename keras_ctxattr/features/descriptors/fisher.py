"""Fisher vectors of SIFT and of local colour statistics."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any, Self

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from keras_ctxattr.features.descriptors.base import Descriptor, settings_of

_CELLS = 4  # along the side of a window, in SIFT and in the colour statistics alike
_MAX_PATCHES = 1000  # that `fit` looks at
_MAX_LOCAL = 100  # local descriptors of one of them that it takes
_MIN_VARIANCE = 1e-4  # of a mode; that of SIFT of length 1 is about 1 / 200 per component
_MAX_ITERATIONS = 50  # of expectation and maximisation


@dataclasses.dataclass(eq=False)
class FisherVectors(Descriptor):
    """Fisher vectors of dense SIFT and colour: how a patch's local descriptors differ from most.

    Windows of 4 x 4 cells lie on a grid, at several scales. Each is described by SIFT (length 1)
    and by the mean and deviation of R, G and B in every cell. Each of the two kinds is reduced by
    PCA; the gradient of a Gaussian mixture's likelihood, with the signed root of every value and
    length 1, makes half of the vector. A patch without any local structure gets what its colours
    give.

    Args:
        size: Side of a patch in pixels, at least 4 times the smallest cell.
        num_modes: Gaussians in a mixture.
        num_components: Principal components kept, at most 96.
        cells: Sides of the cells in pixels; windows that do not fit into a patch are left out.
        step: Distance of windows in pixels; None takes `size // 12`.

    Reference:
        Perronnin, Sánchez, Mensink 2010; Sánchez, Perronnin, Mensink, Verbeek 2013, section 4.1
        (SIFT and local colour statistics). The attributes' paper starts from these on photographs;
        it does not state their settings: these are ours.

    Example:
        >>> FisherVectors(96).num_features
        2080
    """

    size: int = 96
    num_modes: int = 16
    num_components: int = 32
    cells: tuple[int, ...] = (4, 6, 8, 10)
    step: int | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        self.cells = tuple(self.cells)
        self.step = max(1, self.size // 12) if self.step is None else self.step
        if (
            min(self.num_modes, self.step, *(self.cells or (0,))) < 1
            or not 1 <= self.num_components <= 96
        ):
            raise ValueError(
                "`num_modes`, `step` and all `cells` must be at least 1, `num_components` 1...96. "
                f"Received: {self}"
            )
        if self.size < _CELLS * min(self.cells):
            raise ValueError(
                f"`size` must be at least {_CELLS} times the smallest of `cells`, or no window "
                f"fits. Received: {self}"
            )
        self._learnt: dict[str, np.ndarray] = {}

    @property
    def num_features(self) -> int:
        """Length of a vector."""
        return len(_KINDS) * self.num_modes * (2 * self.num_components + 1)

    @property
    def config(self) -> dict[str, Any]:
        """The settings, and a digest of what was learnt (None before `fit`)."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self._learnt):
            digest.update(name.encode() + self._learnt[name].tobytes())
        return {**settings_of(self), "state": digest.hexdigest() if self._learnt else None}

    def fit(self, pixels: np.ndarray, seed: int = 0) -> Self:
        """Learns principal components and mixtures from a sample.

        Args:
            pixels: uint8 `[n, size, size, 3]`; of more than 1 000 patches so many are drawn.
            seed: Seed of all draws. The same patches and seed give the same bits.

        Raises:
            ValueError: If the local descriptors are fewer, or less different, than the modes.
        """
        generator = np.random.default_rng(seed)
        rows = generator.permutation(len(pixels))[:_MAX_PATCHES]
        chosen = pixels[np.sort(rows)]
        # The order in which threads add up is not fixed, and the last bits would differ.
        with threadpool_limits(limits=1):
            self._learnt = {
                f"{kind}_{name}": values
                for kind, describe in _KINDS.items()
                for name, values in self._learn(chosen, describe, generator, seed).items()
            }
        return self

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Describes patches uint8 `[b, size, size, 3]`: float32 `[b, num_features]`."""
        self.check_fitted()
        mixtures = {kind: _make_mixture(self._learnt, kind) for kind in _KINDS}
        vectors = np.empty((len(pixels), self.num_features), np.float32)
        # The matrices are small: with threads the same takes three times the processor's time.
        with threadpool_limits(limits=1):
            for row, patch in enumerate(pixels):
                halves = [
                    self._encode(describe(patch, self), mixtures[kind], kind)
                    for kind, describe in _KINDS.items()
                ]
                vectors[row] = np.concatenate(halves)
        return vectors

    def _encode(self, local: np.ndarray, mixture: Any, kind: str) -> np.ndarray:
        """Gives the improved Fisher vector of local descriptors `[n, values]`."""
        from skimage.feature import fisher_vector

        reduced = (local - self._learnt[f"{kind}_center"]) @ self._learnt[f"{kind}_axes"]
        vector = fisher_vector(reduced, mixture)
        vector = np.sign(vector) * np.sqrt(np.abs(vector))
        # Both kinds weigh the same, and the whole has length 1.
        return vector / max(np.linalg.norm(vector) * len(_KINDS) ** 0.5, 1e-12)

    def _learn(
        self,
        pixels: np.ndarray,
        describe: Callable[[np.ndarray, FisherVectors], np.ndarray],
        generator: np.random.Generator,
        seed: int,
    ) -> dict[str, np.ndarray]:
        """Gives center, axes, and the mixture's weights, means and variances, of one kind."""
        from skimage.feature import learn_gmm
        from sklearn.decomposition import PCA

        samples = (describe(patch, self) for patch in pixels)
        local = np.concatenate(
            [sample[generator.permutation(len(sample))[:_MAX_LOCAL]] for sample in samples]
            or [np.zeros((0, 1))]
        )
        num_different = len(np.unique(local, axis=0))
        if num_different < max(2 * self.num_modes, self.num_components):
            raise ValueError(
                "A mixture needs at least twice as many different local descriptors as `num_modes`"
                ", and `num_components`; give more patches, or make these smaller. "
                f"Received: {num_different} for {self}"
            )
        pca = PCA(self.num_components, svd_solver="covariance_eigh").fit(local)
        mixture = learn_gmm(
            (local - pca.mean_) @ pca.components_.T,
            n_modes=self.num_modes,
            gm_args={
                "covariance_type": "diag",
                "random_state": seed,
                "reg_covar": _MIN_VARIANCE,
                "max_iter": _MAX_ITERATIONS,
                "tol": 1e-2,  # settled enough: the vectors need no maximum of the likelihood
            },
        )
        return {
            "center": pca.mean_,
            "axes": pca.components_.T,
            "weights": mixture.weights_,
            "means": mixture.means_,
            "variances": mixture.covariances_,
        }

    def _state(self) -> dict[str, np.ndarray]:
        return dict(self._learnt)

    def _set_state(self, state: dict[str, np.ndarray]) -> None:
        self._learnt = dict(state)


def _make_mixture(learnt: dict[str, np.ndarray], kind: str) -> Any:
    """Gives the scikit-learn object that `fisher_vector` wants."""
    from sklearn.mixture import GaussianMixture

    weights = learnt[f"{kind}_weights"]
    mixture = GaussianMixture(len(weights), covariance_type="diag")
    mixture.weights_, mixture.means_ = weights, learnt[f"{kind}_means"]
    mixture.covariances_ = learnt[f"{kind}_variances"]
    mixture.precisions_cholesky_ = 1 / np.sqrt(mixture.covariances_)
    return mixture


# --- Local descriptors ---


@functools.lru_cache(maxsize=8)
def _place_windows(size: int, cells: tuple[int, ...], step: int) -> np.ndarray:
    """Gives the windows as int `[windows, 3]`: middle (x, y) and side of a cell."""
    windows = []
    for cell in cells:
        middles = np.arange(_CELLS * cell // 2, size - _CELLS * cell // 2 + 1, step)
        grid = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)
        windows.append(np.insert(grid, 2, cell, axis=1))
    return np.concatenate(windows)


def _windows_of(descriptor: FisherVectors) -> np.ndarray:
    return _place_windows(descriptor.size, descriptor.cells, int(descriptor.step or 1))


def _describe_gradients(patch: np.ndarray, descriptor: FisherVectors) -> np.ndarray:
    """Gives SIFT float32 `[windows, 128]` of length 1; zeros where a window is flat."""
    # A cell of SIFT is 1.5 times what OpenCV calls the size of a point; angle 0 is upright.
    points = [
        cv2.KeyPoint(float(x), float(y), cell / 1.5, 0.0) for x, y, cell in _windows_of(descriptor)
    ]
    grey = cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2GRAY)
    _, values = _make_sift().compute(grey, points)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1.0)


def _make_sift() -> Any:
    # By its name: the type hints of OpenCV 5 do not know it, those of 4.10 do.
    return getattr(cv2, "SIFT_create")()  # noqa: B009


def _describe_colours(patch: np.ndarray, descriptor: FisherVectors) -> np.ndarray:
    """Gives mean and deviation of R, G, B in every cell: float64 `[windows, 96]`, in 0...1."""
    sums, squares = cv2.integral2(np.ascontiguousarray(patch), sdepth=cv2.CV_64F)
    windows = _windows_of(descriptor)
    cell = windows[:, 2:]
    offsets = np.arange(_CELLS) - _CELLS // 2
    left, top = (windows[:, [axis]] + offsets * cell for axis in (0, 1))  # [window, cell]
    means, second = (
        _sum_cells(table, left, top, cell) / cell[..., None, None] ** 2 for table in (sums, squares)
    )
    deviations = np.sqrt(np.maximum(second - means**2, 0))
    return np.concatenate([means, deviations], -1).reshape(len(windows), -1) / 255


def _sum_cells(
    table: np.ndarray, left: np.ndarray, top: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """Gives sums over cells from a summed-area table: `[window, row, column, channel]`."""
    rows, columns = top[:, :, None], left[:, None, :]
    below, right = rows + cell[..., None], columns + cell[..., None]
    return table[below, right] - table[rows, right] - table[below, columns] + table[rows, columns]


_KINDS: dict[str, Callable[[np.ndarray, FisherVectors], np.ndarray]] = {
    "gradients": _describe_gradients,
    "colours": _describe_colours,
}
