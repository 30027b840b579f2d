"""What codes of photographs find, and what their attributes tell apart, as pictures."""

from pathlib import Path

import numpy as np

from keras_ctxattr.attributes import hamming, score_samples
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.patches import cut_patches
from keras_ctxattr.features import FeatureTable
from keras_ctxattr.pictures import attribute_sheet, neighbours_sheet, write_png
from keras_ctxattr.pipeline.attributes import load_vector_hasher
from keras_ctxattr.pipeline.photographs import CODES

NEIGHBOURS = "neighbours.png"
ATTRIBUTES = "attributes.png"

_THUMBNAIL = 96
_NUM_QUERIES, _NUM_NEIGHBOURS = 8, 6
_NUM_BITS, _NUM_SHOWN = 16, 6


def draw_pictures(folder: Path, manifest: Manifest, seed: int) -> None:
    """Writes `neighbours.png` and `attributes.png`, unless they are there.

    Only the photographs that are shown are cut, into `thumbnails`.

    Args:
        folder: of `learn_from_photographs`, whose stage `attributes` is done.
        manifest: the photographs, with the ids that they were described by.
        seed: of the choice of queries.
    """
    if (folder / NEIGHBOURS).exists() and (folder / ATTRIBUTES).exists():
        return
    table = FeatureTable.open(folder / "attributes/photographs")
    scores = score_samples(load_vector_hasher(folder / "attributes/attributes"), table.vectors)
    queries, nearest = _find_neighbours(np.load(folder / "attributes" / CODES), seed)
    highest, lowest = _find_sides(scores)
    shown = np.unique(np.concatenate([queries, *nearest, *highest, *lowest]))
    rows = np.searchsorted(manifest.image_ids, table.image_ids[shown])
    pixels = cut_patches(manifest.select(rows), folder / "thumbnails", size=_THUMBNAIL).pixels

    def look_up(chosen: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(pixels[int(row)]) for row in np.searchsorted(shown, chosen)]

    found = {"nearest codes": [look_up(one) for one in nearest]}
    write_png(folder / NEIGHBOURS, neighbours_sheet(look_up(queries), found, tile_size=_THUMBNAIL))
    shares = (scores > 0).mean(axis=0)
    sides = {
        f"bit {bit}: {shares[bit]:.0%}": (look_up(highest[bit]), look_up(lowest[bit]))
        for bit in range(len(highest))
    }
    title = "Most confident photographs of each attribute"
    write_png(folder / ATTRIBUTES, attribute_sheet(sides, tile_size=_THUMBNAIL, title=title))


def _find_neighbours(codes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives some photographs, int64 `[queries]`, and those with the nearest codes, `[queries, k]`.

    A photograph is not its own neighbour.
    """
    queries = np.random.default_rng(seed).permutation(len(codes))[:_NUM_QUERIES]
    distances = hamming(codes[queries], codes)
    distances[np.arange(len(queries)), queries] = 8 * codes.shape[1] + 1
    return queries, np.argsort(distances, axis=1, kind="stable")[:, :_NUM_NEIGHBOURS]


def _find_sides(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives the photographs of the highest and of the lowest scores, int64 `[bits, k]` each."""
    order = np.argsort(scores[:, :_NUM_BITS], axis=0, kind="stable").T
    return order[:, ::-1][:, :_NUM_SHOWN], order[:, :_NUM_SHOWN]
