"""Clusters as they are kept: which sample is in which, and the classifiers that say so."""

import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.runs.writing import json_types, write_atomically, write_json

FORMAT = 2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClusterTable:
    """What clustering gives to attributes: a label a sample, a classifier a cluster.

    Attributes:
        labels: int32 `[n]`: cluster of each sample, -1 for none.
        assigned: int32 `[n]`: cluster of the highest score, however low; -1 only if there is none.
        scores: float32 `[n]`: that highest score; above 0 on the cluster's side.
        classifiers: float32 `[num_clusters, num_features + 1]`, the bias last; cluster 0 is the
            most discriminative. Of the features that `DiscriminativeClustering.classifiers_` says.
        mean: float32 `[num_features]`: its `mean_`.
        discriminativeness: float32 `[num_clusters]`, by which they are ranked.
        members: for each cluster the rows that its classifier was trained on, int64.
        validation_rows: int64: rows that nothing was learnt from, ascending.
        facts: what else is known, JSON types.

    Raises:
        ValueError: if the parts do not fit together.
    """

    labels: np.ndarray
    assigned: np.ndarray
    scores: np.ndarray
    classifiers: np.ndarray
    mean: np.ndarray
    discriminativeness: np.ndarray
    members: Sequence[np.ndarray]
    validation_rows: np.ndarray
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the parts."""
        count, num_clusters = len(self.labels), len(self.classifiers)
        if not (
            self.assigned.shape == self.scores.shape == self.labels.shape == (count,)
            and self.classifiers.ndim == 2
            and self.discriminativeness.shape == (num_clusters,)
            and len(self.members) == num_clusters
            and all(_are_numbers_of(ids, num_clusters) for ids in (self.labels, self.assigned))
        ):
            raise ValueError(
                "Clusters must be `labels`, `assigned` and `scores` [n], and as many "
                "`discriminativeness` and `members` as `classifiers` [num_clusters, num_features + "
                "1], and integers from -1 to num_clusters - 1 as labels. Received: "
                f"{self.labels.shape}, {self.assigned.shape}, {self.scores.shape}, "
                f"{self.discriminativeness.shape}, "
                f"{len(self.members)} members, {self.classifiers.shape}"
            )

    @classmethod
    def of(cls, clustering: Any, vectors: Any, facts: Mapping[str, Any]) -> "ClusterTable":
        """Gives the clusters of a fitted `DiscriminativeClustering` and the samples it was given.

        Args:
            clustering: the estimator.
            vectors: what it was fitted to.
            facts: what else to keep.
        """
        assigned, scores = clustering.assign(vectors)
        return cls(
            labels=clustering.labels_,
            assigned=assigned,
            scores=scores,
            classifiers=clustering.classifiers_,
            mean=clustering.mean_,
            discriminativeness=clustering.scores_,
            members=clustering.members_,
            validation_rows=clustering.validation_rows_,
            facts=json_types(dict(facts)),
        )

    @property
    def num_clusters(self) -> int:
        """How many clusters there are."""
        return len(self.classifiers)

    def __len__(self) -> int:
        return len(self.labels)

    def ranked_rows(self, labels: np.ndarray) -> list[np.ndarray]:
        """Gives each cluster's samples, those of the highest score first.

        Args:
            labels: `labels` or `assigned`.
        """
        order = np.lexsort((-self.scores, labels))
        sizes = np.bincount(labels + 1, minlength=self.num_clusters + 1)
        return np.split(order, np.cumsum(sizes)[:-1])[1:]

    def save(self, folder: str | Path) -> None:
        """Writes `clusters.npz` and `clusters.json`; the folder appears whole, or not at all."""
        flat = np.concatenate([np.zeros(0, np.int64), *self.members])
        arrays: dict[str, Any] = {
            "labels": self.labels,
            "assigned": self.assigned,
            "scores": self.scores,
            "classifiers": self.classifiers,
            "mean": self.mean,
            "discriminativeness": self.discriminativeness,
            "members": flat,
            "member_counts": np.array([len(rows) for rows in self.members], np.int64),
            "validation_rows": self.validation_rows,
        }
        num_bytes = sum(values.nbytes for values in arrays.values())
        with write_atomically(Path(folder), num_bytes=num_bytes) as partial:
            partial.mkdir()
            np.savez(partial / "clusters.npz", **arrays)
            write_json(partial / "clusters.json", {"format": FORMAT, "facts": dict(self.facts)})

    @classmethod
    def open(cls, folder: str | Path) -> "ClusterTable":
        """Reads what `save` wrote.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        path = Path(folder)
        try:
            described = json.loads((path / "clusters.json").read_text(encoding="utf-8"))
            if described["format"] != FORMAT:
                raise ValueError(f"format {described['format']}, and this version knows {FORMAT}")
            with np.load(path / "clusters.npz", allow_pickle=False) as stored:
                arrays = dict(stored)
            counts, flat = arrays.pop("member_counts"), arrays.pop("members")
            if counts.sum() != len(flat):
                raise ValueError(f"{counts.sum()} members were stored, {len(flat)} are there")
            members = np.split(flat, np.cumsum(counts)[:-1]) if len(counts) else []
            found = cls(**arrays, members=members, facts=dict(described["facts"]))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(
                "Clusters must be a folder with the clusters.npz and clusters.json that "
                f"`ClusterTable.save` wrote; name another. Received: {path}: {error}"
            ) from error
        return found


def _are_numbers_of(ids: np.ndarray, num_clusters: int) -> bool:
    low, high = ids.min(initial=-1), ids.max(initial=-1)
    return bool(ids.dtype.kind in "iu" and low >= -1 and high < num_clusters)
