"""Requests that nobody should send, made from good ones by draws of a seed."""

import base64
import json
import struct
import zlib

import numpy as np

from keras_ctxattr.serving.protocol import HEADER_LENGTH
from tests.data.encoding import encode, make_pixels
from tests.serving.conftest import ask

PATH = "/v2/models/photos/infer"
JSON = {"Content-Type": "application/json"}

_ODD = (
    *(None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "\0", "../../etc/passwd"),
    *([], [[]], {}, {"a": {}}, "\ud800", "é" * 50, [None], [[[[]]]], "FP32", [1, 2, 3, 4, 5, 6]),
)


def good_files():
    """Gives small files of every format, plain and odd ones."""
    pixels = make_pixels(48, 64)
    return [
        encode(pixels, "PNG"),
        encode(pixels, "JPEG"),
        encode(pixels, "JPEG", progressive=True),
        encode(pixels, "GIF"),
        encode(pixels, "BMP"),
        encode(pixels, "WEBP"),
        encode(pixels, "WEBP", lossless=True),
        encode(pixels[:, :, 0], "PNG"),
        encode(pixels[:, :, 0], "JPEG"),
    ]


def mutate_file(file, generator):
    """Gives a file that is cut, flipped, stretched, or claims another size."""
    kind = generator.integers(7)
    changed = bytearray(file)
    if kind == 0:
        return file[: generator.integers(len(file))]
    if kind == 1:
        for place in generator.integers(0, len(file), generator.integers(1, 20)):
            changed[place] ^= 1 << generator.integers(8)
    elif kind == 2:
        for place in generator.integers(0, min(64, len(file)), 4):
            changed[place] = generator.integers(256)
    elif kind == 3:
        place = generator.integers(len(file))
        changed[place:place] = generator.bytes(generator.integers(1, 200))
    elif kind == 4:
        start, end = sorted(generator.integers(0, len(file), 2))
        del changed[start:end]
    elif kind == 5:
        return _claim_size(changed, generator)
    else:
        return file[: generator.integers(40)] + generator.bytes(generator.integers(300))
    return bytes(changed)


def _claim_size(changed, generator):
    """Writes other sides where the format keeps them, with the checksum that belongs to them."""
    side = int(generator.choice([0, 1, 31, 5000, 65535, 2**31 - 1, 2**32 - 1]))
    if changed.startswith(b"\x89PNG"):
        changed[16:24] = struct.pack(">II", side, side)
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
    elif changed.startswith(b"BM"):
        changed[18:26] = struct.pack("<II", side, side)
    elif changed.startswith(b"GIF"):
        changed[6:10] = struct.pack("<HH", side & 0xFFFF, side & 0xFFFF)
    else:
        place = changed.find(b"\xff\xc0" if b"\xff\xc0" in changed else b"\xff\xc2")
        place = place + 5 if changed.startswith(b"\xff\xd8") and place > 0 else 26
        changed[place : place + 4] = struct.pack(">HH", side & 0xFFFF, side & 0xFFFF)
    return bytes(changed)


def mutate_request(generator, files):
    """Gives method, path, body and headers of a request that is odd somewhere."""
    document = ask(files[generator.integers(len(files))])
    kind = generator.integers(9)
    if kind == 0:
        return "POST", PATH, _odd_field(document, generator), JSON
    if kind == 1:
        return "POST", PATH, _odd_pixels(generator), JSON
    body = json.dumps(document).encode()
    if kind == 2:
        return "POST", PATH, body[: generator.integers(len(body))], JSON
    if kind == 3:
        depth = int(generator.integers(1, 200_000))
        opening = [b"[", b'{"a":', b'{"inputs":['][generator.integers(3)]
        return "POST", PATH, opening * (depth // len(opening)), JSON
    if kind == 4:
        return "POST", PATH, generator.bytes(generator.integers(2000)), JSON
    if kind == 5:
        types = ("text/plain", "", "multipart/form-data", "application/json; charset=utf-7", "é")
        return "POST", PATH, body, {"Content-Type": types[generator.integers(5)].encode("latin-1")}
    if kind == 6:
        return "POST", PATH, *_odd_binary(generator, files)
    if kind == 7:
        names = ("..%2F..%2Fetc", "%00", "photos%0d%0aX:%20y", "a" * 3000, "photos/../x", "%ff%fe")
        method = ("GET", "POST", "PUT", "DELETE")[generator.integers(4)]
        return method, f"/v2/models/{names[generator.integers(6)]}/infer", body, JSON
    return "POST", PATH, body, {**JSON, HEADER_LENGTH: str(generator.choice(["-1", "x", "9" * 40]))}


def _odd_field(document, generator):
    """Replaces, drops or adds one field somewhere."""
    holders = [document, document["inputs"][0]]
    holder = holders[generator.integers(2)]
    names = [*holder, "id", "outputs", "parameters"]
    value = _ODD[generator.integers(len(_ODD))]
    holder[names[generator.integers(len(names))]] = value
    if generator.integers(2):
        document["outputs"] = [{"name": value, "parameters": {"binary_data": value}}]
    return json.dumps(document).encode()


def _odd_pixels(generator):
    """Gives pixels with an odd number, shape or nesting."""
    shape = [1, 32, 40, 3]
    images = generator.uniform(0, 1, shape)
    data = images.ravel().tolist() if generator.integers(2) else images.tolist()
    if isinstance(data[0], float):
        data[generator.integers(len(data))] = _ODD[generator.integers(len(_ODD))]
    else:
        data[0][generator.integers(32)] = _ODD[generator.integers(len(_ODD))]
    if generator.integers(2):
        shape[generator.integers(4)] = _ODD[generator.integers(len(_ODD))]
    tensor = {"name": "images", "datatype": "FP32", "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def _odd_binary(generator, files):
    """Gives binary tensors whose lengths do not agree, and their headers."""
    file = files[generator.integers(len(files))]
    claimed = int(generator.choice([0, len(file) - 1, len(file), len(file) + 1, 2**32 - 1]))
    packed = struct.pack("<I", claimed) + file
    name, datatype, shape = (
        ("encoded", "BYTES", [1]) if generator.integers(2) else ("images", "FP32", [1, 32, 40, 3])
    )
    size = int(generator.choice([0, len(packed), len(packed) + 1, 2**40]))
    tensor = {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": size},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    length = len(head) + int(generator.choice([0, 0, 0, 1, -1, 10**6]))
    if generator.integers(2):
        packed = np.full(3840, np.nan, np.float32).tobytes()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(length)}
    return head + packed, headers


def draw_requests(count, seed):
    """Gives a list of requests: of two, one is a mutated file, one a mutated request."""
    generator = np.random.default_rng(seed)
    files = good_files()
    found = []
    for number in range(count):
        if number % 2:
            found.append(mutate_request(generator, files))
            continue
        file = mutate_file(files[generator.integers(len(files))], generator)
        text = base64.b64encode(file).decode()
        found.append(("POST", PATH, json.dumps(ask(text)).encode(), JSON))
    return found
