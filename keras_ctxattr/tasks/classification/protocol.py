"""Which photographs teach and which test: the folds of STL-10, draws of Caltech-101 and others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How often photographs are divided, and how.

    Attributes:
        name: as results carry it.
        train_per_class: photographs of a class that teach; None where folds are predefined.
        test_per_class: of those left, as many test, or all if there are fewer; None for all.
        num_draws: divisions.
        side: pixels of the square that photographs are scaled to.
        pooling: name in `keras_ctxattr.tasks.classification.pooling.POOLINGS`.
        left_out: folders that are no class.
    """

    name: str
    train_per_class: int | None
    test_per_class: int | None
    num_draws: int
    side: int
    pooling: str
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the numbers."""
        counts = (self.train_per_class, self.test_per_class, self.num_draws, self.side)
        if any(count is not None and count < 1 for count in counts):
            raise ValueError(
                "`train_per_class`, `test_per_class`, `num_draws` and `side` must be at least 1. "
                f"Received: {', '.join(map(str, counts))}"
            )


_CALTECH = Protocol(
    name="caltech101",
    train_per_class=30,
    test_per_class=50,
    num_draws=10,
    side=150,
    pooling="pyramid",
    left_out=("BACKGROUND_Google",),
)
PROTOCOLS: dict[str, Protocol] = {
    "stl10": Protocol(
        name="stl10",
        train_per_class=None,
        test_per_class=None,
        num_draws=10,
        side=96,
        pooling="quadrants",
    ),
    "caltech101": _CALTECH,
    "caltech101-mini": dataclasses.replace(
        _CALTECH, name="caltech101-mini", train_per_class=5, test_per_class=3
    ),
    "folders": dataclasses.replace(_CALTECH, name="folders", left_out=()),
}
"""The papers' protocols, one for the sample of 8 photographs a class, and one for any folders.

Reference:
    Huang, Loy, Tang 2016, section 5.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """One division.

    Attributes:
        train: int64 `[n]`, rows that teach; the first examples of each class come first.
        test: int64 `[m]`, rows that test, none of which teaches.

    Raises:
        ValueError: if a row is in both.
    """

    train: np.ndarray
    test: np.ndarray

    def __post_init__(self) -> None:
        """Refuses what would be tested on what it learnt."""
        shared = np.intersect1d(self.train, self.test)
        if len(shared):
            raise ValueError(
                "No photograph may both teach and test. Received: "
                f"{len(shared)} that do, such as row {shared[0]}"
            )

    def first(self, labels: np.ndarray, shots: int) -> np.ndarray:
        """Gives the rows of the first examples of each class; more shots have all of fewer ones.

        Args:
            labels: int `[images]`.
            shots: examples of a class.
        """
        classes = labels[self.train]
        return np.concatenate(
            [self.train[classes == number][:shots] for number in np.unique(classes)]
        )


def draw_photographs(
    labels: np.ndarray, names: Sequence[str], protocol: Protocol, seed: int
) -> list[Draw]:
    """Draws the divisions of a protocol; the same for whatever is compared.

    Args:
        labels: int `[images]`, -1 for photographs of no class.
        names: of the classes.
        protocol: one with `train_per_class`.
        seed: of the draws.

    Returns:
        `num_draws` divisions.

    Raises:
        ValueError: if a class has too few photographs: one at least must be left to test.
    """
    needed = (protocol.train_per_class or 0) + 1
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    scarce = np.flatnonzero(counts < needed)
    if len(scarce):
        raise ValueError(
            f"Each class must have at least {needed} photographs, {needed - 1} to teach and one "
            "to test; draw fewer (`--protocol folders --train-per-class`) or leave classes out. "
            f"Received: {names[scarce[0]]} with {counts[scarce[0]]}"
            + (f", and {len(scarce) - 1} more such classes" if len(scarce) > 1 else "")
        )
    return [_draw(labels, protocol, [seed, number]) for number in range(protocol.num_draws)]


def _draw(labels: np.ndarray, protocol: Protocol, seed: list[int]) -> Draw:
    generator = np.random.default_rng(seed)
    train, test = [], []
    for number in range(int(labels.max()) + 1):
        rows = generator.permutation(np.flatnonzero(labels == number))
        chosen, others = np.split(rows, [protocol.train_per_class or 0])
        train.append(chosen)
        test.append(others[: protocol.test_per_class])
    return Draw(np.concatenate(train), np.concatenate(test))
