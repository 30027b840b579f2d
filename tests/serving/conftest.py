"""A small module of whole photographs, and a server of it on a port of its own."""

import base64
import contextlib
import http.client
import json
import threading
import time

import keras
import pytest
import tensorflow as tf
import uvicorn

from keras_ctxattr.attributes import AttributeHasher
from keras_ctxattr.backbones import small
from keras_ctxattr.export import export_module
from keras_ctxattr.serving.application import create_app
from keras_ctxattr.serving.running import listen


@pytest.fixture(scope="session")
def module_folder(tmp_path_factory):
    keras.utils.set_random_seed(0)
    hasher = AttributeHasher(small(width=8, num_features=16), num_attributes=16)
    folder = tmp_path_factory.mktemp("modules") / "photos"
    return export_module(hasher, folder, unit="image")


@pytest.fixture(scope="session")
def module(module_folder):
    return tf.saved_model.load(str(module_folder))


class Client:
    """Sends requests over one connection, and reconnects where the server has closed it."""

    def __init__(self, port):
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def send(self, method, path, body=None, headers=()):
        """Gives status, headers and body of the answer."""
        try:
            return self._send(method, path, body, dict(headers))
        except (http.client.HTTPException, ConnectionError):
            self._connection.close()
            return self._send(method, path, body, dict(headers))

    def _send(self, method, path, body, headers):
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def get(self, path, **headers):
        status, _, body = self.send("GET", path, headers=headers)
        return status, json.loads(body)

    def infer(self, document, path="/v2/models/photos/infer", **headers):
        """Posts a document, or bytes; gives the status and the document of the answer."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {"Content-Type": "application/json", **headers}
        status, _, found = self.send("POST", path, body, headers)
        return status, json.loads(found)


def ask(*files, **more):
    """Gives the request for image files, or for strings that stand for them."""
    texts = [
        file if isinstance(file, str) else base64.b64encode(file).decode("ascii") for file in files
    ]
    tensor = {"name": "encoded", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return {"inputs": [tensor], **more}


@contextlib.contextmanager
def run_server(folder, **settings):
    """Serves a module in a thread; gives its port."""
    app = create_app(folder, **settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    with listen("127.0.0.1", 0) as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield opened.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def port(module_folder):
    with run_server(module_folder) as found:
        yield found


@pytest.fixture
def client(port):
    return Client(port)
