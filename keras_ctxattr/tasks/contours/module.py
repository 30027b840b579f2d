"""Contours of photographs of any size, as a function in graph and as a SavedModel."""

import json
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_ctxattr.runs import write_atomically, write_json
from keras_ctxattr.runs.identity import versions
from keras_ctxattr.tasks.contours.codebook import CodeBook
from keras_ctxattr.tasks.contours.network import dense_network, window_of
from keras_ctxattr.tasks.contours.transfer import PatchTransfer

DESCRIPTION = "contours.json"
FORMAT = 1


class ContourModule(tf.train.Checkpoint):
    """A trained network's maps of photographs, by one pass.

    `module(images)` takes float32 `[batch, height, width, 3]` in [0, 1], 2 pixels a side or more,
    mirrored beyond their edges where the network sees these, and gives by name

    - `edges`: float32 `[batch, height, width]`, the chance that a pixel is on a contour;
    - `attributes`: float32 `[batch, height, width, K]`, the chances of its attributes;
    - `patches`, with a code book: float32 `[batch, height, width]`, see `PatchTransfer`.

    It computes in float32 whatever policy the network was trained under. No map is suppressed where
    it is no crest: `suppress_non_maxima` does that.

    Args:
        network: made by `contour_network`, trained.
        book: codes and patches; None for a network without attributes.
        **settings: of `PatchTransfer`.

    Raises:
        ValueError: if the book has not as many attributes as the network, or a setting is
            impossible.
    """

    def __init__(self, network: keras.Model, book: CodeBook | None = None, **settings: Any) -> None:
        super().__init__()
        dense = dense_network(network)
        self._num_attributes = dense.output_shape[-1] - 1
        if book is not None and book.num_attributes != self._num_attributes:
            raise ValueError(
                "`book` must have as many attributes as the network. "
                f"Received: {book.num_attributes} and {self._num_attributes}"
            )
        self._transfer = PatchTransfer(book, **settings) if book is not None else None
        self.variables = [variable.value for variable in dense.variables]
        self._margin = window_of(network) // 2
        # A Keras model as an attribute would be saved as one.
        self._chances = lambda pixels: dense(pixels, training=False)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="images")],
        autograph=False,
    )
    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Gives the maps."""
        chances = self._chances(mirror_edges(images * 255, self._margin))
        maps = {"edges": chances[..., 0], "attributes": chances[..., 1:]}
        if self._transfer is not None:
            maps["patches"] = tf.map_fn(self._transfer, chances, fn_output_signature=tf.float32)
        return maps


def mirror_edges(images: tf.Tensor, margin: int) -> tf.Tensor:
    """Mirrors images beyond their edges, as often as it takes; edge pixels themselves come once.

    Args:
        images: `[batch, height, width, channels]`, 2 pixels a side or more.
        margin: pixels that are added to each side.

    Returns:
        `[batch, height + 2 * margin, width + 2 * margin, channels]`.
    """
    for axis in (1, 2):
        last = tf.shape(images)[axis] - 1
        message = "Images must be at least 2 pixels a side. Received:"
        check = tf.debugging.Assert(last > 0, [message, last + 1])
        # Outside of a graph the check is done by now, and nothing is given.
        with tf.control_dependencies([check] if check is not None else []):
            places = tf.math.floormod(tf.range(-margin, last + 1 + margin), 2 * last)
        images = tf.gather(images, tf.minimum(places, 2 * last - places), axis=axis)
    return images


def export_contours(
    network: keras.Model,
    directory: str | Path,
    *,
    book: CodeBook | None = None,
    metadata: dict[str, Any] | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Path:
    """Writes a `ContourModule` as a SavedModel, which needs nothing of this package.

    Args:
        network: made by `contour_network`, trained.
        directory: a new or empty folder; written beside and renamed, never there by halves.
        book: codes and patches, where the network has attributes.
        metadata: what it was trained on, for `contours.json`; JSON types.
        overwrite: whether a module that is there already may be replaced.
        **settings: of `PatchTransfer`.

    Returns:
        The folder.

    Raises:
        ValueError: if an argument is impossible, or the folder holds something.
    """
    target = Path(directory).resolve()
    is_taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if is_taken and not (overwrite and (target / DESCRIPTION).is_file()):
        raise ValueError(
            "`directory` must be a new or empty folder, or a module of contours to overwrite. "
            f"Received: {target}"
        )
    module = ContourModule(network, book, **settings)
    described = {
        "format": FORMAT,
        "num_attributes": network.output_shape[-1] - 1,
        "window": window_of(network),
        "codes": 0 if book is None else len(book),
        "transfer": settings,
        "trained_on": metadata or {},
        "versions": versions(),
    }
    num_bytes = 4 * network.count_params() + (16 << 20)
    with write_atomically(target, num_bytes=num_bytes, replace=overwrite) as partial:
        tf.saved_model.save(module, str(partial), signatures=module.__call__)
        write_json(partial / DESCRIPTION, described)
    return Path(directory)


def read_description(directory: str | Path) -> dict[str, Any]:
    """Gives the contents of a module's `contours.json`.

    Raises:
        ValueError: if the folder holds no module of contours, or one of another format.
    """
    try:
        described = json.loads((Path(directory) / DESCRIPTION).read_text(encoding="utf-8"))
        written = described["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "A module of contours must be a folder that `training.learn_contours` or "
            f"`export_contours` wrote, with {DESCRIPTION}. Received: {directory}"
        ) from error
    if written != FORMAT:
        raise ValueError(
            f"The module must be of format {FORMAT}; export again. Received: format {written} in "
            f"{directory}"
        )
    return described
