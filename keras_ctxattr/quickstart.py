"""The main job in six minutes: photographs to features and attributes, pictures and a module.

Without photographs of the user's own it learns from the colour scenes that ship inside
scikit-image and scikit-learn: enough to see that everything works, and evidence of nothing.
"""

import dataclasses
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from keras_ctxattr.attributes import encode_samples
from keras_ctxattr.attributes.hasher import AttributeHasher
from keras_ctxattr.context.evaluation import (
    backbone_function,
    describe_patches,
    nearest_patches,
    sample_patches,
    untrained_backbone,
)
from keras_ctxattr.context.predictor import ContextPredictor
from keras_ctxattr.context.recipe import ContextRecipe
from keras_ctxattr.context.training import (
    export_run,
    load_predictor,
    split_run,
    train_context,
)
from keras_ctxattr.data.grids import GridConfig
from keras_ctxattr.data.manifest import Manifest
from keras_ctxattr.pictures import neighbours_sheet, write_png
from keras_ctxattr.pipeline.attributes import (
    learn_vector_attributes,
    vector_recipe,
)
from keras_ctxattr.runs import Run, digest_arrays
from keras_ctxattr.search import HammingIndex

TRAINING_SCENES = (
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "hubble_deep_field.jpg"),
    ("skimage.data", "ihc.png"),
    # The two views of one scene: both are trained on, or the held-out one would be half known.
    ("skimage.data", "motorcycle_left.png"),
    ("skimage.data", "motorcycle_right.png"),
    ("skimage.data", "retina.jpg"),
    ("skimage.data", "rocket.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)
HELD_OUT_SCENES = (("skimage.data", "coffee.png"), ("sklearn.datasets.images", "china.jpg"))

_NUM_QUERIES, _NUM_GALLERY, _NUM_NEIGHBOURS = 10, 1000, 5
_NUM_LEARNT = 2000  # patches that attributes are learnt of
_NUM_ATTRIBUTES = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quickstart:
    """What a quickstart made.

    Attributes:
        num_training: photographs trained on.
        num_held_out: photographs held out.
        held_out: their keys.
        accuracy: share of held-out pairs whose position was told right; chance is 0.125.
        seconds: time spent training.
        module: folder of the reusable SavedModel: features, attributes and codes of patches.
        picture: PNG of query patches and their nearest neighbours by features.
        search: PNG of the same queries and the patches with the nearest codes.
    """

    num_training: int
    num_held_out: int
    held_out: tuple[str, ...]
    accuracy: float
    seconds: float
    module: Path
    picture: Path
    search: Path


def bundled_scenes() -> tuple[list[Path], list[Path]]:
    """Gives (training, held-out) colour scenes that ship inside scikit-image and scikit-learn.

    Raises:
        FileNotFoundError: if an installed version no longer has one of them.
    """
    return _existing(TRAINING_SCENES), _existing(HELD_OUT_SCENES)


def _existing(scenes: Sequence[tuple[str, str]]) -> list[Path]:
    paths = [Path(str(resources.files(package))) / name for package, name in scenes]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            "The bundled scenes must be there; give a folder of your own photographs instead "
            f"(ctxattr quickstart PHOTOS). Missing: {', '.join(map(str, missing))}"
        )
    return paths


def quickstart_recipe() -> ContextRecipe:
    """Gives the recipe: `small_photos` with smaller batches, for more steps in the few minutes."""
    grids = GridConfig(images_per_batch=7, patches_per_batch=256, pairs_per_batch=1200)
    return ContextRecipe(grids=grids, evaluate_every=50, checkpoint_minutes=1.0)


def run_quickstart(
    photos: Sequence[str],
    folder: str | Path,
    *,
    minutes: float = 3.5,
    seed: int = 0,
    recipe: ContextRecipe | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Quickstart:
    """Learns features and attributes, draws and exports; the same call again goes on.

    Args:
        photos: sources of photographs; the bundled scenes if empty.
        folder: where the run, the module and the picture go.
        minutes: training time.
        seed: seed of weights and draws, 0 to 2**31 - 1.
        recipe: network, sampling and optimiser, with the preset "released"; `quickstart_recipe()`
            if None.
        progress: called with (files looked at, files in all or None).

    Raises:
        ValueError: if the photographs or the folder are unusable.
    """
    recipe = recipe or quickstart_recipe()
    if recipe.preset != "released":  # the only one that attributes know
        raise ValueError(f"`recipe` must have the preset 'released'. Received: {recipe.preset!r}")
    folder = Path(folder)
    run_folder, module, picture = folder / "run", folder / "module", folder / "neighbours.png"
    training, held_out = bundled_scenes()
    summary = train_context(
        photos or training,
        run_folder,
        recipe,
        minutes=minutes,
        seed=seed,
        held_out_images=() if photos else held_out,
        progress=progress,
    )
    predictor = load_predictor(run_folder)
    images = split_run(Run.read(run_folder))
    write_png(picture, _neighbours_picture(predictor, images, seed))
    hasher, learning = _learn_attributes(predictor, images[0], run_folder / "attributes", seed)
    export_run(
        run_folder, module, overwrite=True, model=hasher, further={"attributes": learning.config}
    )
    write_png(folder / "search.png", _search_picture(hasher, images, seed))
    return Quickstart(
        num_training=summary["num_training_images"],
        num_held_out=summary["num_held_out_images"],
        held_out=tuple(images[1].keys),
        accuracy=summary["accuracy"],
        seconds=summary["seconds"],
        module=module,
        picture=picture,
        search=folder / "search.png",
    )


def _learn_attributes(
    predictor: ContextPredictor, images: Manifest, folder: Path, seed: int
) -> tuple[AttributeHasher, Run]:
    """Gives attributes of patches, a projection of the network's features, and their run."""
    sample = sample_patches(images, _NUM_LEARNT, seed=seed + 1)
    vectors = describe_patches(backbone_function(predictor), sample.patches)
    # A run that was given more time has other features, and attributes of their own.
    place = folder / digest_arrays([vectors])
    hasher = learn_vector_attributes(
        vectors, place, vector_recipe(_NUM_ATTRIBUTES), groups=sample.images, seed=seed
    )
    return hasher.with_backbone(predictor.backbone), Run.read(place / "run")


def _search_picture(
    hasher: AttributeHasher, images: tuple[Manifest, Manifest], seed: int
) -> np.ndarray:
    """Draws held-out query patches beside the training patches with the nearest codes."""
    gallery = sample_patches(images[0], _NUM_GALLERY, seed=seed)
    queries = sample_patches(images[1], _NUM_QUERIES, seed=seed)
    index = HammingIndex(encode_samples(hasher, gallery.patches))
    _, rows = index.search(encode_samples(hasher, queries.patches), count=len(gallery))
    found = []
    for order in rows:  # the nearest of each image, as for features
        _, first = np.unique(gallery.images[order], return_index=True)
        found.append([gallery.patches[row] for row in order[np.sort(first)[:_NUM_NEIGHBOURS]]])
    title = f"nearest codes of {_NUM_ATTRIBUTES} bits"
    return neighbours_sheet(list(queries.patches), {title: found}, tile_size=96)


def _neighbours_picture(
    predictor: ContextPredictor, images: tuple[Manifest, Manifest], seed: int
) -> np.ndarray:
    """Draws held-out query patches beside their neighbours among the training images."""
    gallery = sample_patches(images[0], _NUM_GALLERY, seed=seed)
    queries = sample_patches(images[1], _NUM_QUERIES, seed=seed)
    networks = {"learnt": predictor.backbone, "untrained": untrained_backbone(predictor, seed)}
    found = {}
    for name, network in networks.items():
        describe = backbone_function(predictor, network)
        indices, _ = nearest_patches(
            describe_patches(describe, queries.patches),
            describe_patches(describe, gallery.patches),
            _NUM_NEIGHBOURS,
            gallery_images=gallery.images,
        )
        found[name] = [[gallery.patches[i] for i in row if i >= 0] for row in indices]
    return neighbours_sheet(list(queries.patches), found, tile_size=96)
