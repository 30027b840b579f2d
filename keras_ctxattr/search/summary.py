"""What an index holds, in numbers."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

from keras_ctxattr.export import read_module
from keras_ctxattr.search.database import DATABASE
from keras_ctxattr.search.store import MODULE, SEGMENTS, IndexStore


def summarize_index(folder: str | Path) -> dict[str, Any]:
    """Gives what an index holds, as JSON types.

    Args:
        folder: The index.

    Returns:
        `num_images`; `num_distinct`, images of different bytes; `sources`, each with its `place`,
        the `label` that names begin with, and its number of images; `formats`, counts by name;
        `num_attributes`, `num_features`, `keeps_vectors`; `bytes`, on the disk by part; `skipped`,
        `name` and `reason` of each file that could not be indexed; `module`, its module.json.

    Raises:
        ImageIndexError: If it is no index.
    """
    store = IndexStore(folder)
    images = list(store.all_images())
    counts = collections.Counter(image.source for image in images)
    return {
        "index": str(folder),
        "num_images": len(images),
        "num_distinct": len({image.digest for image in images}),
        "sources": [
            {"place": place, "label": label, "num_images": counts[number]}
            for number, (place, label) in store.sources().items()
        ],
        "formats": dict(collections.Counter(image.format for image in images).most_common()),
        "num_attributes": int(store.about["num_attributes"]),
        "num_features": int(store.about["num_features"]),
        "keeps_vectors": bool(store.about["keep_vectors"]),
        "bytes": _count_bytes(store.folder),
        "skipped": [{"name": file.name, "reason": file.reason} for file in store.skipped()],
        "module": read_module(store.folder / MODULE),
    }


def _count_bytes(folder: Path) -> dict[str, int]:
    """Adds up what lies on the disk: the database, each column of the segments, the module."""
    sizes: collections.Counter[str] = collections.Counter()
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        part = path.relative_to(folder).parts[0]
        if part == SEGMENTS:
            sizes[path.stem] += path.stat().st_size
        else:
            sizes["images" if part.startswith(DATABASE) else part] += path.stat().st_size
    return {name: size for name, size in sorted(sizes.items()) if not name.startswith(".")}
