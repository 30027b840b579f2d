"""Several indexes of photographs, of one module, searched as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_ctxattr.search.database import ImageIndexError
from keras_ctxattr.search.images import CANDIDATES, ImageIndex, Match
from keras_ctxattr.search.index import merge_found
from keras_ctxattr.search.queries import Query, find_query
from keras_ctxattr.search.threads import run_tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedMatch:
    """An image that a search of several indexes found.

    Attributes:
        match: The image, and how like the query it is.
        index: Number of the index that has it.
    """

    match: Match
    index: int


class ImageIndexes:
    """Finds images that are like an image in several indexes, as one index of all would.

    Of all indexes together, the 200 images of the nearest codes are ranked by their features, as
    `ImageIndex.search` does; at one distance, images come in the order of the indexes. All indexes
    are searched at a time.

    Args:
        indexes: At least one; all of one module, none twice.

    Attributes:
        indexes: The indexes.

    Raises:
        ImageIndexError: If they are of different modules, or one is there twice.
    """

    def __init__(self, indexes: Sequence[ImageIndex]) -> None:
        self.indexes = tuple(indexes)
        if not self.indexes:
            raise ImageIndexError("There must be at least one index to search. Received: none")
        first = self.indexes[0].store
        for number, index in enumerate(self.indexes):
            if index.store.about["module"] != first.about["module"]:
                raise ImageIndexError(
                    "Indexes that are searched together must be of one module, or their codes mean "
                    "different things; index the photographs by the same one. Received: "
                    f"{first.folder} and {index.store.folder}"
                )
            places = [other.store.folder.resolve() for other in self.indexes[:number]]
            if index.store.folder.resolve() in places:
                raise ImageIndexError(
                    "Each index must be given once, or its images are found twice. "
                    f"Received: {index.store.folder} twice"
                )

    @property
    def has_vectors(self) -> bool:
        """Whether all keep features, so that results are ranked by them."""
        return all(index.has_vectors for index in self.indexes)

    def find_query(self, given: str) -> tuple[Query, int]:
        """Gives the query of a path, or of a name in one of the indexes, and which index that is.

        As with one index, a file goes before a name, unless it is the very file of that name.

        Raises:
            ImageIndexError: If there is neither.
            UndecodableError: If there is a file that cannot be used.
        """
        for number, index in enumerate(self.indexes):
            if index.store.find([given]):
                query = find_query(index, given)
                if query.image is not None:
                    return query, number
        return find_query(self.indexes[0], given), 0

    def search(
        self,
        code: np.ndarray,
        vector: np.ndarray | None = None,
        *,
        count: int = 20,
        required: Mapping[int, bool] | None = None,
        leave_out: Sequence[tuple[int, int]] = (),
    ) -> list[SharedMatch]:
        """Gives the images that are most like a query, the most like first.

        Args:
            code: Of the query, uint8 `[num_attributes / 8]`.
            vector: Of the query, float32 `[num_features]`; None ranks by codes alone, as where an
                index keeps no features.
            count: How many, at least 1.
            required: Bits that an image must have, or must not have, by number.
            leave_out: (number of an index, id of an image) that are not wanted.

        Raises:
            ValueError: If an argument is impossible.
        """
        if count < 1:
            raise ValueError(f"`count` must be at least 1. Received: {count}")
        wanted = max(count + len(leave_out), CANDIDATES)
        owners, rows, distances = self._find_near(code, wanted, required or {})
        similarities = None
        if vector is not None and self.has_vectors:
            similarities = self._compare(owners, rows, vector)
            order = np.argsort(-similarities, kind="stable")
            owners, rows, distances = owners[order], rows[order], distances[order]
            similarities = similarities[order]
        ids = [int(self.indexes[owner].ids[row]) for owner, row in zip(owners, rows, strict=True)]
        kept = [
            n
            for n, key in enumerate(zip(owners.tolist(), ids, strict=True))
            if key not in leave_out
        ]
        images = [
            index.store.images(ids[n] for n in kept[:count] if owners[n] == number)
            for number, index in enumerate(self.indexes)
        ]
        return [
            SharedMatch(
                match=Match(
                    image=images[owners[n]][ids[n]],
                    distance=int(distances[n]),
                    similarity=None if similarities is None else float(similarities[n]),
                ),
                index=int(owners[n]),
            )
            for n in kept[:count]
            if ids[n] in images[owners[n]]  # else it was removed in the meantime
        ]

    def _find_near(
        self, code: np.ndarray, count: int, required: Mapping[int, bool]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gives (numbers of indexes, rows, distances) of the nearest codes of all."""
        tasks = [(index.candidates, code, count, required) for index in self.indexes]
        found = run_tasks(tasks, len(tasks))
        places = np.concatenate(
            [
                np.stack([np.full(len(rows), number), rows])
                for number, (rows, _) in enumerate(found)
            ],
            axis=1,
        )
        parts = [
            (distances[None], np.arange(len(distances))[None] + start)
            for (_, distances), start in zip(found, _starts(found), strict=True)
        ]
        distances, chosen = merge_found(parts, count)
        owners, rows = places[:, chosen[0]]
        return owners, rows, distances[0]

    def _compare(self, owners: np.ndarray, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Gives similarities, float32 `[rows]`."""
        result = np.empty(len(rows), np.float32)
        for number, index in enumerate(self.indexes):
            mask = owners == number
            if mask.any():
                result[mask] = index.similarities(rows[mask], vector)
        return result


def _starts(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    counts = [len(rows) for rows, _ in found]
    return np.cumsum([0, *counts[:-1]])
