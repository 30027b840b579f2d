"""The layers of a module's network: written beside it, and built again with its weights."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

FILE = "network.json"


def write_network(folder: Path, network: keras.Model) -> None:
    """Writes the structure of a network into its module's folder.

    A network with a layer that cannot describe itself gets no such file: its module serves all the
    same, but nobody can take it apart.
    """
    try:
        text = network.to_json()
    except (NotImplementedError, TypeError, ValueError):
        return
    (folder / FILE).write_text(text, encoding="utf-8")


def load_network(directory: str | Path) -> keras.Model:
    """Gives the network of a module as a Keras model, to take it apart or to train on.

    Args:
        directory: a folder that `export_module` wrote.

    Returns:
        The fully convolutional network with its weights: float32 `[batch, height, width, 3]`,
        pixels as the module's `processing` leaves them, to float32 `[batch, rows, columns,
        num_features]`.

    Raises:
        ValueError: if the folder is no module, it has no `network.json` (an older module), or that
            cannot be built or does not fit the weights.

    Example:
        >>> import tempfile
        >>> from keras_ctxattr.backbones import compact
        >>> from keras_ctxattr.export import export_module
        >>> module = export_module(
        ...     compact(width=8, num_features=16), tempfile.mkdtemp() + "/module"
        ... )
        >>> load_network(module).output_shape
        (None, None, None, 16)
    """
    folder = Path(directory)
    if not (folder / "saved_model.pb").is_file():
        raise ValueError(
            "`directory` must be a module that `ctxattr export` or `export_module` wrote. "
            f"Received: {folder}"
        )
    try:
        text = (folder / FILE).read_bytes()
    except OSError as error:
        raise ValueError(
            f"The module must have its {FILE}, which versions before it did not write, nor where a "
            "layer cannot describe itself; export it again from its run. "
            f"Received: {folder} without it"
        ) from error
    values = [np.asarray(variable) for variable in tf.saved_model.load(str(folder)).variables]
    try:
        return _build(text.decode(), values)
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{FILE} must describe layers that Keras knows (those of your own by "
            "`keras.saving.register_keras_serializable`, imported before) and that fit the "
            f"module's weights. Received: {folder}: {reason}"
        ) from error


def _build(text: str, values: list[np.ndarray]) -> keras.Model:
    """Gives the network that a text describes, all its variables set: the states of draws too."""
    network = keras.models.model_from_json(text)
    if not isinstance(network, keras.Model):
        raise ValueError("no model is described")
    for variable, value in zip(network.variables, values, strict=True):
        variable.assign(value)
    return network
