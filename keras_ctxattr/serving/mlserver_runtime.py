"""A runtime for MLServer 1.7 that serves a module.

This file alone is enough: put it beside `model-settings.json`, in an environment with MLServer and
TensorFlow; this package need not be there.

    {"name": "photos", "implementation": "mlserver_runtime.ModuleRuntime",
     "parameters": {"uri": "./module"}}

A request holds `images` (FP32 `[batch, height, width, 3]` in [0, 1]) or `encoded` (BYTES `[batch]`,
image files in base64), and gets `features`, `attributes` and `codes`, if the module has them.
One file that cannot be decoded is an error for its request: leave `max_batch_size` at 0, or it is
one for everybody's. How large files may be is for who stands before the server to say.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, RequestInput
from mlserver.utils import get_model_uri

INPUTS = {"images": ("FP32", [-1, -1, -1, 3]), "encoded": ("BYTES", [-1])}


class ModuleRuntime(MLModel):
    """Loads the module that `parameters.uri` names, and answers with all that it knows."""

    async def load(self) -> bool:
        """Loads the module, and says what it takes and gives."""
        folder = await get_model_uri(self._settings)
        described = json.loads((Path(folder) / "module.json").read_text(encoding="utf-8"))
        self._module = tf.saved_model.load(folder)
        outputs = {"features": ("FP32", [-1, described["num_features"]])}
        if "attributes" in described:
            num_attributes = described["attributes"]["num_attributes"]
            outputs["attributes"] = ("FP32", [-1, num_attributes])
            outputs["codes"] = ("UINT8", [-1, num_attributes // 8])
        self.inputs, self.outputs = _tensors(INPUTS), _tensors(outputs)
        self._names = list(outputs)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Describes the images of a request."""
        names = [output.name for output in payload.outputs or ()] or self._names
        unknown = sorted(set(names) - set(self._names))
        if unknown:
            raise InferenceError(f"`outputs` must be some of {self._names}. Received: {unknown}")
        describe, argument = self._read(payload.inputs)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(None, describe, argument)
        # A failed check now and then shows as the cancellation of what ran beside it.
        except (tf.errors.InvalidArgumentError, tf.errors.CancelledError) as error:
            raise InferenceError(
                f"Images must be such that the module takes them. Received: {_explain(error)}"
            ) from error
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(name, found[name].numpy()) for name in names],
        )

    def _read(
        self, inputs: list[RequestInput]
    ) -> tuple[Callable[[tf.Tensor], dict[str, tf.Tensor]], tf.Tensor]:
        """Gives the module's function for a request, and what it is called with."""
        if len(inputs) != 1 or inputs[0].name not in INPUTS:
            raise InferenceError(
                "`inputs` must hold one tensor, `images` (FP32) or `encoded` (BYTES). "
                f"Received: {[one.name for one in inputs][:3]}"
            )
        if inputs[0].name == "encoded":
            files = Base64Codec.decode_input(inputs[0])
            return self._module.describe_bytes, tf.constant(files, tf.string)
        try:
            images = np.asarray(NumpyCodec.decode_input(inputs[0]), np.float32)
        except ValueError as error:
            raise InferenceError(f"`images` must be as `shape` says. Received: {error}") from error
        if images.ndim != 4 or images.shape[3] != 3:
            raise InferenceError(
                f"`images` must be [batch, height, width, 3]. Received: {list(images.shape)}"
            )
        return self._module.describe, tf.constant(images)


def _tensors(described: dict) -> list[MetadataTensor]:
    return [
        MetadataTensor(name=name, datatype=datatype, shape=shape)
        for name, (datatype, shape) in described.items()
    ]


def _explain(error: tf.errors.OpError) -> str:
    """Gives the line of TensorFlow's message that says what was wrong."""
    places = ("Graph execution", "Detected at", "<stack", "[[", "File ")
    lines = (line.strip() for line in error.message.splitlines())
    told = [line for line in lines if line and not line.startswith(places)]
    return told[0].split(" [Op:")[0] if told else "something else"
