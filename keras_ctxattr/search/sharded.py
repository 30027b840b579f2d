"""Several indexes of codes, each over a part of a collection, searched as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from keras_ctxattr.search.index import CodeIndex, Place
from keras_ctxattr.search.list_folder import open_inverted


class ShardedHammingIndex(CodeIndex):
    """Finds the nearest codes to a code in several indexes, and merges what they find.

    Over exact indexes of consecutive parts of a collection, the result is that of one index over
    all of it: samples at one distance come in the order of the shards, then as each gives them.
    One pool of threads looks up every query in every shard, so that a single query uses all of
    them, and all disks on which shards lie.

    Args:
        shards: At least one; of equally long codes, no id in two of them.
        num_threads: Look-ups at a time; None for one a processor.

    Attributes:
        shards: The indexes.

    Raises:
        ValueError: If the shards do not fit together.

    Example:
        >>> from keras_ctxattr.search.index import HammingIndex
        >>> codes = np.array([[0b0000], [0b0111], [0b0001]], np.uint8)
        >>> first = HammingIndex(codes[:2], range(2))
        >>> second = HammingIndex(codes[2:], range(2, 3))
        >>> distances, ids = ShardedHammingIndex([first, second]).search(codes[:1], count=2)
        >>> distances.tolist(), ids.tolist()
        ([[0, 1]], [[0, 2]])
    """

    def __init__(self, shards: Iterable[CodeIndex], *, num_threads: int | None = None) -> None:
        self.shards = tuple(shards)
        if not self.shards:
            raise ValueError("A sharded index must have at least one shard. Received: none")
        lengths = sorted({shard.num_bits for shard in self.shards})
        if len(lengths) > 1:
            raise ValueError(
                "All shards must have codes of as many bits; index them by one module. Received: "
                f"codes of {' and '.join(map(str, lengths))} bits"
            )
        check_disjoint(self.shards)
        super().__init__(lengths[0], num_threads)

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @property
    def about(self) -> str:
        """What the index is, and of what shards."""
        told = "; ".join(f"{number}: {one.about}" for number, one in enumerate(self.shards))
        return f"{len(self.shards)} shards, {len(self):,} codes of {self.num_bits} bits; {told}"

    def id_range(self) -> tuple[int, int]:
        """Gives the smallest and the largest id; (0, -1) of no codes."""
        ranges = [shard.id_range() for shard in self.shards if len(shard)]
        if not ranges:
            return 0, -1
        return min(first for first, _ in ranges), max(last for _, last in ranges)

    def all_ids(self) -> np.ndarray:
        """Gives the ids of all codes, int64 `[n]`."""
        return np.concatenate([shard.all_ids() for shard in self.shards])

    def places(self) -> list[Place]:
        """Gives the parts of all shards, in order, that may be searched at the same time."""
        return [place for shard in self.shards for place in shard.places()]


def open_sharded(
    folders: Iterable[str | Path],
    *,
    num_codes: int | None = None,
    in_memory: bool = False,
    num_probes: int | None = None,
    num_threads: int | None = None,
) -> ShardedHammingIndex:
    """Opens inverted indexes of parts of a collection, each built by `invert_codes`, as one.

    Args:
        folders: Of the parts in their order, on as many disks as you like.
        num_codes: Codes of the whole collection, by which a shard that was forgotten is noticed.
        in_memory: Whether the lists are read; else they are mapped.
        num_probes: Lists of each shard that are searched; None for as few as find 95 % of the 100
            nearest, but at most an eighth of all.
        num_threads: Look-ups at a time; None for one a processor.

    Raises:
        ValueError: If a shard is missing, damaged, or there twice.
    """
    paths = [Path(folder) for folder in folders]
    index = ShardedHammingIndex(
        [open_inverted(path, in_memory=in_memory, num_probes=num_probes) for path in paths],
        num_threads=num_threads,
    )
    if num_codes is not None and len(index) != num_codes:
        raise ValueError(
            f"The shards must hold all {num_codes:,} codes of the collection; name those that are "
            f"missing too. Received: {len(paths)} shards with {len(index):,}"
        )
    return index


def check_disjoint(shards: Sequence[CodeIndex]) -> None:
    """Refuses shards that have an id in common. Ids are compared only where ranges overlap.

    Raises:
        ValueError: If two have.
    """
    filled = [(shard.id_range(), number) for number, shard in enumerate(shards) if len(shard)]
    filled.sort()
    reach, reached = -1, -1  # the largest id so far, and whose it is
    suspects: set[int] = set()
    for (first, last), number in filled:
        if reached >= 0 and first <= reach:
            suspects |= {reached, number}
        if reached < 0 or last > reach:
            reach, reached = last, number
    if not suspects:
        return
    ids = np.sort(np.concatenate([shards[number].all_ids() for number in sorted(suspects)]))
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        holders = [n for n in sorted(suspects) if np.isin(twice[0], shards[n].all_ids())]
        raise ValueError(
            "Shards must have no id in common; give each code an id of its own, and each shard "
            f"once. Received: id {twice[0]} in shards {' and '.join(map(str, holders))}"
        )
