"""The folder of an inverted index.

lists/
  about.json     how many codes, of how many bits; how they were made; what is expected
  centres.npy    uint8 [lists, num_attributes / 8]
  sizes.npy      int64 [lists]
  lists.bin      codes and rows, list after list
  ids.npy        int64 [n], what the rows are, unless they are a range
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_ctxattr.runs import digest_arrays, write_json
from keras_ctxattr.runs.identity import versions
from keras_ctxattr.search.arrays import code_parts
from keras_ctxattr.search.inverted import InvertedHammingIndex
from keras_ctxattr.search.lists import (
    choose_num_lists,
    copy_lists,
    file_size,
    lists_in_memory,
    map_lists,
)

FORMAT = 1
"""Of the folders; raised when a reader of the old one would fail."""

LISTS = "lists.bin"

_ABOUT = "about.json"
_CENTRES = "centres.npy"
_SIZES = "sizes.npy"
_IDS = "ids.npy"
_IDS_AT_A_TIME = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What an inverted index depends on.

    Attributes:
        num_codes: How many, at least 1.
        num_bits: Of a code.
        num_lists: Lists that are wanted, at least 1.
        seed: Of the sample.
        digest: Of the codes and their ids.
    """

    num_codes: int
    num_bits: int
    num_lists: int
    seed: int
    digest: str

    @classmethod
    def of(cls, codes: Any, ids: Any, *, num_lists: int | None, seed: int) -> Plan:
        """Checks the arguments, and reads all codes once."""
        if not len(codes):
            raise ValueError(
                "Inverted lists need at least one code; `HammingIndex` takes none too. "
                "Received: no codes"
            )
        if num_lists is not None and not 1 <= num_lists <= len(codes):
            raise ValueError(
                "`num_lists` must be 1 to the number of codes. Received: "
                f"{num_lists} for {len(codes)} codes"
            )
        if seed < 0:
            raise ValueError(f"`seed` must be at least 0. Received: {seed}")
        parts = (part for _, part in code_parts(codes))
        named = [np.array([ids.start])] if isinstance(ids, range) else _id_parts(ids)
        return cls(
            num_codes=len(codes),
            num_bits=8 * codes.shape[1],
            num_lists=num_lists or choose_num_lists(len(codes)),
            seed=seed,
            digest=digest_arrays(itertools.chain(parts, named)),
        )


def open_inverted(
    folder: str | Path,
    *,
    in_memory: bool = False,
    check: bool = False,
    num_probes: int | None = None,
    num_threads: int | None = None,
) -> InvertedHammingIndex:
    """Opens an inverted index that `invert_codes` wrote to a folder.

    Args:
        folder: The folder.
        in_memory: Whether the lists are read; else they are mapped, and what is searched is read.
        check: Whether the lists are read and compared with what was written; sizes always are.
        num_probes: Lists that are searched; None for as few as find 95 % of the 100 nearest, but at
            most an eighth of all.
        num_threads: Queries that are looked up at a time; None for one a processor.

    Raises:
        ValueError: If the folder is none of this kind, or damaged.
    """
    path = Path(folder)
    about = read_about(path)
    centres, sizes, ids = _read_arrays(path, about)
    if check and _digest_file(path / LISTS) != about["lists"]:
        raise ValueError(
            "Lists must be as they were written; delete the folder and build it anew. Received: "
            f"{path}, whose {LISTS} has changed"
        )
    lists = map_lists(path / LISTS, sizes, centres.shape[1])
    if in_memory:
        mapped, lists = lists, lists_in_memory(sizes, centres.shape[1])
        copy_lists(mapped, lists, len(sizes))
    return InvertedHammingIndex(
        centres,
        lists,
        ids,
        num_codes=about["plan"]["num_codes"],
        recall={int(probes): share for probes, share in about["recall"].items()},
        num_probes=num_probes,
        num_threads=num_threads,
    )


def read_about(folder: Path) -> dict[str, Any]:
    """Gives what `about.json` says.

    Raises:
        ValueError: If there is none that can be read.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        found = (about["kind"], about["format"])
        _ = about["plan"]["num_codes"], about["recall"].items(), about["digest"], about["lists"]
        _ = about["first_id"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            "Inverted lists must be a folder that `invert_codes` has written to its end; where it "
            f"was killed, the same call goes on. Received: {folder}"
        ) from None
    if found != ("inverted", FORMAT):
        raise ValueError(
            f"Inverted lists must be of format {FORMAT}, which this version of keras_ctxattr "
            f"knows; build them anew. Received: {folder} with {found[0]} of format {found[1]}"
        )
    return about


def write_about(folder: Path, index: InvertedHammingIndex, sizes: np.ndarray, plan: Plan) -> None:
    """Writes all but the lists, which are there: `about.json` last."""
    np.save(folder / _CENTRES, index.centres, allow_pickle=False)
    np.save(folder / _SIZES, sizes, allow_pickle=False)
    ids = index.ids
    if not isinstance(ids, range):
        _write_ids(folder / _IDS, ids)
    about = {
        "format": FORMAT,
        "kind": "inverted",
        "plan": dataclasses.asdict(plan),
        "first_id": ids.start if isinstance(ids, range) else None,
        "recall": {str(probes): share for probes, share in index.recall.items()},
        "digest": digest_arrays([index.centres, sizes]),
        "lists": _digest_file(folder / LISTS),
        "versions": versions(),
    }
    write_json(folder / _ABOUT, about)


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _write_ids(path: Path, ids: Any) -> None:
    header = {"descr": "<i8", "fortran_order": False, "shape": (len(ids),)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in _id_parts(ids):
            file.write(part.tobytes())


def _id_parts(ids: Any) -> Iterator[np.ndarray]:
    for start in range(0, len(ids), _IDS_AT_A_TIME):
        yield np.ascontiguousarray(ids[start : start + _IDS_AT_A_TIME], "<i8")


def _read_arrays(folder: Path, about: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, Any]:
    """Gives centres, sizes and ids, and checks that all files fit together."""
    num_codes, first = about["plan"]["num_codes"], about["first_id"]
    try:
        centres = np.load(folder / _CENTRES, allow_pickle=False)
        sizes = np.load(folder / _SIZES, allow_pickle=False)
        ids = range(first, first + num_codes) if first is not None else _map_ids(folder / _IDS)
        if digest_arrays([centres, sizes]) != about["digest"]:
            raise ValueError("its centres or sizes have changed")
        expected = file_size(sizes, centres.shape[1])
        found = (folder / LISTS).stat().st_size
        if (found, len(ids)) != (expected, num_codes):
            raise ValueError(f"{LISTS} has {found} bytes of {expected}; {len(ids)} ids")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            "The files of inverted lists must be whole, and written together; delete the folder "
            f"and build it anew. Received: {folder}: {error}"
        ) from error
    return centres, sizes, ids


def _map_ids(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)
