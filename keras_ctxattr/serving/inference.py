"""Routes of the Open Inference Protocol (KServe V2) for one module."""

import functools

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from keras_ctxattr import __version__
from keras_ctxattr.serving.errors import NOT_FOUND, UNKNOWN_FORMAT, RequestError
from keras_ctxattr.serving.protocol import (
    BINARY_TYPE,
    HEADER_LENGTH,
    Inference,
    read_inference,
    write_answer,
)
from keras_ctxattr.serving.service import ModuleService
from keras_ctxattr.serving.uploads import BodyReader

EXTENSIONS = ["binary_tensor_data"]
CONTENT_TYPES = ("application/json", BINARY_TYPE)
NUM_PARSERS = 2
"""Requests whose JSON is read at a time: as numbers it takes several times its length."""


def make_router(service: ModuleService, reader: BodyReader) -> APIRouter:
    """Gives the protocol's routes.

    Args:
        service: what describes images.
        reader: of the requests' bodies.
    """
    router = APIRouter(prefix="/v2", default_response_class=JSONResponse)
    _add_server(router, service)
    for path in ("/models/{name}", "/models/{name}/versions/{version}"):
        _add_model(router, service, path)
        _add_inference(router, service, reader, path)
    return router


def _add_server(router: APIRouter, service: ModuleService) -> None:
    @router.get("")
    async def server_metadata() -> dict:
        return {"name": "keras_ctxattr", "version": __version__, "extensions": EXTENSIONS}

    @router.get("/health/live")
    async def live() -> dict:
        return {"live": True}

    @router.get("/health/ready")
    async def ready() -> dict:
        return {"ready": True}  # the module is loaded before the first connection is taken


def _add_model(router: APIRouter, service: ModuleService, path: str) -> None:
    @router.get(path)
    async def model_metadata(name: str, version: str | None = None) -> dict:
        _check_model(service, name, version)
        return service.module.metadata

    @router.get(path + "/ready")
    async def model_ready(name: str, version: str | None = None) -> dict:
        _check_model(service, name, version)
        return {"name": name, "ready": True}


def _add_inference(
    router: APIRouter, service: ModuleService, reader: BodyReader, path: str
) -> None:
    limiter = anyio.CapacityLimiter(NUM_PARSERS)

    @router.post(path + "/infer")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        _check_model(service, name, version)
        _check_content(request)
        async with reader.read(request) as body:
            read = functools.partial(
                read_inference,
                body,
                request.headers.get(HEADER_LENGTH),
                list(service.module.widths),
            )
            return await _answer(service, await anyio.to_thread.run_sync(read, limiter=limiter))


async def _answer(service: ModuleService, asked: Inference) -> Response:
    if asked.images is not None:
        values = await service.describe_images(asked.images, list(asked.outputs))
    else:
        values = await service.describe_files(asked.files or [])
    described = {"model_name": service.module.name, "model_version": service.module.version}
    if asked.id is not None:
        described["id"] = asked.id
    body, headers = write_answer(described, values, asked.outputs)
    return Response(body, headers=headers)


def _check_model(service: ModuleService, name: str, version: str | None) -> None:
    module = service.module
    if name != module.name or version not in (None, module.version):
        asked = ascii(name[:60]) + (f", version {version[:20]!a}" if version else "")
        raise RequestError(
            NOT_FOUND, f"The model is {module.name}, version {module.version}. Received: {asked}"
        )


def _check_content(request: Request) -> None:
    """Refuses types that a page of another site could send unasked, and compressed bodies."""
    kind = request.headers.get("content-type", CONTENT_TYPES[0]).split(";")[0].strip().lower()
    if kind not in CONTENT_TYPES:
        raise RequestError(
            UNKNOWN_FORMAT, f"Content-Type must be {CONTENT_TYPES[0]}. Received: {kind[:60]!a}"
        )
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise RequestError(
            UNKNOWN_FORMAT,
            f"Requests must not be compressed, images are. Received: {encoding[:60]!a}",
        )
