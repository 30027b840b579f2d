"""A page of clusters that needs nothing from elsewhere."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_ctxattr.pictures.galleries.cards import (
    ClusterCard,
    Value,
    format_value,
    rank_clusters,
)
from keras_ctxattr.pictures.galleries.tiles import (
    GAP,
    MAX_TILE,
    data_uri,
    draw_tiles,
    encode_picture,
    remove_others,
    tile_size,
    write_picture,
)
from keras_ctxattr.runs.writing import write_atomically

MAX_PAGE_BYTES = 10_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """What a page calls what it shows.

    Attributes:
        item: One of the things shown, in the singular; `item + "s"` are several.
        members: The images of one.
        score: What they are ranked by.
        order: How, after "first": "the most discriminative".
    """

    item: str = "cluster"
    members: str = "members"
    score: str = "score"
    order: str = "the most discriminative"


def write_gallery(
    path: str | Path,
    title: str,
    clusters: Sequence[ClusterCard],
    summary: Mapping[str, Mapping[str, Value]] | None = None,
    *,
    num_columns: int = 6,
    max_images: int = 24,
    max_page_bytes: int = MAX_PAGE_BYTES,
    num_clusters: int | None = None,
    words: Words | None = None,
    max_tile: int = MAX_TILE,
) -> Path:
    """Writes one HTML page with a card for each cluster, the highest score first.

    The page needs nothing from elsewhere and no script. Pictures are inside it, or, where that
    would make it larger than `max_page_bytes`, in a folder beside it (`NAME_pictures`). At any
    moment there is the old page with its pictures or the new one with its own.

    Args:
        path: The page (`….html`), or a folder in which it becomes `index.html`.
        title: Of the page.
        clusters: What to show; none is a result too.
        summary: The table at the top: from the name of each row to its values by column. Values a
            row does not have stay empty. The first row stands out.
        num_columns: Members side by side on a card, at least 1.
        max_images: Largest number of members shown, at least 1.
        max_page_bytes: Largest page that holds its pictures.
        num_clusters: How many there are, where `clusters` is the first of them.
        words: What the page calls them; clusters if None.
        max_tile: Largest side of an image in pixels, 16 to 512.

    Returns:
        Where the page is.

    Raises:
        ValueError: A number that occurs twice, or images that are none.
        DiskFullError: No space left.
    """
    if num_columns < 1 or max_images < 1:
        raise ValueError(
            "`num_columns` and `max_images` must be at least 1. "
            f"Received: num_columns={num_columns}, max_images={max_images}"
        )
    page = Path(path)
    if page.suffix.lower() not in (".html", ".htm"):
        page = page / "index.html"
    named = words or Words()
    ranked = rank_clusters(clusters)
    members = [card.images[:max_images] for card in ranked]
    tile = tile_size(members, max_tile)
    pictures = [encode_picture(draw_tiles(images, num_columns, tile)) for images in members]
    folder = page.with_name(f"{page.stem}_pictures")
    # Base64 is 4/3 as long; the rest of a card is about a kilobyte.
    is_inside = sum(len(picture) * 4 // 3 + 1000 for picture in pictures) <= max_page_bytes
    sources = [data_uri(p) if is_inside else write_picture(folder, p) for p in pictures]
    cards = [
        _card(rank, card, source, num_columns, tile, len(images), named)
        for rank, (card, source, images) in enumerate(zip(ranked, sources, members, strict=True), 1)
    ]
    total = len(ranked) if num_clusters is None else num_clusters
    content = _page(title, _count(ranked, total, named), summary or {}, cards).encode(
        "utf-8", "replace"
    )
    with write_atomically(page, num_bytes=len(content)) as partial:
        partial.write_bytes(content)
    remove_others(folder, {Path(source).name for source in sources if not is_inside})
    return page


def _count(clusters: Sequence[ClusterCard], total: int, words: Words) -> str:
    """Says how many there are, and how many of them are shown."""
    if not clusters:
        return f"No {words.item}s were found."
    num_members = sum(card.num_members for card in clusters)
    count = f"{len(clusters):,}" + (f" of {total:,}" if total > len(clusters) else "")
    return f"{count} {words.item}s, {num_members:,} images in them, {words.order} first."


def _page(
    title: str, count: str, summary: Mapping[str, Mapping[str, Value]], cards: Sequence[str]
) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
<p>{html.escape(count)}</p>
{_table(summary)}</header>
<main>
{"".join(cards)}</main>
</body>
</html>
"""


def _table(summary: Mapping[str, Mapping[str, Value]]) -> str:
    if not summary:
        return ""
    columns = list(dict.fromkeys(name for values in summary.values() for name in values))
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(
            f"<td>{html.escape(format_value(values[column])) if column in values else ''}</td>"
            for column in columns
        )
        + "</tr>\n"
        for name, values in summary.items()
    )
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Summary"><table>\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )


def _card(
    rank: int,
    card: ClusterCard,
    source: str,
    num_columns: int,
    tile: int,
    num_shown: int,
    words: Words,
) -> str:
    name = f"{words.item}-{card.cluster_id}"
    facts = {words.score: card.score, words.members: card.num_members, **card.facts}
    described = "".join(
        f"<div><dt>{html.escape(fact)}</dt><dd>{html.escape(format_value(value))}</dd></div>"
        for fact, value in facts.items()
    )
    width = num_columns * (tile + GAP) + GAP
    height = math.ceil(num_shown / num_columns) * (tile + GAP) + GAP
    called = f"{words.item.capitalize()} {card.cluster_id}"
    # Larger and smaller are links to places in the same card: no script, and nothing moves.
    return f"""<article id="{name}">
<h2><span class="rank">{rank}</span> <a class="larger" href="#{name}">{called}</a>
<a class="smaller" id="{name}-closed" href="#{name}-closed">smaller</a></h2>
<img src="{html.escape(source)}" width="{width}" height="{height}" loading="lazy" decoding="async"
 alt="{num_shown} {words.members} of {words.item} {card.cluster_id}">
<dl>{described}</dl>
</article>
"""


_STYLE = """
:root { --page: #fff; --card: #eeeeeb; --ink: #1d1d1f; --faint: #5d5d5a; --line: #d6d6d2;
  --link: #0b57b7; }
@media (prefers-color-scheme: dark) {
  :root { --page: #131316; --card: #26262b; --ink: #e9e9ec; --faint: #a2a2a9; --line: #37373d;
    --link: #8ab8ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 112rem; background: var(--page);
  color: var(--ink); font: 1rem/1.45 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.5rem; line-height: 1.2; overflow-wrap: anywhere; }
header p { margin: .3rem 0 1rem; color: var(--faint); }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 3px; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line);
  font-weight: normal; white-space: nowrap; }
th[scope=row] { text-align: left; white-space: normal; min-width: 7.5rem; }
thead th { color: var(--faint); }
tbody tr:first-child { font-weight: 600; }
tbody tr:first-child th { font-weight: 600; }
main { display: grid; gap: .8rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
article { padding: .7rem .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; content-visibility: auto; contain-intrinsic-size: auto 22rem; }
h2 { margin: 0 0 .4rem; font-size: 1rem; display: flex; gap: .5rem; align-items: baseline; }
h2 a { text-decoration: none; }
h2 a:hover { text-decoration: underline; }
.rank { min-width: 1.6em; color: var(--faint); font-weight: normal; }
.smaller { display: none; margin-left: auto; font-weight: normal; font-size: .9rem; }
img { display: block; width: 100%; height: auto; }
dl { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .5rem 0 0; font-size: .9rem; }
dl div { display: flex; gap: .4rem; }
dt { color: var(--faint); }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
article:target { grid-column: 1 / -1; border-color: var(--link); }
article:target img { max-width: 60rem; }
article:target .smaller { display: block; }
"""
