"""Codes and their ids as indexes take them: arrays, or what is larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_ctxattr.attributes.codes import check_codes

CODES_AT_A_TIME = 1 << 22
"""Codes of a collection larger than memory that are in memory at a time."""


def check_queries(codes: Any, num_bytes: int) -> np.ndarray:
    """Gives queries if they are such: uint8 `[queries, num_bytes]`.

    Raises:
        ValueError: If they are something else.
    """
    queries = check_codes(codes)
    if queries.shape[1] != num_bytes:
        raise ValueError(
            "Queries must have as many bytes as the codes of the index. Received: "
            f"{queries.shape[1]} and {num_bytes}"
        )
    return queries


def as_codes(codes: Any) -> Any:
    """Gives codes as they are, if they are such: an array, or a `ShardedArray` that is not read.

    Raises:
        ValueError: If they are something else.
    """
    if not hasattr(codes, "dtype") or not hasattr(codes, "shape"):
        codes = np.asarray(codes)
    if codes.dtype != np.uint8 or len(codes.shape) != 2 or codes.shape[1] == 0:
        raise ValueError(
            "Codes must be uint8 [n, num_attributes / 8], as `pack_bits` gives them. Received: "
            f"{codes.dtype} {list(codes.shape)}"
        )
    return codes


def as_ids(ids: Any, num_codes: int) -> Any:
    """Gives ids as they are, if they are such: a `range` of step 1, or whole numbers `[n]`.

    Raises:
        ValueError: If they are not one for every code.
    """
    if ids is None:
        return range(num_codes)
    is_kept = isinstance(ids, range) and ids.step == 1
    is_kept = is_kept or (getattr(ids, "dtype", None) == np.int64 and hasattr(ids, "shape"))
    ids = ids if is_kept else np.asarray(ids, np.int64)
    shape = (len(ids),) if isinstance(ids, range) else ids.shape
    if shape != (num_codes,):
        raise ValueError(
            f"There must be an id for every code. Received: {num_codes} codes and ids of "
            f"shape {list(shape)}"
        )
    return ids


def range_of(ids: Any) -> tuple[int, int]:
    """Gives the smallest and the largest of ids; (0, -1) of none."""
    if not len(ids):
        return 0, -1
    return (ids[0], ids[-1]) if isinstance(ids, range) else (int(ids.min()), int(ids.max()))


def ids_of(ids: Any, rows: np.ndarray) -> np.ndarray:
    """Gives the ids of rows, int64 like them; -1 stays.

    Args:
        ids: Int64 `[n]`, or a `range` of step 1.
        rows: Int64, -1 to n - 1.
    """
    if isinstance(ids, range):
        return np.where(rows < 0, -1, ids.start + rows)
    return np.where(rows < 0, -1, ids[np.maximum(rows, 0).ravel()].reshape(rows.shape))


def code_parts(
    codes: Any, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Gives (first row, codes of the rows from there), of which only a part is in memory."""
    stop = len(codes) if stop is None else stop
    for first in range(start, stop, CODES_AT_A_TIME):
        yield first, np.ascontiguousarray(codes[first : min(first + CODES_AT_A_TIME, stop)])
