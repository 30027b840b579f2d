"""What the routes call: a module behind its queues, limits checked before anything is queued."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from keras_ctxattr.serving.batching import Batcher, BusyError
from keras_ctxattr.serving.errors import BUSY, RETRY_AFTER, RequestError
from keras_ctxattr.serving.models import ServedModule
from keras_ctxattr.serving.uploads import MAX_IMAGES, Limits, check_file, check_pixels


class ModuleService:
    """Describes images of concurrent requests with one module.

    Files of different requests share a batch, since each is described by itself in there. The
    pixels of a request are a batch of their own: a network's sums depend on the size of a batch in
    the last bit, so a stranger's images would.

    Args:
        module: what describes.
        limits: of a request.
        max_batch: files in a call of the module.
        max_wait_ms: how long a file waits for others, in milliseconds.
        max_waiting: files that may wait; requests that do not fit behind them get 503.
    """

    def __init__(
        self,
        module: ServedModule,
        limits: Limits,
        *,
        max_batch: int = 16,
        max_wait_ms: float = 2.0,
        max_waiting: int = 256,
    ) -> None:
        self.module, self.limits = module, limits
        self._files: Batcher[bytes, dict[str, np.ndarray]] = Batcher(
            module.describe_files,
            max_batch=max_batch,
            max_weight=limits.max_pixels,  # decoded pixels are what takes memory
            max_wait_ms=max_wait_ms,
            max_waiting=max_waiting,
        )
        self._images: Batcher[tuple[np.ndarray, Sequence[str]], dict[str, np.ndarray]] = Batcher(
            lambda jobs: [module.describe_images(*job) for job in jobs],
            max_batch=1,
            max_wait_ms=0,
            max_waiting=max(1, max_waiting // MAX_IMAGES),
        )

    async def describe_files(self, files: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Gives all that the module knows of image files, by name, a row each.

        Args:
            files: contents, at least one.

        Raises:
            RequestError: if a file is not what may be sent, or too many wait.
        """
        weights = check_files(files, self.limits)
        rows = await _gather(self._files, files, weights)
        return {name: np.stack([row[name] for row in rows]) for name in self.module.widths}

    async def describe_images(
        self, images: np.ndarray, names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Gives what the module knows of pixels, see `ServedModule.describe_images`."""
        check_pixels(int(np.prod(images.shape[:3])), self.limits, "`images`")
        (found,) = await _gather(self._images, [(images, names)], [0])
        return found

    def close(self) -> None:
        """Finishes what waits, and takes nothing more."""
        self._files.close()
        self._images.close()


def check_files(files: Sequence[bytes], limits: Limits) -> list[int]:
    """Checks the files of a request, each and together.

    Returns:
        The pixels of each.

    Raises:
        RequestError: of the first that is not what may be sent.
    """
    alone = len(files) == 1
    pixels = [
        check_file(file, limits, "The image" if alone else f"Image {number}")
        for number, file in enumerate(files)
    ]
    check_pixels(sum(pixels), limits, "The images of a request")
    return pixels


async def _gather(batcher: Batcher, items: Sequence[Any], weights: Sequence[int]) -> list[Any]:
    try:
        futures: list[Future] = batcher.submit(items, weights)
    except BusyError as error:
        raise RequestError(
            BUSY, f"Send it again in a second. Received: too much, {error}", RETRY_AFTER
        ) from error
    found = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    for number, one in enumerate(found):
        if isinstance(one, RequestError) and len(found) > 1:
            raise RequestError(one.status, f"Image {number}: {one}", one.headers)
        if isinstance(one, BaseException):
            raise one
    return found
