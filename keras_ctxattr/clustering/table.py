"""Clusters as they are kept: which sample is in which, and the classifiers that say so."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.runs.writing import json_types, write_atomically, write_json

FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClusterTable:
    """What clustering gives to attributes: a label a sample, a classifier a cluster.

    Attributes:
        labels: int32 `[n]`: cluster of each sample, -1 for none.
        assigned: int32 `[n]`: cluster of the highest score, however low; -1 only if there is none.
        scores: float32 `[n]`: that highest score; above 0 on the cluster's side.
        classifiers: float32 `[num_clusters, num_features + 1]`, the bias last; cluster 0 is the
            most discriminative.
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
            and self.labels.max(initial=-1) < num_clusters
        ):
            raise ValueError(
                "Clusters must be `labels`, `assigned` and `scores` [n], and as many "
                "`discriminativeness` and `members` as `classifiers` [num_clusters, num_features + "
                f"1], and no label past them. Received: {self.labels.shape}, "
                f"{self.assigned.shape}, {self.scores.shape}, {self.discriminativeness.shape}, "
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
            discriminativeness=clustering.scores_,
            members=clustering.members_,
            validation_rows=clustering.validation_rows_,
            facts=json_types(dict(facts)),
        )

    @property
    def num_clusters(self) -> int:
        """How many classifiers there are; some may have no sample."""
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
        arrays = {
            "labels": self.labels,
            "assigned": self.assigned,
            "scores": self.scores,
            "classifiers": self.classifiers,
            "discriminativeness": self.discriminativeness,
            "members": flat,
            "member_counts": np.array([len(rows) for rows in self.members], np.int64),
            "validation_rows": self.validation_rows,
        }
        num_bytes = sum(values.nbytes for values in arrays.values())
        with write_atomically(Path(folder), num_bytes=num_bytes) as partial:
            partial.mkdir()
            np.savez(partial / "clusters.npz", allow_pickle=False, **arrays)
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
            with np.load(path / "clusters.npz", allow_pickle=False) as stored:
                arrays = dict(stored)
            counts = arrays.pop("member_counts")
            members = np.split(arrays.pop("members"), np.cumsum(counts)[:-1])
            found = cls(**arrays, members=members if len(counts) else [], facts=described["facts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                "Clusters must be a folder with the clusters.npz and clusters.json that "
                f"`ClusterTable.save` wrote; name another. Received: {path}: {error}"
            ) from error
        return found
