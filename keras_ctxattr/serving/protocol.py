"""Requests and answers of the Open Inference Protocol (KServe V2) over HTTP, as plain values.

A request holds one tensor, `images` or `encoded`. Strings of bytes are base64 in JSON, as the
protocol's clients have it; with the extension for binary tensors they follow the JSON as they are,
each behind its length in four bytes, lowest first.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ctxattr.serving.errors import MALFORMED, TOO_LARGE, RequestError
from keras_ctxattr.serving.uploads import MAX_IMAGES

MAX_BRACKETS = 1_000_000
"""Lists and objects in a JSON text: an empty list of two characters takes 64 bytes of memory."""

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY_TYPE = "application/octet-stream"
DATATYPES = {"float32": "FP32", "uint8": "UINT8"}

_INPUTS = {"images": "FP32", "encoded": "BYTES"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inference:
    """A request that was understood.

    Attributes:
        id: what the client calls it, None if it does not.
        files: contents of image files, None if the request has pixels.
        images: float32 `[batch, height, width, 3]` in [0, 1], None if it has files.
        outputs: names of the tensors to give, in order, and whether each is to be binary.
    """

    id: str | None
    files: list[bytes] | None
    images: np.ndarray | None
    outputs: dict[str, bool]


def read_inference(body: bytes, header_length: str | None, names: Sequence[str]) -> Inference:
    """Understands the body of a request.

    Args:
        body: JSON, or JSON with binary tensors behind it.
        header_length: of the JSON where tensors follow, as the HTTP header of this name states it.
        names: of the outputs that there are.

    Raises:
        RequestError: 400 if anything is not as it must be, 413 if there is too much of it.
    """
    head, tail = _split(body, header_length)
    document = _read_json(head)
    tensor = _one_input(document)
    shape = _read_shape(tensor)
    binary = _take_binary(tensor, tail)
    found: dict[str, Any] = {"files": None, "images": None}
    if tensor["name"] == "encoded":
        found["files"] = _read_files(tensor, shape, binary)
    else:
        found["images"] = _read_images(tensor, shape, binary)
    name = document.get("id")
    _require(name is None or isinstance(name, str), "`id` must be a string", name)
    return Inference(id=name, outputs=_read_outputs(document, names), **found)


def write_answer(
    described: Mapping[str, Any], values: Mapping[str, np.ndarray], outputs: Mapping[str, bool]
) -> tuple[bytes, dict[str, str]]:
    """Gives the body of an answer, and its headers.

    Args:
        described: what stands beside the outputs: `model_name`, `model_version`, `id`.
        values: float32 or uint8 tensors by name.
        outputs: which of them to give, and whether as binary.
    """
    tensors, blobs = [], []
    for name, is_binary in outputs.items():
        value = np.ascontiguousarray(values[name])
        tensor: dict[str, Any] = {
            "name": name,
            "datatype": DATATYPES[str(value.dtype)],
            "shape": list(value.shape),
        }
        if is_binary:
            blobs.append(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = value.ravel().tolist()
        tensors.append(tensor)
    head = json.dumps({**described, "outputs": tensors}, allow_nan=False).encode()
    if not blobs:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *blobs]), {"Content-Type": BINARY_TYPE, HEADER_LENGTH: str(len(head))}


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    is_number = header_length.isascii() and header_length.isdigit() and len(header_length) < 16
    if not is_number or int(header_length) > len(body):
        raise RequestError(
            MALFORMED,
            f"{HEADER_LENGTH} must be the bytes of JSON in the body, at most {len(body)}. "
            f"Received: {_show(header_length)}",
        )
    return body[: int(header_length)], body[int(header_length) :]


def _read_json(head: bytes) -> dict[str, Any]:
    if head.count(b"[") + head.count(b"{") > MAX_BRACKETS:
        raise RequestError(
            TOO_LARGE,
            f"The JSON may have at most {MAX_BRACKETS} lists; send `data` flat, or binary. "
            "Received: more",
        )
    try:
        document = json.loads(head)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RequestError(
            MALFORMED, f"A request must be a JSON object. Received: {reason}"
        ) from error
    _require(isinstance(document, dict), "A request must be a JSON object", document)
    return document


def _one_input(document: dict[str, Any]) -> dict[str, Any]:
    """Gives the only input, whose name and datatype are known."""
    inputs = document.get("inputs")
    wanted = "`inputs` must hold one tensor, `images` (FP32) or `encoded` (BYTES)"
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        count = f"{len(inputs)} inputs" if isinstance(inputs, list) else _show(inputs)
        raise RequestError(MALFORMED, f"{wanted}. Received: {count}")
    tensor = inputs[0]
    name, datatype = tensor.get("name"), tensor.get("datatype")
    _require(isinstance(name, str) and name in _INPUTS, wanted, name)
    expected = _INPUTS[str(name)]
    _require(datatype == expected, f"`datatype` of `{name}` must be {expected}", datatype)
    return tensor


def _read_shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    shape = tensor.get("shape")
    is_shape = isinstance(shape, list) and all(
        type(side) is int and 1 <= side < 2**31 for side in shape
    )
    _require(is_shape, "`shape` must be a list of whole numbers from 1 on", shape)
    sides = tuple(shape or ())
    if tensor["name"] == "encoded":
        is_column = len(sides) == 2 and sides[1] == 1  # as some clients send lists
        _require(len(sides) == 1 or is_column, "`shape` of `encoded` must be [batch]", shape)
    else:
        is_image = len(sides) == 4 and sides[3] == 3
        _require(is_image, "`shape` of `images` must be [batch, height, width, 3]", shape)
    if sides[0] > MAX_IMAGES:
        raise RequestError(
            TOO_LARGE,
            f"A request may hold at most {MAX_IMAGES} images; send several. Received: {sides[0]}",
        )
    return sides


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    _require(isinstance(parameters, dict), "`parameters` must be an object", parameters)
    return parameters


def _take_binary(tensor: dict[str, Any], tail: bytes) -> bytes | None:
    """Gives the bytes of a binary tensor, None if its data are in the JSON."""
    parameters = _parameters(tensor)
    if "shared_memory_region" in parameters:
        raise RequestError(
            MALFORMED, "Tensors must come in the request. Received: one in shared memory"
        )
    size = parameters.get("binary_data_size")
    if size is None:
        _require(not tail, "`binary_data_size` must say what follows the JSON", len(tail))
        return None
    is_all = type(size) is int and size == len(tail)
    _require(is_all, f"`binary_data_size` must be the {len(tail)} bytes behind the JSON", size)
    return tail


def _read_files(
    tensor: dict[str, Any], shape: tuple[int, ...], binary: bytes | None
) -> list[bytes]:
    files = _split_strings(binary) if binary is not None else _decode_strings(tensor.get("data"))
    _require(len(files) == shape[0], f"`encoded` must hold {shape[0]} files", len(files))
    return files


def _split_strings(binary: bytes) -> list[bytes]:
    found: list[bytes] = []
    position = 0
    while position < len(binary) and len(found) <= MAX_IMAGES:
        end = position + 4 + int.from_bytes(binary[position : position + 4], "little")
        if end > len(binary) or position + 4 > len(binary):
            raise RequestError(
                MALFORMED,
                "Each file of `encoded` must follow its length in four bytes. "
                f"Received: a length that ends behind the {len(binary)} bytes",
            )
        found.append(binary[position + 4 : end])
        position = end
    return found


def _decode_strings(texts: Any) -> list[bytes]:
    if isinstance(texts, list) and texts and all(isinstance(text, list) for text in texts):
        texts = [text[0] if len(text) == 1 else text for text in texts]  # [batch, 1]
    is_list = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    _require(is_list, "`data` of `encoded` must be a list of base64 strings", texts)
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except ValueError as error:
        raise RequestError(
            MALFORMED, f"`data` of `encoded` must be base64 strings. Received: {error}"
        ) from error


def _read_images(
    tensor: dict[str, Any], shape: tuple[int, ...], binary: bytes | None
) -> np.ndarray:
    if binary is not None:
        _require(
            len(binary) == 4 * math.prod(shape),
            f"`images` must have 4 bytes for each of its {math.prod(shape)} numbers",
            len(binary),
        )
        values = np.frombuffer(binary, "<f4")
    else:
        values = _read_numbers(tensor.get("data"), shape)
    # Written so that NaN is refused, too.
    if not (values.min() >= 0 and values.max() <= 1):
        raise RequestError(
            MALFORMED,
            "`images` must lie in [0, 1]; divide by 255, or clip. "
            f"Received: {values.min():g} to {values.max():g}",
        )
    return values.reshape(shape)


def _read_numbers(numbers: Any, shape: tuple[int, ...]) -> np.ndarray:
    wanted = "`data` of `images` must be a list of numbers, flat or nested as `shape` says"
    _require(isinstance(numbers, list), wanted, numbers)
    try:
        values = np.asarray(numbers)
    except (ValueError, RecursionError) as error:
        raise RequestError(MALFORMED, f"{wanted}. Received: a ragged list") from error
    is_shaped = values.shape in (shape, (math.prod(shape),))
    if values.dtype.kind not in "iuf" or not is_shaped:
        raise RequestError(
            MALFORMED, f"{wanted}. Received: {list(values.shape)} of {values.dtype.name}"
        )
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _read_outputs(document: dict[str, Any], names: Sequence[str]) -> dict[str, bool]:
    default = _parameters(document).get("binary_data_output", False)
    wanted = document.get("outputs")
    if not wanted and (wanted is None or isinstance(wanted, list)):
        return dict.fromkeys(names, default is True)
    is_list = isinstance(wanted, list) and all(isinstance(one, dict) for one in wanted)
    _require(is_list, "`outputs` must be a list of objects", wanted)
    found: dict[str, bool] = {}
    for one in wanted or ():
        name = one.get("name")
        is_known = isinstance(name, str) and name in names and name not in found
        _require(is_known, f"`outputs` must be some of {', '.join(names)}, each once", name)
        found[name] = _parameters(one).get("binary_data", default) is True
    return found


def _require(is_met: bool, wanted: str, received: Any) -> None:
    """Raises the error of a request that is not as it must be."""
    if not is_met:
        raise RequestError(MALFORMED, f"{wanted}. Received: {_show(received)}")


def _show(value: Any) -> str:
    """Gives a value on one short line; a long or nested one only as what it is."""
    if isinstance(value, list | dict) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, list | dict) and any(isinstance(one, list | dict) for one in value):
        return f"a nested {type(value).__name__}"
    text = ascii(value if not isinstance(value, str) else value[:60])
    return text if len(text) <= 80 else text[:77] + "..."
