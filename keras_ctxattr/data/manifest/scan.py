"""From the names of collections to their manifest: list, sort, look at every image once."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_ctxattr.data.manifest.cache import default_cache_dir
from keras_ctxattr.data.manifest.inspection import Facts, inspect_entry
from keras_ctxattr.data.manifest.sources import Entry, list_source
from keras_ctxattr.data.manifest.table import (
    DUPLICATE,
    CollectionError,
    Manifest,
    count_reasons,
)

MAX_PIXELS = 200_000_000

Source = str | os.PathLike[str]
Progress = Callable[[int, int | None], None]


def scan_images(
    sources: Source | Sequence[Source],
    *,
    cache_dir: Source | None = None,
    keep_duplicates: bool = False,
    max_pixels: int = MAX_PIXELS,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Finds and checks all images of one or several collections.

    Every image is decoded once, to its end, by the function that training uses. What cannot be used
    stays in the manifest with the reason; exact copies are skipped but for the first in key order.
    At no time more than a few images are in memory.

    Args:
        sources: Folders (with all below), `.tar`, `.tar.gz` or TFRecord files, single images,
        `tfds:NAME[:SPLIT]`.
        cache_dir: Where sources without random access are unpacked and images of foreign formats
            (TIFF, HEIC) converted, once; default `ctxattr` in $XDG_CACHE_HOME or ~/.cache.
        keep_duplicates: Use exact copies like other images.
        max_pixels: Images whose header states more are refused without decoding them.
        num_threads: Images looked at in parallel; default one for each processor.
        progress: Called with (files done, files in all or None while they are counted).

    Returns:
        The manifest of everything found, with at least one usable row.

    Raises:
        CollectionError: If a source does not exist, is damaged or empty, or none of its images can
        be used.

    Example:
        >>> import tempfile, pathlib, numpy as np, cv2
        >>> from keras_ctxattr.data.manifest import scan_images
        >>> grey = np.zeros([20, 30], np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = cv2.imwrite(str(pathlib.Path(folder) / "grey.png"), grey)
        ...     manifest = scan_images(folder)
        >>> manifest.keys.tolist(), manifest.heights.tolist(), manifest.widths.tolist()
        (['grey.png'], [20], [30])
    """
    names = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    texts = [os.fspath(name) for name in names]
    if not texts:
        raise CollectionError("`sources` must name at least one collection. Received: none")
    cache = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    entries = list_all(texts, cache, progress)
    facts = _inspect_all(entries, max_pixels, cache, num_threads or os.cpu_count() or 1)
    manifest = _collect(facts, len(entries), tuple(texts), progress)
    if not keep_duplicates:
        manifest = _skip_duplicates(manifest)
    if not (manifest.skips == "").any():
        counts = ", ".join(f"{n} {kind}" for kind, n in count_reasons(manifest.skips).items())
        first = next((s for s in manifest.skips if s.startswith("unreadable")), "")
        raise CollectionError(
            "At least one image must be usable; name a folder or file with photographs. "
            f"Received: {', '.join(texts)} with {counts}"
            + (f" (the first {first})" if first else "")
        )
    return manifest


def list_all(
    sources: list[str],
    cache: Path,
    progress: Progress | None,
    list_one: Callable[[str, Path], Iterator[Entry]] = list_source,
) -> list[Entry]:
    """Lists all sources and sorts by key, so that nothing depends on the order of a file system.

    Args:
        sources: What `list_one` takes.
        cache: Where sources that cannot be read at random are unpacked once.
        progress: Called with (files listed, None) now and then.
        list_one: Lists one source.

    Returns:
        Entries whose keys are unique.

    Raises:
        CollectionError: If a source does not exist, is damaged or empty.
    """
    labels = label_sources(sources)
    entries: list[Entry] = []
    for source, label in zip(sources, labels, strict=True):
        num_before = len(entries)
        for entry in list_one(source, cache):
            entries.append(
                dataclasses.replace(entry, key=f"{label}/{entry.key}") if label else entry
            )
            if progress is not None and len(entries) % 1000 == 0:
                progress(len(entries), None)
        if len(entries) == num_before:
            raise CollectionError(
                "A source of photographs must hold at least one file; this one is empty. "
                f"Received: {source}"
            )
    entries.sort(key=lambda entry: (entry.key, entry.path, entry.offset))
    return _make_unique(entries)


def label_sources(sources: list[str]) -> list[str]:
    """Gives what stands, with a slash, before each source's keys: "" for a single one."""
    if len(sources) == 1:
        return [""]
    names = [Path(source.rstrip("/")).name or "root" for source in sources]
    seen: collections.Counter[str] = collections.Counter()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
    return labels


def _make_unique(entries: list[Entry]) -> list[Entry]:
    """Numbers the later ones of equal keys: an archive may hold one name twice."""
    previous, count = None, 0
    for index, entry in enumerate(entries):
        count = count + 1 if entry.key == previous else 1
        previous = entry.key
        if count > 1:
            entries[index] = dataclasses.replace(entry, key=f"{entry.key}~{count}")
    return entries


def _inspect_all(
    entries: Iterable[Entry], max_pixels: int, cache: Path, num_threads: int
) -> Iterator[Facts]:
    """Looks at the entries in several threads, a few ahead, and keeps their order."""
    waiting: collections.deque[Future[Facts]] = collections.deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for entry in entries:
                waiting.append(
                    pool.submit(inspect_entry, entry, max_pixels=max_pixels, cache_dir=cache)
                )
                if len(waiting) >= 8 * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _collect(
    facts: Iterator[Facts], total: int, sources: tuple[str, ...], progress: Progress | None
) -> Manifest:
    columns: dict[str, list[object]] = {name: [] for name in _READERS}
    for number, fact in enumerate(facts, start=1):
        for name, read in _READERS.items():
            columns[name].append(read(fact))
        if progress is not None and (number % 16 == 0 or number == total):
            progress(number, total)
    arrays = {name: _to_array(values) for name, values in columns.items()}
    return Manifest(image_ids=np.arange(total), sources=sources, **arrays)


_READERS: dict[str, Callable[[Facts], object]] = {
    "keys": lambda fact: fact.entry.key,
    "paths": lambda fact: fact.entry.path,
    "offsets": lambda fact: fact.entry.offset,
    "lengths": lambda fact: fact.entry.length,
    "totals": lambda fact: fact.entry.total,
    "heights": lambda fact: fact.height,
    "widths": lambda fact: fact.width,
    "formats": lambda fact: fact.format,
    "orientations": lambda fact: fact.orientation,
    "digests": lambda fact: fact.digest,
    "skips": lambda fact: fact.skip,
}


def _to_array(values: list[object]) -> np.ndarray:
    is_text = bool(values) and isinstance(values[0], str)
    return np.array(values, dtype=object if is_text else np.int64)


def _skip_duplicates(manifest: Manifest) -> Manifest:
    """Skips all but the first, in key order, of usable images with equal bytes."""
    first: dict[str, str] = {}
    reasons = np.full(len(manifest), "", dtype=object)
    for row in np.flatnonzero(manifest.skips == ""):
        key = first.setdefault(manifest.digests[row], manifest.keys[row])
        if key != manifest.keys[row]:
            reasons[row] = DUPLICATE + key
    return manifest.skip_where(reasons != "", reasons)
