"""Which pixels of a thinned contour map correspond to which of an annotator's, one to one."""

import dataclasses
import functools
import math

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import (
    maximum_bipartite_matching,
    min_weight_full_bipartite_matching,
)

MATCHINGS = ("benchmark", "optimal")
MAX_DISTANCE = 0.0075
"""How far apart pixels may lie that correspond, as a share of the image's diagonal."""

BENCHMARK_SEED = 369
"""Draws by which the benchmark's own regression case has all its numbers to 5e-4.

The first seed that does; others miss some image's precision by up to four pixels (.0016), the
figures of the whole set by up to .0008."""

_UNIT = 100  # distances are rounded to hundredths of a pixel, as in the benchmark
_OUTLIER = 100  # what a pixel without partner costs, in greatest distances
_DEGREE = 6  # outliers that each pixel is connected to


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """An annotator's contours and what lies near them; made once for all thresholds.

    Attributes:
        near: int64 `[count, offsets]`, for each contour pixel, row by row, the flat places within
            the greatest distance of it, in a map with a margin around.
        distances: float64 `[offsets]`, how far these are, in pixels.
        max_distance: in pixels.
    """

    near: np.ndarray
    distances: np.ndarray
    max_distance: float

    @classmethod
    def of(cls, contours: np.ndarray, max_distance: float = MAX_DISTANCE) -> "Reference":
        """Makes it of a map.

        Args:
            contours: bool `[height, width]`.
            max_distance: share of the diagonal.
        """
        pixels = max_distance * math.hypot(*contours.shape)
        margin = math.ceil(pixels)
        offsets, distances = _disc(pixels)
        rows, columns = (axis[:, None] + margin for axis in np.nonzero(contours))
        near = (rows + offsets[:, 0]) * (contours.shape[1] + 2 * margin) + columns + offsets[:, 1]
        return cls(near=near, distances=distances, max_distance=pixels)

    @property
    def count(self) -> int:
        """Contour pixels."""
        return len(self.near)

    def find_near(self, contours: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gives all pairs of a contour pixel and one of these within the greatest distance.

        Args:
            contours: bool `[height, width]`.

        Returns:
            (numbers of the pixels of `contours`, numbers of these, distances in pixels float64),
            by the latter.
        """
        numbers = np.full(contours.shape, -1, np.int32)
        places = np.flatnonzero(contours)
        numbers.flat[places] = np.arange(len(places))
        padded = np.pad(numbers, math.ceil(self.max_distance), constant_values=-1)
        found = padded.ravel()[self.near]
        other, which = np.nonzero(found >= 0)
        return found[other, which], other, self.distances[which]


def match_contours(
    contours: np.ndarray,
    reference: np.ndarray | Reference,
    *,
    matching: str = "benchmark",
    max_distance: float = MAX_DISTANCE,
    seed: int = BENCHMARK_SEED,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the cheapest correspondence of two maps' pixels, each in at most one pair.

    A pair costs its distance, a pixel without partner a hundred greatest distances: first there are
    as many pairs as possible, then they are short. The benchmark solves this with a random part: a
    pixel may stay alone only at the expense of one of six outliers drawn for it, so that it finds a
    pair in a thousand less than there are. `"benchmark"` draws likewise, `"optimal"` does not.

    Args:
        contours: bool `[height, width]`, one pixel thin.
        reference: the same size, an annotator's contours.
        matching: `"benchmark"` or `"optimal"`.
        max_distance: share of the image's diagonal; unused where a `Reference` is given.
        seed: of the outliers.

    Returns:
        (bool `[pixels of contours]`, bool `[pixels of reference]`): which have a partner, row by
        row.

    Raises:
        ValueError: if the maps' sizes differ, or the matching is unknown.

    Reference:
        Martin, Fowlkes, Malik 2004, "Learning to detect natural image boundaries", appendix B, and
        the released benchmark of BSDS500.
    """
    if matching not in MATCHINGS:
        raise ValueError(f"`matching` must be one of {', '.join(MATCHINGS)}. Received: {matching}")
    if not isinstance(reference, Reference):
        if contours.shape != np.shape(reference):
            raise ValueError(
                "`contours` and `reference` must be maps of one size. "
                f"Received: shapes {contours.shape} and {np.shape(reference)}"
            )
        reference = Reference.of(np.asarray(reference, bool), max_distance)
    one, other, distances = reference.find_near(contours)
    is_matched = np.zeros(np.count_nonzero(contours), bool)
    is_found = np.zeros(reference.count, bool)
    if len(one):
        rows, ones = _renumber(one, len(is_matched))
        columns, others = _renumber(other, reference.count)
        graph = _Graph(
            rows=rows,
            columns=columns,
            weights=np.rint(distances * _UNIT),
            shape=(len(ones), len(others)),
            alone=math.ceil(_OUTLIER * reference.max_distance * _UNIT),
        )
        generator = np.random.default_rng(seed)
        pairs = _solve_as_benchmark(graph, generator) if matching == "benchmark" else _solve(graph)
        is_matched[ones[pairs[0]]] = True
        is_found[others[pairs[1]]] = True
    return is_matched, is_found


@functools.cache
def _disc(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Gives int `[n, 2]` offsets within a distance, and float64 `[n]`, their lengths."""
    side = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    offsets = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    squares = (offsets**2).sum(axis=1)
    inside = squares <= radius * radius
    return offsets[inside], np.sqrt(squares[inside])


def _renumber(numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts only the pixels that occur: gives (new numbers, the old number of each new one)."""
    occurs = np.zeros(count, bool)
    occurs[numbers] = True
    return (np.cumsum(occurs) - 1)[numbers], np.flatnonzero(occurs)


Pairs = tuple[np.ndarray, np.ndarray]
"""Rows and columns of edges."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Graph:
    """Which pixels may be pairs: one map's are rows, the other's columns; each has an edge.

    Attributes:
        rows: int `[edges]`.
        columns: int `[edges]`.
        weights: float64 `[edges]`, what a pair costs.
        shape: (rows, columns).
        alone: what a pixel without partner costs.
    """

    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    shape: tuple[int, int]
    alone: int

    @property
    def transposed(self) -> "_Graph":
        """The same with rows and columns exchanged."""
        return dataclasses.replace(
            self, rows=self.columns, columns=self.rows, shape=self.shape[::-1]
        )


def _solve(graph: _Graph, wanted: Pairs | None = None) -> Pairs:
    """Gives the pairs of least cost.

    Args:
        graph: what is solved; quick where it has less rows than columns.
        wanted: (rows, numbers from 0 on): rows that may stay alone in a place of this number; each
            such place must be taken if it can be.
    """
    if graph.shape[0] > graph.shape[1] and wanted is None:
        rows, columns = _solve(graph.transposed)
        order = np.argsort(columns)
        return columns[order], rows[order]
    num_rows, num_columns = graph.shape
    own = np.arange(num_rows)
    edges = [
        (graph.rows, graph.columns, graph.weights),
        (own, num_columns + own, np.full(num_rows, graph.alone)),
    ]
    width = num_columns + num_rows
    if wanted is not None:
        dear = [(rows, columns, weights + graph.alone * _UNIT) for rows, columns, weights in edges]
        edges = [*dear, (wanted[0], width + wanted[1], np.full(len(wanted[0]), graph.alone))]
        width += int(wanted[1].max()) + 1
    rows, columns = _assign(edges, (num_rows, width))
    is_pair = columns < num_columns
    return rows[is_pair], columns[is_pair]


def _solve_as_benchmark(graph: _Graph, generator: np.random.Generator) -> Pairs:
    """Gives the pairs as the benchmark's assignment has them.

    To n rows and m columns come m outliers as rows and n as columns. Who has no partner takes an
    outlier, outliers left over take each other, all at one price. Each row and column knows six
    outliers, each outlier of the longer side six of the other's, all drawn; and each pixel knows
    one more, which is there so that there always is a solution, and costs a hundred times as much.

    All solutions without those have n + m less the pairs times this price, and the pairs' own: what
    is sought is the best pairs of which all that is left over can still be assigned. These are the
    best pairs of all, or nearly: an outlier that no other outlier knows must be taken by one of the
    shorter side's pixels. With these wanted the pairs are sought alone, ten times as fast; whether
    the rest can be assigned is then looked at, and if not, all is solved at once.
    """
    if graph.shape[0] > graph.shape[1]:
        rows, columns = _solve_as_benchmark(graph.transposed, generator)
        return columns, rows
    n, m = graph.shape
    row_knows = _draw_others(n, generator)
    column_knows = _draw_others(m, generator)
    outlier_knows = _draw(m, n, generator)
    pairs = _solve(graph, _find_lonely(row_knows, outlier_knows))

    cheap = [
        (np.repeat(np.arange(n), row_knows.shape[1]), m + row_knows.ravel()),
        (n + column_knows.ravel(), np.repeat(np.arange(m), column_knows.shape[1])),
        (n + np.repeat(np.arange(m), outlier_knows.shape[1]), m + outlier_knows.ravel()),
    ]
    if _can_assign_rest(cheap, pairs, graph.shape):
        return pairs
    edges = [
        (graph.rows, graph.columns, graph.weights),
        *((rows, columns, np.full(len(rows), graph.alone)) for rows, columns in cheap),
        (np.arange(n), m + np.arange(n), np.full(n, graph.alone * _UNIT)),
        (n + np.arange(m), np.arange(m), np.full(m, graph.alone * _UNIT)),
    ]
    found = _assign(edges, (n + m, n + m))
    is_pair = (found[0] < n) & (found[1] < m)
    return found[0][is_pair], found[1][is_pair]


def _find_lonely(row_knows: np.ndarray, outlier_knows: np.ndarray) -> Pairs | None:
    """Finds the columns' outliers that no outlier knows, and the rows that do.

    Args:
        row_knows: int `[n, 6]`, of each row.
        outlier_knows: int `[m, 6]`, of each of the rows' outliers.

    Returns:
        (rows, which of the lonely outliers, counted from 0), or None where no row knows one.
    """
    is_lonely = np.ones(len(row_knows), bool)
    is_lonely[outlier_knows] = False
    takers, places = np.nonzero(is_lonely[row_knows])
    numbers = np.cumsum(is_lonely) - 1
    return (takers, numbers[row_knows[takers, places]]) if len(takers) else None


def _can_assign_rest(edges: list[Pairs], pairs: Pairs, shape: tuple[int, int]) -> bool:
    """Tells whether all rows and columns that are in no pair can have a partner by edges."""
    size = sum(shape)
    is_left = np.ones((2, size), bool)
    is_left[0, pairs[0]] = is_left[1, pairs[1]] = False
    rows, columns = (np.concatenate(part) for part in zip(*edges, strict=True))
    both = is_left[0, rows] & is_left[1, columns]
    left = scipy.sparse.csr_matrix((both[both], (rows[both], columns[both])), (size, size))
    partners = maximum_bipartite_matching(left, perm_type="column")
    return np.count_nonzero(partners >= 0) == np.count_nonzero(is_left[0])


def _draw_others(count: int, generator: np.random.Generator) -> np.ndarray:
    """Draws for each of `count` numbers up to six of the others: int `[count, up to 6]`."""
    drawn = _draw(count, count - 1, generator)
    return drawn + (drawn >= np.arange(count)[:, None])


def _draw(num_rows: int, limit: int, generator: np.random.Generator) -> np.ndarray:
    """Draws for each row up to six different numbers below a limit, by Floyd's algorithm."""
    degree = min(_DEGREE, limit)
    drawn = np.empty((num_rows, degree), np.int64)
    for place in range(degree):
        highest = limit - degree + place
        number = generator.integers(0, highest + 1, num_rows)
        taken = (drawn[:, :place] == number[:, None]).any(axis=1)
        drawn[:, place] = np.where(taken, highest, number)
    return drawn


def _assign(
    edges: list[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns, weights = (np.concatenate(part) for part in zip(*edges, strict=True))
    # Every solution has as many edges, so that 1 more on each changes nothing: scipy drops zeros.
    graph = scipy.sparse.csr_matrix((weights + 1.0, (rows, columns)), shape)
    return min_weight_full_bipartite_matching(graph)
