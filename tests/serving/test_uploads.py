"""What strangers may send is checked before anything is decoded, and while it arrives."""

import asyncio
import json
import socket
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ctxattr.data.decode import decode_image
from keras_ctxattr.data.manifest.headers import read_size
from keras_ctxattr.serving import costs
from keras_ctxattr.serving.errors import RequestError
from keras_ctxattr.serving.service import check_files
from keras_ctxattr.serving.uploads import BodyReader, Limits, check_file
from tests.data.encoding import encode, make_pixels
from tests.serving.conftest import Client, ask, run_server

LIMITS = Limits(max_bytes=1_000_000, max_pixels=200_000)


def status_of(encoded, limits=LIMITS):
    with pytest.raises(RequestError, match="Received: ") as caught:
        check_file(encoded, limits, "The image")
    assert "\n" not in str(caught.value)
    return caught.value.status


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_photographs_pass_with_the_pixels_that_they_have(kind):
    assert check_file(encode(make_pixels(120, 200), kind), LIMITS, "The image") == 120 * 200


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "JPEG2000", "ICO", "PDF"])
def test_formats_that_a_module_does_not_decode_are_415(kind):
    assert status_of(encode(make_pixels(64, 64), kind)) == 415


def test_kinds_that_a_module_does_not_decode_are_415():
    frames = [Image.fromarray(make_pixels(64, 64, seed=seed)) for seed in range(3)]
    animated = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert status_of(animated) == 415
    assert status_of(encode(frames[0].convert("1"), "BMP")) == 415
    assert status_of(b"") == 415


def test_claimed_sizes_count_though_there_are_no_pixels():
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2**31 - 1, 2**31 - 1)
    assert status_of(huge) == 413
    assert status_of(encode(make_pixels(500, 500))) == 413
    assert status_of(bytes(1_000_001)) == 413
    assert status_of(encode(make_pixels(2, 202))) == 422
    assert status_of(huge[:16] + bytes(17)) == 422
    assert status_of(b"\xff\xd8\xff\xe0\x00\x10JFIF") == 422


def test_images_of_a_request_count_together():
    file = encode(make_pixels(300, 400))
    assert check_files([file], LIMITS) == [120_000]
    with pytest.raises(RequestError, match="Received: 240000 pixels"):
        check_files([file, file], LIMITS)


def test_all_frames_of_a_gif_count_and_not_its_canvas():
    """The decoder allocates every frame, whatever the canvas is said to be."""
    frames = [Image.fromarray(make_pixels(120, 200, seed=seed)) for seed in range(9)]
    moving = bytearray(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert costs.count_pixels("gif", bytes(moving)) == (120, 200, 9 * 120 * 200)
    assert status_of(bytes(moving)) == 413
    moving[6:10] = struct.pack("<HH", 5, 4)
    assert decode_image(bytes(moving)).shape == (120, 200, 3)
    assert costs.count_pixels("gif", bytes(moving)) == (120, 200, 9 * 120 * 200)


def chunk(kind, content=b""):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.parametrize(
    "make",
    [
        lambda png, jpeg: png[:33] + chunk(b"tEXt", b"a\0b") * 10_001 + png[33:],
        lambda png, jpeg: jpeg[:2] + b"\xff\xe5\0\x02" * 10_001 + jpeg[2:],
        lambda png, jpeg: jpeg[:2] + b"\xff" * 10_001 + jpeg[2:],
        lambda png, jpeg: jpeg[:-2] + b"\xff\xda\0\x02" * 101 + jpeg[-2:],
    ],
    ids=["chunks", "segments", "fill", "scans"],
)
def test_files_of_very_many_parts_are_refused(make):
    """Decoding them takes seconds to hours: each part is gone over, each scan is all pixels."""
    png, jpeg = (encode(make_pixels(64, 64), kind) for kind in ("PNG", "JPEG"))
    assert status_of(make(png, jpeg)) == 422


def test_a_progressive_photograph_is_no_bomb():
    photo = encode(make_pixels(64, 64), "JPEG", progressive=True)
    assert check_file(photo, LIMITS, "The image") == 64 * 64


def test_markers_without_a_length_cannot_hide_the_size_of_a_jpeg():
    """The size was read from bytes that such a marker seemed to skip to; the decoder sees none."""
    jpeg = encode(make_pixels(64, 96), "JPEG")
    hidden = jpeg[:2] + b"\xff\x01" + jpeg[2:]
    assert read_size("jpeg", hidden) == (64, 96)


class Sender:
    """A request whose body comes in pieces, with or without a length."""

    def __init__(self, pieces, delay=0.0, **headers):
        self.pieces, self.delay, self.headers, self.sent = pieces, delay, headers, 0

    async def stream(self):
        for piece in self.pieces:
            await asyncio.sleep(self.delay)
            self.sent += len(piece)
            yield piece


def read(reader, sender):
    async def run():
        async with reader.read(sender) as body:
            return body

    return asyncio.run(run())


def test_a_body_is_refused_while_it_arrives():
    reader = BodyReader(LIMITS)
    assert read(reader, Sender([b"ab", b"c"])) == b"abc"
    endless = Sender(bytes(100_000) for _ in range(10_000))
    with pytest.raises(RequestError) as caught:
        read(reader, endless)
    assert caught.value.status == 413 and endless.sent < LIMITS.max_body + 200_000
    announced = Sender([b""], **{"content-length": str(10**30)})
    with pytest.raises(RequestError) as caught:
        read(reader, announced)
    assert caught.value.status == 413 and announced.sent == 0
    with pytest.raises(RequestError, match="whole number"):
        read(reader, Sender([b""], **{"content-length": "-1"}))
    assert reader._held == 0


def test_a_slow_body_is_given_up():
    reader = BodyReader(Limits(max_seconds=0.05))
    with pytest.raises(RequestError, match="must arrive within") as caught:
        read(reader, Sender([b"a"] * 100, delay=0.02))
    assert caught.value.status == 408 and reader._held == 0


def test_all_requests_together_hold_a_bounded_amount():
    reader = BodyReader(Limits(max_held_bytes=1000))

    async def hold():
        async with reader.read(Sender([bytes(600)])):
            with pytest.raises(RequestError) as caught:
                async with reader.read(Sender([bytes(600)])):
                    pass
            assert caught.value.status == 503 and caught.value.headers == {"Retry-After": "1"}
            async with reader.read(Sender([bytes(300)])) as body:
                return len(body)

    assert asyncio.run(hold()) == 300
    assert reader._held == 0


@pytest.mark.parametrize("name", ["max_bytes", "max_pixels", "max_seconds", "max_held_bytes"])
def test_limits_let_something_through(name):
    with pytest.raises(ValueError, match=f"`{name}` must be over 0. Received: 0"):
        Limits(**{name: 0})


def test_the_server_answers_before_a_gigabyte_has_come(module_folder):
    with run_server(module_folder, limits=LIMITS) as port:
        head = "POST /v2/models/photos/infer HTTP/1.1\r\nHost: localhost\r\n"
        for length in ("Content-Length: 1000000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall((head + length).encode())
                answer = b""
                if "chunked" in length:
                    piece = b"10000\r\n" + bytes(65536) + b"\r\n"
                    for _ in range(40):
                        connection.sendall(piece)
                answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 413 ")
        file = encode(make_pixels(500, 500))
        status, answer = Client(port).infer(ask(file))
        assert status == 413 and "200000 pixels" in answer["error"]


def test_a_request_that_is_cut_off_holds_nothing(module_folder):
    with run_server(module_folder) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = "POST /v2/models/photos/infer HTTP/1.1\r\nHost: localhost\r\n"
            connection.sendall((head + "Content-Length: 1000\r\n\r\nabc").encode())
        pixels = np.zeros((64, 64, 3), np.uint8)
        file = tf.io.encode_png(pixels).numpy()
        assert Client(port).infer(ask(file))[0] == 200


def test_names_of_clients_are_words_only(module_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with run_server(module_folder) as port:
        document = ask(encode(make_pixels(64, 64)), id="../../evil")
        status, answer = Client(port).infer(document)
    assert status == 200 and answer["id"] == "../../evil"
    assert json.dumps(answer) and not list(tmp_path.iterdir())
