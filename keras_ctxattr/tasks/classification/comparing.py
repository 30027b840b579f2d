"""Every layer of every network, learnt and untrained, on the same draws of photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_ctxattr.tasks.classification.networks import (
    BATCH_SIZE,
    LayeredNetwork,
    describe_by_hog,
    describe_pixels,
)
from keras_ctxattr.tasks.classification.photographs import LabelledPhotographs
from keras_ctxattr.tasks.classification.scoring import (
    Scores,
    score_draw,
    summarize_gain,
    summarize_scores,
)

ALL = "all layers"
"""Name of the row whose features are those of all layers, each scaled by itself, side by side."""

LEARNT, UNTRAINED = "learnt", "untrained"

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, and how.

    Attributes:
        grids: bins a side of each grid that pools, as in `POOLINGS`.
        classifiers: some of `CLASSIFIERS`.
        shots: examples of a class, for the low-shot curves.
        scaling: one of `SCALINGS`.
        layers: names of layers to classify by, `ALL` among them; none for all.
        untrained: whether to compare with fresh weights, drawn anew for each draw.
        hand_made: whether to compare with histograms of oriented gradients.
        seed: of the first fresh weights.
    """

    grids: tuple[int, ...]
    classifiers: Sequence[str]
    shots: Sequence[int]
    scaling: str
    layers: Sequence[str] = ()
    untrained: bool = True
    hand_made: bool = False
    seed: int = 0

    def chosen(self, network: LayeredNetwork) -> list[str]:
        """Gives the rows of a network: its layers in order, and all of them together.

        Raises:
            ValueError: if it has none of the layers.
        """
        known = [*network.layers, *([ALL] if len(network.layers) > 1 else [])]
        found = [name for name in known if not self.layers or name in self.layers]
        if not found:
            raise ValueError(
                f"`--layer` must be some of {', '.join(known)} of {network.name}. Received: "
                f"{', '.join(self.layers)}"
            )
        return found


def compare_layers(
    networks: Sequence[LayeredNetwork],
    photographs: LabelledPhotographs,
    comparison: Comparison,
    *,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Classifies by every layer of every network.

    Args:
        networks: of different names.
        photographs: with their classes and draws.
        comparison: says how.
        progress: called with (steps done, steps in all), a step being a batch that is described or
            a draw that is scored.

    Returns:
        A row a layer: `network`, `layer` ("" for hand-made features), `num_features`; `learnt` and
        `untrained` as `summarize_scores` gives them; `gain`, their difference draw by draw.
    """
    work = _Work(photographs, comparison, progress)
    work.total = work.count(networks)
    return [
        *(work.score_hand_made() if comparison.hand_made else []),
        *(row for network in networks for row in work.score_network(network)),
    ]


class _Work:
    """The steps of a comparison, counted."""

    def __init__(
        self,
        photographs: LabelledPhotographs,
        comparison: Comparison,
        progress: Progress | None,
    ) -> None:
        self.photographs = photographs
        self.comparison = comparison
        self.progress = progress
        self.done = self.total = 0

    def count(self, networks: Sequence[LayeredNetwork]) -> int:
        """Gives the number of steps."""
        draws, batches = len(self.photographs.draws), -(-len(self.photographs.pixels) // BATCH_SIZE)
        steps = 2 * draws if self.comparison.hand_made else 0
        for network in networks:
            scores = len(self.comparison.chosen(network)) * draws
            steps += batches + scores
            if self._draws_weights(network):
                steps += draws * batches + scores
        return steps

    def score_hand_made(self) -> Iterator[dict[str, Any]]:
        """Gives the rows of hand-made features."""
        found = describe_by_hog(self.photographs.pixels, self.comparison.grids)
        for name, vectors in found.items():
            scores = [self._score([vectors], number) for number in self._numbers]
            yield _row(name, "", _size([vectors]), scores, [])

    def score_network(self, network: LayeredNetwork) -> Iterator[dict[str, Any]]:
        """Gives the rows of a network."""
        names = self.comparison.chosen(network)
        used = network if ALL in names else network.only(names)
        found = _with_all(self._describe(used), names)
        learnt = {
            name: [self._score(blocks, number) for number in self._numbers]
            for name, blocks in found.items()
        }
        sizes = {name: _size(blocks) for name, blocks in found.items()}
        del found  # may be as large as what fresh weights give next
        untrained: dict[str, list[Scores]] = {name: [] for name in names}
        for number in self._numbers if self._draws_weights(network) else []:
            fresh = self._describe(used.fresh(self.comparison.seed + number))
            for name, blocks in _with_all(fresh, names).items():
                untrained[name].append(self._score(blocks, number))
            del fresh, blocks
        for name in names:
            yield _row(network.name, name, sizes[name], learnt[name], untrained[name])

    @property
    def _numbers(self) -> range:
        return range(len(self.photographs.draws))

    def _draws_weights(self, network: LayeredNetwork) -> bool:
        return self.comparison.untrained and network.can_be_drawn

    def _describe(self, network: LayeredNetwork) -> dict[str, np.ndarray]:
        pixels, grids = self.photographs.pixels, self.comparison.grids
        return describe_pixels(network, pixels, grids, progress=lambda *_: self._step())

    def _score(self, blocks: Sequence[np.ndarray], number: int) -> Scores:
        found = score_draw(
            blocks,
            self.photographs.labels,
            self.photographs.draws[number],
            classifiers=self.comparison.classifiers,
            shots=self.comparison.shots,
            scaling=self.comparison.scaling,
        )
        self._step()
        return found

    def _step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _with_all(
    found: dict[str, np.ndarray], names: Sequence[str]
) -> dict[str, Sequence[np.ndarray]]:
    """Gives the blocks of features of each row."""
    return {name: list(found.values()) if name == ALL else [found[name]] for name in names}


def _size(blocks: Sequence[np.ndarray]) -> int:
    return sum(block.shape[1] for block in blocks)


def _row(
    network: str,
    layer: str,
    num_features: int,
    learnt: Sequence[Scores],
    untrained: Sequence[Scores],
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "network": network,
        "layer": layer,
        "num_features": num_features,
        LEARNT: summarize_scores(learnt),
    }
    if untrained:
        row[UNTRAINED] = summarize_scores(untrained)
        row["gain"] = summarize_gain(row[LEARNT], row[UNTRAINED])
    return row
