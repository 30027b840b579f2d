"""An index of codes that suits their number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_ctxattr.search.arrays import as_codes
from keras_ctxattr.search.index import CodeIndex, HammingIndex
from keras_ctxattr.search.inverting import Progress, invert_codes

EXACT_CODES = 10_000_000
"""Up to so many codes a query is compared with all, in some 10 ms for codes of 64 bits."""


def index_codes(
    codes: Any,
    ids: Any = None,
    *,
    kind: str = "auto",
    folder: str | Path | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> CodeIndex:
    """Makes an index of codes: exact up to ten million of them, inverted beyond.

    `about` of the index tells which it is, and how much of the nearest it is expected to find.

    Args:
        codes: Uint8 `[n, num_attributes / 8]`: an array, or a `ShardedArray`.
        ids: What the codes are of, int64 `[n]` or a `range`; None for 0, 1, 2 ...
        kind: `"exact"`, `"inverted"`, or `"auto"`, by their number.
        folder: Where inverted lists are written, or are from an earlier call; None for in memory.
        num_threads: Queries that are looked up at a time; None for one a processor.
        progress: Called with (codes done, all of them) where lists are made.

    Raises:
        ValueError: If an argument is impossible, or the folder holds something else.
    """
    codes = as_codes(codes)
    if kind == "auto":
        kind = choose_kind(len(codes))
    if kind not in _MAKERS:
        raise ValueError(f"`kind` must be auto, {' or '.join(_MAKERS)}. Received: {kind!r}")
    return _MAKERS[kind](codes, ids, folder, num_threads, progress)


def choose_kind(num_codes: int) -> str:
    """Gives the kind of index that suits so many codes."""
    return "exact" if num_codes <= EXACT_CODES else "inverted"


def _make_exact(
    codes: Any, ids: Any, folder: Any, num_threads: int | None, progress: Progress | None
) -> CodeIndex:
    return HammingIndex(codes, ids, num_threads=num_threads)


def _make_inverted(
    codes: Any, ids: Any, folder: Any, num_threads: int | None, progress: Progress | None
) -> CodeIndex:
    return invert_codes(codes, ids, folder=folder, num_threads=num_threads, progress=progress)


_MAKERS: dict[str, Callable[..., CodeIndex]] = {
    "exact": _make_exact,
    "inverted": _make_inverted,
}
