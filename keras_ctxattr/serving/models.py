"""A module as a server sees it: its name, its tensors, and what it gives for images."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ctxattr.data.manifest.inspection import explain_error
from keras_ctxattr.export import read_module
from keras_ctxattr.serving.errors import MALFORMED, UNUSABLE, RequestError

PLATFORM = "tensorflow_savedmodel"
MAX_CALLS = 4  # of the module for the same files


class ServedModule:
    """A loaded module, its results as numpy arrays, its errors as those of requests.

    Args:
        directory: folder that `export_module` wrote. `NAME/1`, the layout of TensorFlow Serving, is
            version 1 of NAME; any other folder is version 1 of its own name.
        name: what it is called instead.

    Attributes:
        name: of the model in addresses.
        version: of the model.
        patch_size: smallest side of an image that is given as pixels.
        widths: of each output, how many numbers an image has.

    Raises:
        ValueError: if the folder holds no module, or one that is too old.
    """

    def __init__(self, directory: str | Path, name: str | None = None) -> None:
        folder = Path(directory).resolve()
        described = read_module(folder)
        self._module = tf.saved_model.load(str(folder))
        if not hasattr(self._module, "describe_bytes"):
            raise ValueError(
                "The module must describe files in one pass; export it again with this version. "
                f"Received: {directory}"
            )
        is_version = folder.name.isascii() and folder.name.isdigit() and bool(folder.parent.name)
        self.name = name or (folder.parent.name if is_version else folder.name)
        self.version = folder.name if is_version else "1"
        self.patch_size: int = described["patch_size"]
        self.widths = {"features": int(described["num_features"])}
        attributes = described.get("attributes")
        if attributes:
            num_attributes = int(attributes["num_attributes"])
            self.widths |= {"attributes": num_attributes, "codes": num_attributes // 8}

    @property
    def metadata(self) -> dict[str, Any]:
        """What the protocol tells of a model: platform, versions, inputs and outputs."""
        datatypes = {name: "UINT8" if name == "codes" else "FP32" for name in self.widths}
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": PLATFORM,
            "inputs": [
                {"name": "images", "datatype": "FP32", "shape": [-1, -1, -1, 3]},
                {"name": "encoded", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": name, "datatype": datatypes[name], "shape": [-1, width]}
                for name, width in self.widths.items()
            ],
        }

    def describe_files(self, files: Sequence[bytes]) -> list[dict[str, np.ndarray]]:
        """Gives all that the module knows of each image file, the same in any company.

        Args:
            files: contents of image files.

        Returns:
            Of each file: `features` float32 `[num_features]`; of a module with attributes also
            `attributes` float32 `[num_attributes]` and `codes` uint8 `[num_attributes / 8]`.

        Raises:
            RequestError: 422 if one of them cannot be decoded.
        """
        try:
            found = self._describe_bytes(tf.constant(list(files), tf.string))
        except (tf.errors.InvalidArgumentError, tf.errors.CancelledError) as error:
            raise RequestError(
                UNUSABLE,
                f"Images must be decodable to their end. Received: {explain_error(error)}",
            ) from error
        arrays = {name: found[name].numpy() for name in self.widths}
        rows = [{name: array[row] for name, array in arrays.items()} for row in range(len(files))]
        for row in rows:
            _check_finite(row)
        return rows

    def describe_images(self, images: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Gives some of what the module knows of images.

        Args:
            images: float32 `[batch, height, width, 3]` in [0, 1].
            names: of the outputs wanted.

        Returns:
            An array for each name, `[batch, width of the output]`.

        Raises:
            RequestError: 400 if the images are smaller than a patch.
        """
        if min(images.shape[1:3]) < self.patch_size:
            raise RequestError(
                MALFORMED,
                f"`images` must be at least {self.patch_size} pixels a side; enlarge or pad them. "
                f"Received: {images.shape[1]}x{images.shape[2]} (height x width)",
            )
        found = self._describe(tf.constant(images), names)
        arrays = {name: value.numpy() for name, value in found.items()}
        _check_finite(arrays)
        return arrays

    def _describe_bytes(self, files: tf.Tensor) -> dict[str, tf.Tensor]:
        """Calls the module, again where it was cancelled.

        A failed check cancels what runs beside it in the graph, and now and then that is the error
        which comes out. The next call tells the reason.
        """
        for _ in range(MAX_CALLS - 1):
            with contextlib.suppress(tf.errors.CancelledError):
                return self._module.describe_bytes(files)
        return self._module.describe_bytes(files)

    def _describe(self, images: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        """Gives outputs by one pass, or by one for each where the module is older than that."""
        if hasattr(self._module, "describe"):
            found = self._module.describe(images)
            return {name: found[name] for name in names}
        functions = {name: "serve" if name == "features" else name for name in names}
        return {
            name: getattr(self._module, function)(images) for name, function in functions.items()
        }


def _check_finite(arrays: dict[str, np.ndarray]) -> None:
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise RequestError(
            UNUSABLE, "Images must have finite features. Received: one that gives none"
        )
