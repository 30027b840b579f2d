"""The Open Inference Protocol: standard requests get the module's own numbers."""

import base64
import json
import struct
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from keras_ctxattr.export import export_module
from keras_ctxattr.serving.errors import RequestError
from keras_ctxattr.serving.models import ServedModule
from keras_ctxattr.serving.protocol import HEADER_LENGTH
from tests.data.encoding import encode, make_pixels
from tests.serving.conftest import Client, ask, run_server

KINDS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")


@pytest.fixture(scope="module")
def files():
    """Photographs of different formats and sizes."""
    return [
        encode(make_pixels(120 + 40 * number, 200 - 20 * number, seed=number), kind)
        for number, kind in enumerate(KINDS)
    ]


def arrays_of(answer):
    """Gives the outputs of an answer in JSON."""
    types = {"FP32": np.float32, "UINT8": np.uint8}
    return {
        one["name"]: np.array(one["data"], types[one["datatype"]]).reshape(one["shape"])
        for one in answer["outputs"]
    }


def check_equal(found, expected):
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values.numpy(), err_msg=name)


def test_server_and_model_describe_themselves(client):
    assert client.get("/v2/health/live") == (200, {"live": True})
    assert client.get("/v2/health/ready") == (200, {"ready": True})
    status, server = client.get("/v2")
    assert status == 200 and server["name"] == "keras_ctxattr"
    assert "binary_tensor_data" in server["extensions"]
    status, model = client.get("/v2/models/photos")
    assert status == 200 and client.get("/v2/models/photos/versions/1") == (200, model)
    assert model["platform"] == "tensorflow_savedmodel" and model["versions"] == ["1"]
    shapes = {one["name"]: (one["datatype"], one["shape"]) for one in model["inputs"]}
    assert shapes == {"images": ("FP32", [-1, -1, -1, 3]), "encoded": ("BYTES", [-1])}
    shapes = {one["name"]: (one["datatype"], one["shape"]) for one in model["outputs"]}
    assert shapes == {
        "features": ("FP32", [-1, 16]),
        "attributes": ("FP32", [-1, 16]),
        "codes": ("UINT8", [-1, 2]),
    }
    for path in ("/v2/models/photos/ready", "/v2/models/photos/versions/1/ready"):
        assert client.get(path) == (200, {"name": "photos", "ready": True})


def test_files_of_any_format_give_the_bits_of_the_module(client, module, files):
    status, answer = client.infer(ask(*files, id="mine"))
    assert status == 200 and answer["id"] == "mine"
    assert (answer["model_name"], answer["model_version"]) == ("photos", "1")
    check_equal(arrays_of(answer), module.describe_bytes(tf.constant(files)))
    for row, file in enumerate(files):
        status, alone = client.infer(ask(file), "/v2/models/photos/versions/1/infer")
        for name, values in arrays_of(alone).items():
            np.testing.assert_array_equal(values[0], arrays_of(answer)[name][row])


@pytest.mark.parametrize("is_flat", [True, False])
def test_pixels_give_the_numbers_of_the_module(client, module, is_flat):
    images = np.random.default_rng(0).uniform(0, 1, (2, 40, 50, 3)).astype(np.float32)
    data = images.ravel().tolist() if is_flat else images.tolist()
    tensor = {"name": "images", "datatype": "FP32", "shape": [2, 40, 50, 3], "data": data}
    status, answer = client.infer({"inputs": [tensor]})
    assert status == 200, answer
    check_equal(arrays_of(answer), module.describe(images))


def test_binary_tensors_go_both_ways(client, module, files):
    packed = b"".join(struct.pack("<I", len(file)) + file for file in files)
    tensor = {
        "name": "encoded",
        "datatype": "BYTES",
        "shape": [len(files)],
        "parameters": {"binary_data_size": len(packed)},
    }
    head = json.dumps(
        {"inputs": [tensor], "parameters": {"binary_data_output": True}, "outputs": []}
    ).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    path = "/v2/models/photos/infer"
    status, answered, body = client.send("POST", path, head + packed, headers)
    assert status == 200, body
    length = int(answered[HEADER_LENGTH])
    position = length
    found = {}
    for one in json.loads(body[:length])["outputs"]:
        size = one["parameters"]["binary_data_size"]
        kind = {"FP32": "<f4", "UINT8": np.uint8}[one["datatype"]]
        piece = np.frombuffer(body[position : position + size], kind)
        found[one["name"]] = piece.reshape(one["shape"])
        position += size
    assert position == len(body)
    check_equal(found, module.describe_bytes(tf.constant(files)))


def test_binary_pixels(client, module):
    images = np.random.default_rng(0).uniform(0, 1, (1, 33, 50, 3)).astype(np.float32)
    tensor = {
        "name": "images",
        "datatype": "FP32",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "codes"}]}).encode()
    status, answer = client.infer(head + images.tobytes(), **{HEADER_LENGTH: str(len(head))})
    assert status == 200
    check_equal(arrays_of(answer), {"codes": module.codes(images)})


def test_only_the_outputs_that_are_asked_for_in_their_order(client, files):
    wanted = [{"name": "codes"}, {"name": "features"}]
    status, answer = client.infer(ask(files[0], outputs=wanted))
    assert status == 200
    assert [one["name"] for one in answer["outputs"]] == ["codes", "features"]


def test_concurrent_clients_share_batches_and_a_bad_file_fails_alone(port, module, files):
    bad = files[0][:-30]
    sent = [bad if number % 5 == 3 else files[number % 5] for number in range(60)]

    def call(file):
        return Client(port).infer(ask(file))

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(call, sent))
    for file, (status, answer) in zip(sent, answers, strict=True):
        if file is bad:
            assert status == 422
            assert answer["error"].startswith("Images must be decodable to their end. Received: ")
            assert "PNG" in answer["error"] and "\n" not in answer["error"]
        else:
            assert status == 200
            check_equal(arrays_of(answer), module.describe_bytes(tf.constant([file])))


def test_the_bad_file_of_a_request_is_named(client, files):
    status, answer = client.infer(ask(files[1], files[0][:-30], files[2]))
    assert status == 422 and answer["error"].startswith("Image 1: ")
    status, answer = client.infer(ask(files[1], b"words", files[2]))
    assert status == 415 and answer["error"].startswith("Image 1 must be a JPEG, ")


def test_a_full_queue_says_when_to_come_again(module_folder, files):
    with run_server(module_folder, max_batch=1, max_waiting=1) as port:

        def call(_):
            client = Client(port)
            status, headers, body = client.send(
                "POST",
                "/v2/models/photos/infer",
                json.dumps(ask(files[0])),
                {"Content-Type": "application/json"},
            )
            return status, headers.get("Retry-After"), json.loads(body)

        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(call, range(60)))
    refused = [answer for answer in answers if answer[0] != 200]
    assert refused and len(refused) < 60
    for status, wait, answer in refused:
        assert status == 503 and wait == "1" and "again" in answer["error"]


def tensor_of(**changes):
    good = {"name": "encoded", "datatype": "BYTES", "shape": [1], "data": [""]}
    return {"inputs": [{**good, **changes}]}


PIXELS = {"name": "images", "datatype": "FP32", "shape": [1, 32, 32, 3]}


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        (b"", 400, "must be a JSON object"),
        (b"\xff\xfe\x00", 400, "must be a JSON object"),
        (b"[" * 100_000, 400, "must be a JSON object"),
        (b"[" * 1_000_001, 413, "at most 1000000 lists"),
        ([], 400, "must be a JSON object"),
        ({}, 400, "`inputs` must hold one tensor"),
        ({"inputs": [{}, {}]}, 400, "Received: 2 inputs"),
        (tensor_of(name="weights"), 400, "`images` (FP32) or `encoded` (BYTES)"),
        (tensor_of(name=["encoded"]), 400, "`inputs` must hold one tensor"),
        (tensor_of(datatype="FP32"), 400, "must be BYTES. Received: 'FP32'"),
        (tensor_of(shape=[2]), 400, "must hold 2 files. Received: 1"),
        (tensor_of(shape=[0], data=[]), 400, "whole numbers from 1 on"),
        (tensor_of(shape=[True]), 400, "whole numbers"),
        (tensor_of(shape=[10**30]), 400, "whole numbers"),
        (tensor_of(shape=[65], data=[""] * 65), 413, "at most 64 images"),
        (tensor_of(shape=[1, 2], data=["", ""]), 400, "must be [batch]"),
        (tensor_of(data=["no base64!"]), 400, "base64"),
        (tensor_of(data=["é"]), 400, "base64"),
        (tensor_of(data=[1]), 400, "base64"),
        (tensor_of(data=None), 400, "base64"),
        (tensor_of(data=[""]), 415, "Received: something else"),
        (tensor_of(data=["JVBERi0xLjQ="]), 415, "convert it"),
        (tensor_of(parameters=[]), 400, "`parameters` must be an object"),
        (tensor_of(parameters={"binary_data_size": 4}), 400, "0 bytes behind the JSON"),
        (tensor_of(parameters={"shared_memory_region": "a"}), 400, "shared memory"),
        ({**tensor_of(), "id": 7}, 400, "`id` must be a string"),
        ({**tensor_of(), "outputs": [{"name": "colours"}]}, 400, "Received: 'colours'"),
        ({**tensor_of(), "outputs": [{"name": "codes"}] * 2}, 400, "each once"),
        ({**tensor_of(), "outputs": "codes"}, 400, "`outputs` must be a list"),
        ({"inputs": [{**PIXELS, "data": [0.5] * 5}]}, 400, "flat or nested"),
        ({"inputs": [{**PIXELS, "data": [[0.5], [1, 2]]}]}, 400, "ragged"),
        ({"inputs": [{**PIXELS, "data": ["1"] * 3072}]}, 400, "flat or nested"),
        ({"inputs": [{**PIXELS, "data": [None] * 3072}]}, 400, "flat or nested"),
        ({"inputs": [{**PIXELS, "data": [float("nan")] * 3072}]}, 400, "must lie in [0, 1]"),
        ({"inputs": [{**PIXELS, "data": [255] * 3072}]}, 400, "divide by 255"),
        ({"inputs": [{**PIXELS, "data": [1e300] * 3072}]}, 400, "must lie in [0, 1]"),
        ({"inputs": [{**PIXELS, "data": [10**400] * 3072}]}, 400, "flat or nested"),
        ({"inputs": [{**PIXELS, "shape": [1, 32, 32, 4], "data": []}]}, 400, "height, width, 3"),
        (
            {"inputs": [{**PIXELS, "shape": [1, 31, 40, 3], "data": [0.5] * 3720}]},
            400,
            "at least 32 pixels a side",
        ),
    ],
)
def test_what_is_wrong_with_a_request_is_one_line(client, document, status, words):
    found, answer = client.infer(document)
    assert found == status, answer
    assert words in answer["error"] and "Received" in answer["error"]
    assert "\n" not in answer["error"] and len(answer["error"]) < 400


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/other",
        "/v2/models/photos/versions/2",
        "/v2/models/photos/versions/2/ready",
        "/v2/models/..%2F..%2Fetc%2Fpasswd",
        "/v2/models/../../etc/passwd",
        "/v2/models/%00",
        "/nowhere",
    ],
)
def test_what_is_not_there_is_404(client, path):
    status, answer = client.get(path)
    assert status == 404 and list(answer) == ["error"]


def test_other_types_compressed_bodies_and_methods_are_refused(client, files):
    assert client.infer(ask(files[0]), **{"Content-Type": "text/plain"})[0] == 415
    assert client.infer(ask(files[0]), **{"Content-Encoding": "gzip"})[0] == 415
    status, answer = client.get("/v2/models/photos/infer")
    assert status == 405 and "Method Not Allowed" in answer["error"]
    for length in ("-1", "x", "9" * 30):
        assert client.infer(ask(files[0]), **{HEADER_LENGTH: length})[0] == 400


def test_a_page_of_another_site_cannot_reach_a_local_server(client):
    status, answer = client.get("/v2", Host="photos.example.org:80")
    assert status == 421 and "Host must be one of" in answer["error"]
    assert client.get("/v2", Host="LOCALHOST:1234")[0] == 200


def test_layout_of_tensorflow_serving_names_model_and_version(tmp_path):
    from keras_ctxattr.backbones import small

    export_module(small(width=8, num_features=16), tmp_path / "birds" / "3")
    served = ServedModule(tmp_path / "birds" / "3")
    assert (served.name, served.version) == ("birds", "3")
    assert list(served.widths) == ["features"]
    (row,) = served.describe_files([encode(make_pixels(50, 60))])
    assert row["features"].shape == (16,)


def test_older_modules_are_refused_in_a_line(module_folder, monkeypatch):
    monkeypatch.setattr(tf.saved_model, "load", lambda folder: object())
    with pytest.raises(ValueError, match="export it again"):
        ServedModule(module_folder)


def test_pixels_of_a_module_without_describe_are_the_same(module_folder, module):
    served = ServedModule(module_folder)
    images = np.random.default_rng(0).uniform(0, 1, (1, 40, 50, 3)).astype(np.float32)
    names = list(served.widths)
    expected = served.describe_images(images, names)

    served._module = types.SimpleNamespace(
        serve=module.serve, attributes=module.attributes, codes=module.codes
    )
    for name, values in served.describe_images(images, names).items():
        np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("cancellations", [1, 100])
def test_a_cancellation_is_an_error_of_the_file(module_folder, cancellations):
    """One bad BMP in hundreds came out as "Function was cancelled", and was answered with 500."""
    calls = []

    def describe_bytes(files):
        calls.append(files)
        if len(calls) <= cancellations:
            raise tf.errors.CancelledError(None, None, "Function was cancelled")
        raise tf.errors.InvalidArgumentError(None, None, "Incomplete bmp content")

    served = ServedModule(module_folder)
    served._module = types.SimpleNamespace(describe_bytes=describe_bytes)
    reason = "Incomplete bmp" if cancellations == 1 else "cannot be decoded"
    with pytest.raises(RequestError, match=reason) as caught:
        served.describe_files([b"BM"])
    assert caught.value.status == 422


def test_base64_in_columns_as_some_clients_send_it(client, files):
    text = base64.b64encode(files[0]).decode()
    document = ask(text)
    document["inputs"][0] |= {"shape": [1, 1], "data": [[text]]}
    assert client.infer(document) == client.infer(ask(text))
