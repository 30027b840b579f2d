"""Which files belong to which shard."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from keras_ctxattr.data.manifest.cache import default_cache_dir
from keras_ctxattr.data.manifest.remote import is_url, list_remote
from keras_ctxattr.data.manifest.scan import Progress, list_all
from keras_ctxattr.data.manifest.sources import Entry, list_source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """The files of one shard.

    Attributes:
        shard: Its number.
        start: Place in the collection of its first file.
        entries: Where the files are.
    """

    shard: int
    start: int
    entries: Sequence[Entry]

    @property
    def name(self) -> str:
        """What the shard's folder is called."""
        return shard_name(self.shard)

    @property
    def stop(self) -> int:
        """Place after its last file."""
        return self.start + len(self.entries)

    @property
    def keys(self) -> list[str]:
        """Names of the files in the collection."""
        return [entry.key for entry in self.entries]


def shard_name(shard: int) -> str:
    """Gives what a shard's folder is called."""
    return f"{shard:05d}"


class Plan:
    """A collection cut into shards.

    Args:
        entries: All its files, by key.
        shard_images: Files of every shard but the last, at least 1.
    """

    def __init__(self, entries: Sequence[Entry], shard_images: int) -> None:
        self.entries = entries
        self.shard_images = shard_images

    def __len__(self) -> int:
        return -(-len(self.entries) // self.shard_images)

    def unit(self, shard: int) -> Unit:
        """Gives the files of a shard."""
        start = shard * self.shard_images
        entries = self.entries[start : start + self.shard_images]
        return Unit(shard=shard, start=start, entries=entries)

    def names(self) -> dict[str, int]:
        """Gives the number of each shard by its folder's name, in order."""
        return {shard_name(shard): shard for shard in range(len(self))}

    def count(self, shards: Iterable[int]) -> int:
        """Gives how many files there are in some shards."""
        starts = (shard * self.shard_images for shard in shards)
        return sum(min(self.shard_images, len(self.entries) - start) for start in starts)

    def digest(self) -> str:
        """Tells this collection from others, by names, places in their files, and lengths.

        Not by contents, which nobody has read yet: each shard holds the digests of those.
        """
        digest = hashlib.blake2b(digest_size=16)
        for entry in self.entries:
            line = f"{entry.key}\0{entry.offset}\0{entry.length}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def list_collection(sources: Sequence[str], progress: Progress | None = None) -> list[Entry]:
    """Lists the files of collections by key; none is read.

    Args:
        sources: What `scan_images` takes, and URLs of folders, `.tar` files and images.
        progress: Called with (files listed, None) now and then.

    Raises:
        CollectionError: If a source does not exist, is damaged or empty.
    """
    return list_all(list(sources), default_cache_dir(), progress, _list_one)


def _list_one(source: str, cache_dir: Path) -> Iterator[Entry]:
    return list_remote(source) if is_url(source) else list_source(source, cache_dir)
