"""Codes: bits of attributes, packed eight to a byte, the first in the highest bit."""

from typing import Any

import numpy as np


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
    return np.unpackbits(_check_codes(codes), axis=1).astype(bool)


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
    one, other = _check_codes(codes), _check_codes(others)
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


def _check_codes(codes: np.ndarray) -> np.ndarray:
    given = np.asarray(codes)
    if given.dtype != np.uint8 or given.ndim != 2 or given.shape[1] == 0:
        raise ValueError(
            "Codes must be uint8 [n, num_attributes / 8], as `pack_bits` gives them. Received: "
            f"{given.dtype} {list(given.shape)}"
        )
    return given
