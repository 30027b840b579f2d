"""Proposals for the images of a manifest: searched once, then read."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.data.manifest.cache import default_cache_dir
from keras_ctxattr.data.manifest.inspection import explain_undecodable, load_entry
from keras_ctxattr.data.manifest.scan import MAX_PIXELS
from keras_ctxattr.data.manifest.sources import Entry
from keras_ctxattr.tasks.detection.proposals import selective_search
from keras_ctxattr.tasks.detection.proposals.store import ProposalStore
from keras_ctxattr.tasks.detection.proposals.table import Proposals

Progress = Callable[[int, int | None], None]

_ALGORITHM = "selective search, ranked by random place in size"


def load_proposals(
    manifest: Manifest,
    folder: str | Path,
    *,
    mode: str = "fast",
    max_boxes: int = 2000,
    min_side: float = 8,
    max_side: int | None = 500,
    num_workers: int | None = None,
    progress: Progress | None = None,
) -> Proposals:
    """Gives proposals for all images of a manifest; those that the folder lacks are searched.

    Killed at any moment, the same call goes on with the images that are left. A folder serves every
    manifest with some of its images, whatever they are called there.

    Args:
        manifest: The images; a row that is marked as skipped has no boxes, and its mark as reason.
        folder: New, empty, or one that was begun with the same settings.
        mode: As in `propose_boxes`, like the next three.
        max_boxes: Boxes of an image at most.
        min_side: Pixels of both sides of a box at least.
        max_side: Pixels of an image's longer side while it is searched.
        num_workers: Images searched at a time; one for each processor by default.
        progress: Called with (images that are there, all different ones).

    Returns:
        The proposals in the order of the manifest's rows. An image that can no longer be read, or
        has changed since the scan, has no boxes and a reason; the next call tries it again.

    Raises:
        ValueError: If a setting is impossible, the folder holds something else, or images are to be
            searched and OpenCV lacks selective search.
    """
    selective_search.check_search(mode, max_boxes, min_side, max_side)
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"`num_workers` must be at least 1. Received: {num_workers}")
    settings = {"mode": mode, "max_boxes": max_boxes, "min_side": min_side, "max_side": max_side}
    workers = num_workers or len(os.sched_getaffinity(0))
    with ProposalStore.open(folder, {"algorithm": _ALGORITHM, **settings}) as store:
        failures = _complete(store, manifest, settings, workers, progress)
        boxes, reasons = [], []
        for digest, skip in zip(manifest.digests, manifest.skips, strict=True):
            reason = skip or failures.get(digest, "")
            boxes.append(np.empty((0, 4)) if reason else store.read(digest))
            reasons.append(reason)
    return Proposals.stack(boxes, reasons)


def _complete(
    store: ProposalStore,
    manifest: Manifest,
    settings: dict[str, Any],
    num_workers: int,
    progress: Progress | None,
) -> dict[str, str]:
    """Searches the images that are not there; gives the reason for each that could not be."""
    first = {manifest.digests[row]: row for row in np.flatnonzero(manifest.skips == "")[::-1]}
    there = store.digests()
    rows = sorted(row for digest, row in first.items() if digest not in there)
    if rows:
        selective_search.check_selective_search()
    done, failures = len(first) - len(rows), {}
    if progress is not None:
        progress(done, len(first))
    for row, found in _search_rows(manifest, rows, settings, num_workers):
        if isinstance(found, str):
            failures[manifest.digests[row]] = found
        else:
            store.write(manifest.digests[row], found)
        done += 1
        if progress is not None:
            progress(done, len(first))
    return failures


def _search_rows(
    manifest: Manifest, rows: Sequence[int], settings: dict[str, Any], num_workers: int
) -> Iterator[tuple[int, np.ndarray | str]]:
    """Gives for each row its boxes or the reason why there are none, a few searched ahead."""
    # Threads are enough, and decode as everything else does: OpenCV lets go of Python's lock.
    waiting: collections.deque[tuple[int, Future[np.ndarray | str]]] = collections.deque()
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for row in rows:
                waiting.append((row, pool.submit(_search_row, manifest, row, settings)))
                if len(waiting) > 2 * num_workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _search_row(manifest: Manifest, row: int, settings: dict[str, Any]) -> np.ndarray | str:
    pixels = _read_row(manifest, row)
    if isinstance(pixels, str):
        return pixels
    try:
        return selective_search.propose_boxes(pixels, **settings)
    except cv2.error as error:
        return f"OpenCV could not search it: {str(error).splitlines()[0]}"


def _read_row(manifest: Manifest, row: int) -> np.ndarray | str:
    """Gives the upright pixels, uint8 `[height, width, 3]`, or the reason why there are none."""
    entry = Entry(
        key=manifest.keys[row],
        path=manifest.paths[row],
        offset=int(manifest.offsets[row]),
        length=int(manifest.lengths[row]),
        total=int(manifest.totals[row]),
    )
    facts, encoded = load_entry(entry, max_pixels=MAX_PIXELS, cache_dir=default_cache_dir())
    if facts.skip:
        return facts.skip
    # Of an image that was converted at the scan, the copy is read: a PNG, with another digest.
    if facts.format == manifest.formats[row] and facts.digest != manifest.digests[row]:
        return "its file has changed since the scan"
    try:
        return decode_image(tf.constant(encoded)).numpy()
    except tf.errors.OpError as error:
        return explain_undecodable(facts.format, error)
