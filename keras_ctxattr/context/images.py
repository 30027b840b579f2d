"""The images of a run: scanned at its first start, divided, and explained where they change."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from keras_ctxattr.data.grids import GridConfig
from keras_ctxattr.data.manifest import CollectionError, Manifest, find_change, scan_images
from keras_ctxattr.data.manifest.scan import Progress
from keras_ctxattr.data.manifest.table import count_reasons
from keras_ctxattr.runs import Run

IMAGES = "images.sqlite"
HELD_OUT_IMAGES = "held_out.sqlite"  # only where held-out images were named


def collect_images(
    run: Run,
    images: Sequence[str | Path],
    held_out_images: Sequence[str | Path],
    grids: GridConfig,
    progress: Progress | None = None,
) -> tuple[Manifest, Manifest]:
    """Gives (training, held-out) images: as the first start of the run found them, or now.

    What a scan finds is said in a line on the error stream, and written down once all of it can be
    trained on.

    Args:
        run: the run, opened for training.
        images: sources of images.
        held_out_images: sources of images to hold out; a share of `images` if empty.
        grids: says which images are too small.
        progress: as `scan_images` takes it.

    Raises:
        CollectionError: if a collection cannot be used.
    """
    sources = {IMAGES: images, **({HELD_OUT_IMAGES: held_out_images} if held_out_images else {})}
    missing = {name: chosen for name, chosen in sources.items() if not (run.path / name).exists()}
    scanned = {name: _scan(chosen, grids, progress) for name, chosen in missing.items()}
    known = {name: Manifest.load(run.path / name) for name in sources if name not in scanned}
    found = {**known, **scanned}
    training, tested = _divide(run, found[IMAGES], found.get(HELD_OUT_IMAGES))
    for name, manifest in scanned.items():
        with run.writing(name) as partial:
            manifest.save(partial)
    if scanned:
        _report(training, tested, list(scanned.values()))
    return training, tested


def split_run(run: Run) -> tuple[Manifest, Manifest]:
    """Gives (training, held-out) images of a run, usable ones only."""
    named = run.config["held_out_images"]
    held_out = Manifest.load(run.path / HELD_OUT_IMAGES) if named else None
    return _divide(run, Manifest.load(run.path / IMAGES), held_out)


def _divide(run: Run, images: Manifest, held_out: Manifest | None) -> tuple[Manifest, Manifest]:
    if held_out is None:
        return images.split(run.config["held_out"])
    return images.usable(), held_out.usable()


def _scan(images: Sequence[str | Path], grids: GridConfig, progress: Progress | None) -> Manifest:
    manifest = grids.mark_too_small(scan_images(images, progress=progress))
    if not (manifest.skips == "").any():
        raise CollectionError(
            "At least one photograph must be usable to learn from; `ctxattr check` lists what each "
            f"lacks. Received: {', '.join(map(str, images))} with {_describe_skips([manifest])}"
        )
    return manifest


def _report(training: Manifest, tested: Manifest, scanned: Sequence[Manifest]) -> None:
    skips = _describe_skips(scanned)
    print(
        f"{len(training)} photographs to learn from, {len(tested)} held out"
        + (f"; skipped: {skips} (`ctxattr check` lists them)." if skips else "."),
        file=sys.stderr,
        flush=True,
    )


def _describe_skips(manifests: Sequence[Manifest]) -> str:
    counts = count_reasons([reason for manifest in manifests for reason in manifest.skips])
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


@contextlib.contextmanager
def explained_changes(run: Run, *manifests: Manifest) -> Iterator[None]:
    """Turns an error of TensorFlow over an image that is no longer as it was into one line.

    Args:
        run: the run that trains.
        *manifests: the images that it reads.

    Raises:
        CollectionError: if the error came out of the input, as its text tells.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if "Iterator::" not in error.message:  # what every error of a `tf.data` pipeline holds
            raise
        # The configuration is written before the scan, and again where a budget grows.
        names = ("config.json", IMAGES)
        scanned_at = min((run.path / name).stat().st_mtime for name in names)
        changes = (find_change(manifest, since=scanned_at) for manifest in manifests)
        change = next(filter(None, changes), None) or _told(error)
        raise CollectionError(
            "The photographs must stay as they were when the run scanned them: restore what "
            "changed and give the same command again, or start in a new run folder. Received: "
            f"{change}"
        ) from error


def _told(error: tf.errors.OpError) -> str:
    """Gives the words of TensorFlow's message that are about the input."""
    line = next((line for line in error.message.splitlines() if "Iterator::" in line), "")
    return line.rpartition("Iterator::")[2].partition(": ")[2].strip() or "an unreadable image"
