"""The patches of a run: cut at its first start, opened afterwards."""

from collections.abc import Callable, Sequence
from pathlib import Path

from keras_ctxattr.clustering.alternation.recipe import AlternationRecipe
from keras_ctxattr.clustering.alternation.telling import say, say_cut
from keras_ctxattr.data.bsds import contour_patches
from keras_ctxattr.data.manifest import CollectionError, Manifest, scan_images
from keras_ctxattr.data.manifest.table import count_reasons
from keras_ctxattr.data.patches import PatchTable, cut_patches, write_patch_table
from keras_ctxattr.runs import Run

Progress = Callable[[int, int | None], None]

IMAGES = "images.sqlite"
PATCHES = "patches"


def collect_patches(
    run: Run,
    images: Sequence[str | Path],
    recipe: AlternationRecipe,
    seed: int,
    progress: Progress | None = None,
) -> PatchTable:
    """Gives the patches of a run; cuts those that are missing.

    Args:
        run: the run, opened for training.
        images: sources of images; for contours, one folder or archive of BSDS500.
        recipe: which patches.
        seed: seed of their places.
        progress: called with (files looked at, files in all or None) while images are scanned.

    Raises:
        CollectionError: if a collection cannot be used.
        ValueError: if the patches are impossible.
    """
    if recipe.unit == "contour":
        return _cut_contours(run, images, recipe, seed)
    path = run.path / IMAGES
    if path.exists():
        manifest = Manifest.load(path)
    else:
        manifest = scan_images(list(images), progress=progress)
        _check_usable(manifest, images)
    table = cut_patches(
        manifest.usable(),
        run.place(PATCHES),
        size=recipe.size,
        unit=recipe.unit,
        patches_per_image=recipe.patches_per_image,
        min_pixels=recipe.min_pixels,
        max_pixels=recipe.max_pixels,
        seed=seed,
        progress=say_cut,
    )
    if not path.exists():
        with run.writing(IMAGES) as partial:
            manifest.save(partial)
        say(f"{len(table):,} patches of {len(table.keys):,} images.")
    return table


def _cut_contours(
    run: Run, images: Sequence[str | Path], recipe: AlternationRecipe, seed: int
) -> PatchTable:
    if len(images) != 1:
        raise ValueError(
            "Contour patches come from one folder or archive with the ground truth of BSDS500. "
            f"Received: {len(images)} sources"
        )
    folder = run.place(PATCHES)
    if (folder / "table.json").exists():
        try:
            return PatchTable.open(folder)
        except ValueError:
            pass  # not finished: cut the rest
    cut = contour_patches(
        images[0],
        num_patches=recipe.num_patches,
        size=recipe.size,
        seed=seed,
        splits=recipe.splits,
    )
    return write_patch_table(
        folder,
        cut.num_patches,
        cut.batches,
        cut.config,
        cut.keys,
        size=recipe.size,
        progress=say_cut,
    )


def _check_usable(manifest: Manifest, images: Sequence[str | Path]) -> None:
    if not (manifest.skips == "").any():
        counts = count_reasons(list(manifest.skips))
        raise CollectionError(
            "At least one image must be usable; `ctxattr check` lists what each lacks. Received: "
            f"{', '.join(map(str, images))} with "
            + ", ".join(f"{count} {kind}" for kind, count in counts.items())
        )
