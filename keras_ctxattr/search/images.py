"""An index of photographs, opened for searching."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from keras_ctxattr.search.arrays import check_queries
from keras_ctxattr.search.describing import Description, ModuleDescriber
from keras_ctxattr.search.inverting import Progress
from keras_ctxattr.search.nearby import NearbyImages, write_lists
from keras_ctxattr.search.records import IndexedImage
from keras_ctxattr.search.store import MODULE, IndexStore

CANDIDATES = 200
"""Images of the nearest codes that are ranked again by their features."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """An image that a search found.

    Attributes:
        image: The image.
        distance: In how many bits its code differs from the query's.
        similarity: Cosine of the two vectors, -1 to 1; None where the index keeps none.
    """

    image: IndexedImage
    distance: int
    similarity: float | None


class ImageIndex:
    """Finds images that are like an image, by their codes, then by their features.

    It is a snapshot: `refresh` brings it up to what other processes have changed. Codes are in
    memory; scores and vectors stay on the disk and are read as they are needed.

    Args:
        folder: An index, as `index_photographs` makes it.
        kind: How the nearest codes are found: `"exact"`, all are compared; `"inverted"`, by the
            lists that `prepare` writes; or `"auto"`: exact up to ten million images, beyond that
            inverted if there are lists. `about` tells.

    Attributes:
        store: The folder.
        ids: Int64 `[n]`, ascending.
        codes: Uint8 `[n, num_attributes / 8]`.

    Raises:
        ImageIndexError: If it is no index.
        ValueError: If the kind is unknown, or lists are wanted and there are none.
    """

    def __init__(self, folder: str | Path, *, kind: str = "auto") -> None:
        self.store = IndexStore(folder)
        self.kind = kind
        self._describer: ModuleDescriber | None = None
        self._open()

    def _open(self) -> None:
        self.generation, self._rows = self.store.snapshot()
        self.ids = self._rows.ids
        width = self.num_attributes // 8
        self.codes = self._rows.read("codes") if len(self) else np.empty((0, width), np.uint8)
        self._nearby = NearbyImages(self.store, self.ids, self.codes, self.kind)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_attributes(self) -> int:
        """Bits of a code."""
        return int(self.store.about["num_attributes"])

    @property
    def has_vectors(self) -> bool:
        """Whether features are kept, so that results are ranked by them."""
        return bool(self.store.about["keep_vectors"])

    @property
    def about(self) -> str:
        """How the nearest codes are found, and how many of them are expected to be."""
        return self._nearby.about

    def prepare(self, progress: Progress | None = None) -> None:
        """Writes inverted lists beside the images, by which many are searched quicker; uses them.

        Images that are added later are compared as before, and `prepare` may be called again.

        Args:
            progress: Called with (images done, all of them).

        Raises:
            ImageIndexError: If another process is changing the index.
            ValueError: If there are no images.
            DiskFullError: No space left.
        """
        write_lists(self.store, self.generation, self.ids, self.codes, progress)
        self._nearby = NearbyImages(self.store, self.ids, self.codes, self.kind)

    def refresh(self) -> bool:
        """Takes a new snapshot if something has changed, and tells whether it did."""
        if self.store.generation() == self.generation:
            return False
        self._open()
        return True

    def describe(self, encoded: bytes) -> Description:
        """Describes an image file by the module of the index; the first call loads it.

        Raises:
            UndecodableError: If the bytes cannot be decoded.
        """
        if self._describer is None:
            self._describer = ModuleDescriber(self.store.folder / MODULE)
        return self._describer.describe(encoded)

    def rows_of(self, ids: Collection[int]) -> np.ndarray:
        """Gives the row of each image, int64; -1 for one that is not in this snapshot."""
        wanted = np.fromiter(ids, np.int64)
        places = np.searchsorted(self.ids, wanted)
        found = self.ids[np.minimum(places, len(self) - 1)] if len(self) else np.full(0, -1)
        return np.where(found == wanted, places, -1) if len(self) else np.full(len(wanted), -1)

    def scores(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Gives the attribute scores of rows, float32 `[rows, num_attributes]`."""
        if not len(self):
            return np.empty((0, self.num_attributes), np.float32)
        return self._rows.read("scores", rows).astype(np.float32)

    def vectors(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Gives the features of rows, float32 `[rows, num_features]` of about unit length.

        Raises:
            ValueError: If the index keeps none.
        """
        if not self.has_vectors:
            raise ValueError(
                "An index must keep vectors; index the photographs without `--no-vectors`. "
                f"Received: {self.store.folder}"
            )
        if not len(self):
            return np.empty((0, int(self.store.about["num_features"])), np.float32)
        return self._rows.read("vectors", rows).astype(np.float32)

    def search(
        self,
        code: np.ndarray,
        vector: np.ndarray | None = None,
        *,
        count: int = 20,
        required: Mapping[int, bool] | None = None,
        leave_out: Collection[int] = (),
    ) -> list[Match]:
        """Gives the images that are most like a query, the most like first.

        The 200 images of the nearest codes (`count`, if that is more) are ranked by the cosine of
        their vectors with the query's; without vectors, by the distance of their codes, then by id.

        Args:
            code: Of the query, uint8 `[num_attributes / 8]`.
            vector: Of the query, float32 `[num_features]`; None ranks by codes alone.
            count: How many, at least 1.
            required: Bits that an image must have, or must not have, by number.
            leave_out: Ids of images that are not wanted, as the query itself.

        Raises:
            ValueError: If an argument is impossible.
        """
        rows, distances, similarities = self.rank(
            code, vector, count=count + len(leave_out), required=required
        )
        kept = np.flatnonzero(~np.isin(self.ids[rows], list(leave_out)))[:count]
        images = self.store.images(self.ids[rows[kept]])
        return [
            Match(
                image=images[int(self.ids[rows[place]])],
                distance=int(distances[place]),
                similarity=None if similarities is None else float(similarities[place]),
            )
            for place in kept
            if int(self.ids[rows[place]]) in images  # else it was removed in the meantime
        ]

    def rank(
        self,
        code: np.ndarray,
        vector: np.ndarray | None = None,
        *,
        count: int = 20,
        required: Mapping[int, bool] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Does what `search` does for those who need rows only.

        Returns:
            (rows int64 `[found]`, distances int32, similarities float32 or None), the best first.
        """
        if count < 1:
            raise ValueError(f"`count` must be at least 1. Received: {count}")
        rows, distances = self.candidates(code, max(count, CANDIDATES), required or {})
        if vector is None or not self.has_vectors:
            return rows[:count], distances[:count], None
        similarities = self.similarities(rows, vector)
        order = np.argsort(-similarities, kind="stable")[:count]
        return rows[order], distances[order], similarities[order]

    def candidates(
        self, code: np.ndarray, count: int, required: Mapping[int, bool]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gives the rows of the nearest codes that have the required bits, and their distances."""
        query = np.asarray(code, np.uint8)[None]
        if not required:
            return self._nearby.find(query, count)
        rows = np.flatnonzero(self._have(required))
        differing = check_queries(query, self.codes.shape[1]) ^ self.codes[rows]
        distances = np.bitwise_count(differing).sum(axis=1, dtype=np.int32)
        order = np.argsort(distances, kind="stable")[:count]
        return rows[order], distances[order]

    def similarities(self, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Gives the cosines of the vectors of rows with a query's, float32 `[rows]`.

        Raises:
            ValueError: If the index keeps no vectors.
        """
        return _cosines(self.vectors(rows), vector)

    def _have(self, required: Mapping[int, bool]) -> np.ndarray:
        """Tells which images have the required bits, bool `[n]`."""
        mask = np.ones(len(self), bool)
        for bit, value in required.items():
            if not 0 <= bit < self.num_attributes:
                raise ValueError(f"A bit must be 0 to {self.num_attributes - 1}. Received: {bit}")
            mask &= (self.codes[:, bit // 8] >> (7 - bit % 8) & 1).astype(bool) == value
        return mask


def _cosines(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Gives cosines, float32 `[rows]`; 1 for the same image, whose vector was rounded likewise."""
    rounded = np.asarray(query, np.float16).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(rounded)
    return vectors @ rounded / np.maximum(lengths, 1e-12)
