"""Attributes of whole photographs: described once by a network, clustered, projected."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ctxattr.attributes import (
    AttributeRecipe,
    bit_metrics,
    bit_statistics,
    encode_scores,
    score_samples,
)
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.export import export_module
from keras_ctxattr.features import describe_photographs
from keras_ctxattr.pipeline.attributes import learn_vector_attributes, vector_recipe
from keras_ctxattr.runs import Run, digest_arrays

KIND = "photo_attributes"
CODES = "codes.npy"
KEYS = "keys.txt"

Progress = Callable[[int, int | None], None]

_SECONDS_BETWEEN_LINES = 10.0


def learn_photo_attributes(
    manifest: Manifest,
    backbone: keras.Model,
    folder: str | Path,
    recipe: AttributeRecipe | None = None,
    *,
    colour: str = "none",
    preset: str = "released",
    source: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Learns binary attributes of whole photographs; the same call again resumes.

    Each photograph goes through the network once, at about 300 000 pixels; its features, at unit
    length at every place, are averaged. Clusters and triplets are of these vectors, and so are the
    codes of the module. The network stays as it is.

    The folder will hold `features` (the module without attributes), `photographs` (the vectors),
    `attributes` (clusters and run), `codes.npy` and `keys.txt` (the packed codes, uint8 `[n,
    num_attributes / 8]`, and the photographs' names in the same order), and `module`.

    Args:
        manifest: the photographs; rows that are marked as skipped are left out.
        backbone: a `keras.Model` from patches to features that has a fully convolutional form.
        folder: the run folder.
        recipe: `vector_recipe()` if None.
        colour: as in `export_module`.
        preset: as in `export_module`.
        source: what the photographs are and how the network was trained, for the modules'
            `trained_on`; JSON types.
        seed: seed of every draw.
        progress: called with (photographs described, all of them).

    Returns:
        `num_photographs`, and `bits`, as `bit_statistics` gives them.

    Raises:
        ValueError: if an argument is impossible or there are too few photographs.
        RunError: if the folder holds another run.

    Reference:
        Huang, Loy, Tang 2016, section 3.2, for the attributes; the mean over places is ours.
    """
    recipe = recipe or vector_recipe()
    config = {
        "images": manifest.usable().digest(),
        "network": digest_arrays(backbone.get_weights()),
        "recipe": dataclasses.asdict(recipe),
        "colour": colour,
        "preset": preset,
        "seed": seed,
    }
    with Run.open(folder, config, kind=KIND) as run:
        if run.finished:
            return run.summary
        features = run.place("features")
        export: dict[str, Any] = {
            "colour": colour,
            "preset": preset,
            "metadata": {**(source or {}), "num_photographs": len(manifest.usable())},
            "config": config,
        }
        if not features.exists():
            export_module(backbone, features, normalize=True, **export)
        table = describe_photographs(
            manifest, features, run.place("photographs"), progress=progress
        )
        run.commit()
        hasher = learn_vector_attributes(table.vectors, run.place("attributes"), recipe, seed=seed)
        codes = encode_scores(score_samples(hasher, table.vectors))
        with run.writing(CODES) as partial, partial.open("wb") as file:
            np.save(file, codes)
        names = dict(zip(manifest.image_ids.tolist(), manifest.keys.tolist(), strict=True))
        with run.writing(KEYS) as partial:
            keys = [names[image] for image in table.image_ids.tolist()]
            partial.write_text("\n".join(keys) + "\n", encoding="utf-8", errors="surrogateescape")
        summary = {"num_photographs": len(table), "bits": bit_statistics(codes)}
        export_module(
            hasher.with_backbone(backbone),
            run.place("module"),
            unit="image",
            metrics=bit_metrics(summary["bits"]),
            overwrite=True,
            **export,
        )
        run.finish(summary)
    return summary


class DescribingProgress:
    """Says how many photographs are described, how fast, and how long it will take.

    Args:
        report: called with a line, at most every ten seconds, and at the end.
        done: what happens to the photographs, where it is something else.
    """

    def __init__(self, report: Callable[[str], None], *, done: str = "described") -> None:
        self.report = report
        self.done = done
        self.start = self.told = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        """Takes (photographs done, all of them)."""
        now = time.monotonic()
        if self.first is None:  # those before it were described by an earlier call
            self.first, self.start = done, now
        if done != total and now - self.told < _SECONDS_BETWEEN_LINES:
            return
        self.told = now
        line = f"  {done:,} of {total or 0:,} photographs {self.done}"
        rate = (done - self.first) / max(now - self.start, 1e-9)
        if total and self.first < done < total:
            left = (total - done) / rate
            line += f" · {rate:.1f} photographs/s · {left // 60:.0f}:{left % 60:02.0f} left"
        self.report(line)
