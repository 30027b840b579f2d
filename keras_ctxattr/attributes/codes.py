"""Codes: bits of attributes, packed eight to a byte, the first in the highest bit."""

from collections.abc import Mapping
from typing import Any

import numpy as np

DEAD = 0.98
"""|mean of a bit of -1 and 1| from which on it says nothing."""

DUPLICATE = 0.95
"""|correlation of two bits| from which on they say the same."""


def pack_bits(bits: Any) -> np.ndarray:
    """Packs bits into bytes, as `np.packbits` and faiss's binary indexes order them.

    Args:
        bits: bool or 0 and 1, `[n, num_attributes]`, a multiple of 8.

    Returns:
        uint8 `[n, num_attributes / 8]`.

    Raises:
        ValueError: if the shape or a value is not that.
    """
    given = np.asarray(bits)
    if given.ndim != 2 or given.shape[1] == 0 or given.shape[1] % 8:
        raise ValueError(
            "Bits must be [n, num_attributes] with a multiple of 8 attributes, which make whole "
            f"bytes. Received: shape {list(given.shape)}"
        )
    if given.dtype != bool and not np.isin(given, (0, 1)).all():
        raise ValueError(
            "Bits must be bool, or 0 and 1; threshold attribute scores at 0 first. "
            f"Received: {given.dtype} from {given.min()} to {given.max()}"
        )
    return np.packbits(given.astype(bool), axis=1)


def unpack_bits(codes: np.ndarray) -> np.ndarray:
    """Gives the bits of packed codes, bool `[n, num_attributes]`.

    Args:
        codes: uint8 `[n, num_attributes / 8]`.

    Raises:
        ValueError: if they are something else.
    """
    return np.unpackbits(check_codes(codes), axis=1).astype(bool)


def encode_scores(scores: Any) -> np.ndarray:
    """Gives the packed codes of attribute scores: a bit is set where the score is above 0.

    Args:
        scores: float `[n, num_attributes]`, finite.

    Returns:
        uint8 `[n, num_attributes / 8]`.

    Raises:
        ValueError: if a score is NaN or infinite, or the shape is wrong.
    """
    given = np.asarray(scores)
    if not np.isfinite(given).all():
        row = int(np.flatnonzero(~np.isfinite(given).reshape(len(given), -1).all(axis=1))[0])
        raise ValueError(
            f"Attribute scores must be finite. Received: NaN or infinity, first in row {row}"
        )
    return pack_bits(given > 0)


def hamming(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Gives in how many bits each two codes differ: all pairs at once, for few of them.

    Args:
        codes: uint8 `[n, num_attributes / 8]`.
        others: uint8 `[m, num_attributes / 8]`.

    Returns:
        int32 `[n, m]`.

    Raises:
        ValueError: if they are not packed codes of one length.
    """
    one, other = check_codes(codes), check_codes(others)
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            "Codes must have as many bytes as those they are compared with. Received: "
            f"{one.shape[1]} and {other.shape[1]}"
        )
    # Products of -1 and 1 count agreements minus differences, by one matrix product.
    signs, others_signs = (
        2 * np.unpackbits(given, axis=1).astype(np.float32) - 1 for given in (one, other)
    )
    num_bits = 8 * one.shape[1]
    return ((num_bits - signs @ others_signs.T) / 2).astype(np.int32)


def bit_statistics(codes: np.ndarray) -> dict[str, Any]:
    """Gives how much the bits of codes say, and how much of it twice.

    Args:
        codes: uint8 `[n, num_attributes / 8]`, at least one.

    Returns:
        `shares`, how often each bit is set, floats; `entropy`, the mean over the bits of what one
        says, 0 to 1; `correlation`, the mean size of the correlation of two bits, and
        `max_correlation`, the largest; `dead`, bits that (nearly) always say the same, and
        `duplicate`, those that (nearly) repeat an earlier one; `distinct`, how many different codes
        there are.
    """
    bits = unpack_bits(codes).astype(np.float32)
    shares = bits.mean(axis=0, dtype=np.float64)
    inside = np.clip(shares, 1e-12, 1 - 1e-12)
    entropies = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))
    covariance = bits.T @ bits / len(bits) - np.outer(shares, shares)
    spread = np.sqrt(np.maximum(shares * (1 - shares), 1e-12))
    sizes = np.abs(covariance / np.outer(spread, spread))
    is_dead = np.abs(2 * shares - 1) > DEAD
    below = np.tril(np.where(np.outer(~is_dead, ~is_dead), sizes, 0.0), -1)
    pairs = sizes[np.tril_indices(len(shares), -1)]
    return {
        "shares": shares.tolist(),
        "entropy": float(entropies.mean()),
        "correlation": float(pairs.mean()),
        "max_correlation": float(pairs.max()),
        "dead": int(is_dead.sum()),
        "duplicate": int((below > DUPLICATE).any(axis=1).sum()),
        "distinct": len(np.unique(codes, axis=0)),
    }


def bit_metrics(statistics: Mapping[str, Any]) -> dict[str, float]:
    """Gives what `bit_statistics` found of all bits together, for a module's `metrics`."""
    return {f"bit_{name}": value for name, value in statistics.items() if name != "shares"}


def check_codes(codes: np.ndarray) -> np.ndarray:
    """Gives the codes if they are such: uint8 `[n, num_attributes / 8]`.

    Raises:
        ValueError: if they are something else.
    """
    given = np.asarray(codes)
    if given.dtype != np.uint8 or given.ndim != 2 or given.shape[1] == 0:
        raise ValueError(
            "Codes must be uint8 [n, num_attributes / 8], as `pack_bits` gives them. Received: "
            f"{given.dtype} {list(given.shape)}"
        )
    return given
