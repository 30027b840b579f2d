"""From feature vectors to attributes: their clusters, and a projection that tells these apart."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from keras_ctxattr.attributes import AttributeRecipe, learn_attributes, load_hasher
from keras_ctxattr.attributes.hasher import AttributeHasher
from keras_ctxattr.clustering import ClusterTable, DiscriminativeClustering, KMeansClustering
from keras_ctxattr.runs import RunError, digest_arrays

MIN_SAMPLES = 32  # fewer have no clusters worth the name

_SAMPLES_PER_CLUSTER = (4, 16)  # of a half, for each seed: of few samples and of many
_MANY = 16_000
_MIN_GROUPS = 8  # fewer cannot be divided into halves of halves


def vector_recipe(num_attributes: int = 64) -> AttributeRecipe:
    """Gives the recipe for attributes of some hundred vectors or more, without a network.

    The hardest negative is looked for in the whole batch, as in the paper: clusters of photographs
    are few and distinct. On 808 photographs of 101 classes, whose clusters were k-means' of 200,
    that gave 11.3 % mAP, and 8 samples, which serve CIFAR-10, 7.5 %.
    """
    return AttributeRecipe(
        num_attributes=num_attributes, contrast_size=None, min_steps=60, transformations=None
    )


def learn_vector_attributes(
    vectors: Any,
    folder: str | Path,
    recipe: AttributeRecipe | None = None,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> AttributeHasher:
    """Clusters vectors and learns attributes of the clusters; the same call again resumes.

    Args:
        vectors: float `[n, num_features]`, at least 32: an array, or a table sliced like one.
        folder: will hold `clusters` and `run`, the run folder of the attributes.
        recipe: `vector_recipe()` if None.
        groups: int `[n]`: vectors of one group (patches of an image) do not confirm each other,
            where there are 8 groups or more.
        seed: seed of every draw.

    Returns:
        The trained model, which takes vectors.

    Raises:
        ValueError: if there are too few vectors, or they are all alike.
        RunError: if the folder holds another run, or clusters of other vectors.
    """
    target = Path(folder)
    if len(vectors) < MIN_SAMPLES:
        raise ValueError(
            f"Attributes are learnt of {MIN_SAMPLES} samples or more; add some. "
            f"Received: {len(vectors)}"
        )
    known, stored = np.asarray(vectors[:]), target / "clusters"
    source = {"vectors": digest_arrays([known])}
    if not stored.exists():
        _cluster(vectors, groups, seed, source).save(stored)
    clusters = ClusterTable.open(stored)
    if clusters.facts.get("source") != source:
        raise RunError(f"{target} holds clusters of other vectors: name another folder.")
    recipe = recipe or vector_recipe()
    learn_attributes(known, clusters.labels, target / "run", recipe, source=source, seed=seed)
    return load_vector_hasher(target)


def _cluster(
    vectors: Any, groups: np.ndarray | None, seed: int, source: dict[str, str]
) -> ClusterTable:
    """Gives discriminative clusters; where two or more do not survive, those of k-means."""
    if groups is not None and len(np.unique(groups)) < _MIN_GROUPS:
        groups = None
    few, many = _SAMPLES_PER_CLUSTER
    clustering: Any = DiscriminativeClustering(
        samples_per_cluster=many if len(vectors) >= _MANY else few,
        min_size=2,
        normalize=True,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # none at all: said below
        clustering.fit(vectors, groups=groups)
    facts = {"source": source, "parameters": clustering.get_params()}
    table = ClusterTable.of(clustering, vectors, facts)
    if np.sum(np.bincount(table.labels[table.labels >= 0]) >= 2) >= 2:
        return table
    count = max(2, len(vectors) // few)
    print(
        f"  No two clusters were found again in the other half of {len(vectors):,}: {count} of "
        "k-means stand in for them.",
        file=sys.stderr,
        flush=True,
    )
    clustering = KMeansClustering(count, normalize=True, random_state=seed).fit(vectors)
    facts = {"source": source, "parameters": clustering.get_params()}
    return ClusterTable.of(clustering, vectors, facts)


def load_vector_hasher(folder: str | Path) -> AttributeHasher:
    """Reads the model that `learn_vector_attributes` left in a folder.

    Raises:
        RunError: if there is none, or it is not finished.
    """
    return load_hasher(Path(folder) / "run")
