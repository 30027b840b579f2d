"""What strangers may send: how many bytes and pixels, of which formats, how fast.

Everything is checked before a decoder sees it, and nothing is written to disk.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Protocol

from keras_ctxattr.data.manifest.headers import detect_format, needs_conversion
from keras_ctxattr.export.module import MAX_ASPECT
from keras_ctxattr.serving.costs import TooCostlyError, count_pixels
from keras_ctxattr.serving.errors import (
    BUSY,
    MALFORMED,
    RETRY_AFTER,
    TOO_LARGE,
    TOO_SLOW,
    UNKNOWN_FORMAT,
    UNUSABLE,
    RequestError,
)

FORMATS = ("jpeg", "png", "gif", "bmp", "webp")
"""What a module decodes itself. Others would have to be converted first, by libraries with more
faults in them, to pixels that the module elsewhere would not see: the client had better do that."""

SPARE_BYTES = 64 * 1024  # of a body, for the JSON around its images
MAX_IMAGES = 64  # in a request


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may hold, and all requests at a time.

    Attributes:
        max_bytes: of the images of a request, decoded from base64.
        max_pixels: of the images of a request, as their headers state.
        max_seconds: to send a request in.
        max_held_bytes: of all requests that are in the memory at a time.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_seconds: float = 60.0
    max_held_bytes: int = 512_000_000

    def __post_init__(self) -> None:
        """Checks that something gets through."""
        for name in ("max_bytes", "max_pixels", "max_seconds", "max_held_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be over 0. Received: {getattr(self, name)}")

    @property
    def max_body(self) -> int:
        """Bytes of a request's body: base64 makes four of three."""
        return self.max_bytes * 4 // 3 + SPARE_BYTES


class Upload(Protocol):
    """The part of a web framework's request that is read here."""

    @property
    def headers(self) -> "_Headers":
        """The request's headers."""

    def stream(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""


class _Headers(Protocol):
    def get(self, key: str, /) -> str | None: ...


class BodyReader:
    """Reads bodies of requests, and refuses them while they arrive rather than afterwards.

    Args:
        limits: of bytes and of time.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Upload) -> AsyncIterator[bytes]:
        """Gives the body; until the block ends it counts as held.

        Raises:
            RequestError: 413 if it is too large, or says so; 408 if it takes too long; 503 if too
                much is held already; 400 if its length is no number.
        """
        _check_announced(request.headers.get("content-length"), self._limits.max_body)
        body = bytearray()
        try:
            await self._fill(body, request)
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _fill(self, body: bytearray, request: Upload) -> None:
        try:
            async with asyncio.timeout(self._limits.max_seconds):
                async for chunk in request.stream():
                    self._take(body, chunk)
        except TimeoutError as error:
            raise RequestError(
                TOO_SLOW,
                f"A request must arrive within {self._limits.max_seconds:g} seconds. "
                f"Received: {len(body)} bytes",
            ) from error

    def _take(self, body: bytearray, chunk: bytes) -> None:
        if len(body) + len(chunk) > self._limits.max_body:
            raise _too_large(self._limits.max_body, f"more than {len(body)}")
        if self._held + len(chunk) > self._limits.max_held_bytes:
            raise RequestError(
                BUSY, "The server holds as much as it may; send it again later.", RETRY_AFTER
            )
        body += chunk
        self._held += len(chunk)


def check_file(encoded: bytes, limits: Limits, name: str) -> int:
    """Checks an image file by its header.

    Args:
        encoded: contents of the file.
        limits: of bytes and pixels.
        name: what messages call it.

    Returns:
        The pixels that decoding it takes.

    Raises:
        RequestError: 415 if it is of no format that is served, 413 if it is too large, 422 if its
            header states no size, or sides that differ too much.
    """
    if len(encoded) > limits.max_bytes:
        raise _too_large(limits.max_bytes, str(len(encoded)), name)
    found = detect_format(encoded[:32])
    if found not in FORMATS or needs_conversion(found, encoded):
        raise RequestError(
            UNKNOWN_FORMAT,
            f"{name} must be a JPEG, PNG, GIF, BMP (8, 24 or 32 bits) or WebP (not animated) file; "
            f"convert it. Received: {f'another kind of {found}' if found else 'something else'}",
        )
    try:
        size = count_pixels(found, encoded)
    except TooCostlyError as error:
        raise RequestError(UNUSABLE, f"{name} must be a plain image. Received: {error}") from error
    if size is None or min(size) < 1:
        raise RequestError(UNUSABLE, f"{name} must state its size. Received: a broken {found} file")
    height, width, pixels = size
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise RequestError(
            UNUSABLE,
            f"Sides of {name} may differ at most {MAX_ASPECT} times; crop it. "
            f"Received: {height}x{width} (height x width)",
        )
    check_pixels(pixels, limits, name)
    return pixels


def check_pixels(pixels: int, limits: Limits, name: str) -> None:
    """Refuses more pixels than a request may hold, with 413."""
    if pixels > limits.max_pixels:
        raise RequestError(
            TOO_LARGE,
            f"{name} may have at most {limits.max_pixels} pixels; scale down, or send less at a "
            f"time. Received: {pixels} pixels",
        )


def _check_announced(length: str | None, most: int) -> None:
    if length is None:
        return
    if not (length.isascii() and length.isdigit()):
        raise RequestError(
            MALFORMED, f"Content-Length must be a whole number. Received: {length[:40]!r}"
        )
    if int(length[:20]) > most:
        raise _too_large(most, length[:20])


def _too_large(most: int, received: str, name: str = "A request") -> RequestError:
    return RequestError(
        TOO_LARGE, f"{name} may have at most {most} bytes. Received: {received} bytes"
    )
