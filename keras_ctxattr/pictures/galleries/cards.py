"""What is shown of a cluster, and one picture of many clusters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_ctxattr.pictures.sheets import Image, contact_sheet

Value = float | int | str | None

_LINE_HEIGHT = 20  # pixels, of a row title


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClusterCard:
    """What is shown of one cluster.

    Attributes:
        cluster_id: Its number, its own in a gallery.
        images: Members, uint8 `[height, width, 3]`, in the order to be shown; at least one.
        num_members: Of the whole cluster.
        score: By which clusters are ranked, the larger the better: how discriminative it is. NaN
            comes last.
        facts: What else is known, by name ("purity": 0.4, "most frequent": "horse"), in the order
            to be shown.
    """

    cluster_id: int
    images: Sequence[Image]
    num_members: int
    score: float
    facts: Mapping[str, Value] = dataclasses.field(default_factory=dict)


def cluster_sheet(
    clusters: Sequence[ClusterCard],
    *,
    title: str = "",
    num_columns: int = 12,
    max_rows: int = 40,
    tile_size: int = 64,
    num_clusters: int | None = None,
    item: str = "cluster",
) -> np.ndarray:
    """Shows many clusters in one picture, a row a cluster, the highest score first.

    A row begins with the cluster's number, its score, how many members it has and its first facts,
    as many as there is room for.

    Args:
        clusters: At least one.
        title: Of the sheet. Where not all clusters fit, it ends in how many do.
        num_columns: Largest number of members shown, at least 1.
        max_rows: Largest number of clusters shown, at least 1.
        tile_size: Side of a tile in pixels, 16 to 512.
        num_clusters: How many there are, where `clusters` is the first of them.
        item: What one of them is called in the title.

    Returns:
        Uint8 `[height, width, 3]`.

    Raises:
        ValueError: No cluster, a number that occurs twice, or images that are none.
    """
    if num_columns < 1 or max_rows < 1:
        raise ValueError(
            "`num_columns` and `max_rows` must be at least 1. "
            f"Received: num_columns={num_columns}, max_rows={max_rows}"
        )
    ranked = rank_clusters(clusters)
    shown = ranked[:max_rows]
    total = len(ranked) if num_clusters is None else num_clusters
    if len(shown) < total:
        title = f"{title} (the first {len(shown)} of {total:,} {item}s)".strip()
    return contact_sheet(
        [list(card.images[:num_columns]) for card in shown],
        tile_size=tile_size,
        row_titles=[_row_title(card, max(1, tile_size // _LINE_HEIGHT)) for card in shown],
        title=title,
    )


def rank_clusters(clusters: Sequence[ClusterCard]) -> list[ClusterCard]:
    """Gives the clusters by falling score; equal ones by number, those without a score last.

    Raises:
        ValueError: A number that occurs twice, or a cluster without images.
    """
    seen: set[int] = set()
    for card in clusters:
        if card.cluster_id in seen or not len(card.images):
            raise ValueError(
                "Each cluster must have a number of its own and at least one image. "
                f"Received: cluster {card.cluster_id} "
                + ("twice" if card.cluster_id in seen else "without images")
            )
        seen.add(card.cluster_id)
    return sorted(
        clusters,
        key=lambda card: (
            math.isnan(card.score),
            0 if math.isnan(card.score) else -card.score,
            card.cluster_id,
        ),
    )


def format_value(value: Value) -> str:
    """Gives a value as it is printed: three decimals, commas between thousands."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return "n/a"
    if isinstance(value, float | np.floating):
        return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def _row_title(card: ClusterCard, num_lines: int) -> str:
    count = "1 image" if card.num_members == 1 else f"{card.num_members:,} images"
    lines = [f"#{card.cluster_id}  {format_value(card.score)}", count]
    lines += [f"{name} {format_value(value)}" for name, value in card.facts.items()]
    return "\n".join(lines[:num_lines])
