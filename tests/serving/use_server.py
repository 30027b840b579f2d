"""Run by the interpreter of another environment: asks a server with a standard client.

    python use_server.py HOST:PORT ARRAYS.npz [--binary]

ARRAYS: `files` and `images`, and what the module gives for them (`files_features`, ...). `--binary`
sends and takes binary tensors, which not every server knows.
"""

import base64
import sys

import numpy as np
import tritonclient.http as http

NAMES = ("features", "attributes", "codes")


def ask(client, name, values, datatype, binary):
    tensor = http.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    found = client.infer("photos", [tensor], request_id="mine")
    assert found.get_response()["id"] == "mine"
    return {output: found.as_numpy(output) for output in NAMES}


def check(found, arrays, kind):
    for name, values in found.items():
        expected = arrays[f"{kind}_{name}"]
        assert values.dtype == expected.dtype and values.shape == expected.shape, name
        difference = np.abs(values.astype(float) - expected).max()
        print(f"{kind}, {name}: largest difference {difference:.1e}")
        assert difference <= (0 if name == "codes" else 1e-5), name


def main(address, archive, binary=""):
    arrays = np.load(archive, allow_pickle=False)
    client = http.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("photos")
    described = client.get_model_metadata("photos")
    assert [one["name"] for one in described["inputs"]] == ["images", "encoded"]
    assert [one["name"] for one in described["outputs"]] == list(NAMES)
    files = [file.tobytes() for file in np.split(arrays["files"], arrays["ends"][:-1])]
    is_binary = binary == "--binary"
    strings = files if is_binary else [base64.b64encode(file).decode() for file in files]
    check(
        ask(client, "encoded", np.array(strings, dtype=object), "BYTES", is_binary), arrays, "files"
    )
    check(ask(client, "images", arrays["images"], "FP32", is_binary), arrays, "images")
    broken = files[0][:50] if is_binary else base64.b64encode(files[0][:50]).decode()
    try:
        ask(client, "encoded", np.array([broken], dtype=object), "BYTES", is_binary)
    except http.InferenceServerException as error:
        assert "Invalid PNG" in error.message() and "\n" not in error.message(), error
    else:
        raise AssertionError("a broken file was described")


if __name__ == "__main__":
    main(*sys.argv[1:])
