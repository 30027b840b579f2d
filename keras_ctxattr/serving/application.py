"""The web application: routers of what is served, and one form for every error."""

import contextlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from keras_ctxattr.search.database import DATABASE
from keras_ctxattr.serving import inference, search
from keras_ctxattr.serving.errors import MALFORMED, MISDIRECTED, RequestError
from keras_ctxattr.serving.gallery import ServedIndex
from keras_ctxattr.serving.models import ServedModule
from keras_ctxattr.serving.service import ModuleService
from keras_ctxattr.serving.uploads import BodyReader, Limits

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def create_app(
    folder: str | Path,
    *,
    limits: Limits | None = None,
    hosts: Collection[str] = LOCAL_HOSTS,
    **batching: Any,
) -> FastAPI:
    """Makes the application that serves a module, or an index with its module and a search page.

    The module is served over the Open Inference Protocol (KServe V2).

    Each thing that is served is a router of its own; one that needs features of images asks
    `app.state.service`, which every router shares.

    Args:
        folder: a module, as `export_module` writes it, or an index of photographs.
        limits: of a request; `Limits()` if not given.
        hosts: names that requests may call the server by; empty for any. A page of another site
            can make a browser on this machine send requests here under a name of its own.
        **batching: `max_batch`, `max_wait_ms` and `max_waiting` of `ModuleService`.

    Returns:
        An ASGI application; when it is shut down, what waits is finished first.

    Raises:
        ValueError: if the folder holds neither, or a module that is too old.
    """
    limits = limits or Limits()
    index = ServedIndex(folder) if (Path(folder) / DATABASE).is_file() else None
    module = ServedModule(folder) if index is None else ServedModule(index.module, name=index.name)
    service = ModuleService(module, limits, **batching)
    # The pages of FastAPI's own documentation would fetch scripts from elsewhere.
    app = FastAPI(title="keras_ctxattr", lifespan=_closing(service), docs_url=None, redoc_url=None)
    app.state.service, app.state.index = service, index
    app.state.reader = BodyReader(limits)
    app.include_router(inference.make_router(service, app.state.reader))
    if index is not None:
        app.include_router(search.make_router(index, service, app.state.reader))
    app.add_exception_handler(RequestError, _explain)
    app.add_exception_handler(RequestValidationError, _explain_argument)
    app.add_exception_handler(HTTPException, _explain_http)
    app.add_exception_handler(ClientDisconnect, _forget)
    app.add_exception_handler(Exception, _apologise)
    if hosts:
        app.add_middleware(OnlyHosts, hosts=frozenset(hosts))
    return app


class OnlyHosts:
    """Answers requests that call the server by another name with 421.

    Args:
        app: what answers the others.
        hosts: names without ports.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes the request on."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name, colon, port = host.rpartition(":")
            if (name if colon and port.isdigit() else host) not in self._hosts:
                error = f"Host must be one of {', '.join(sorted(self._hosts))}. "
                answer = _as_json(MISDIRECTED, f"{error}Received: {host[:60]!a}")
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _closing(service: ModuleService) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    return lifespan


def _as_json(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


async def _explain(_: Request, error: Exception) -> JSONResponse:
    status: int = getattr(error, "status", MALFORMED)
    return _as_json(status, str(error), getattr(error, "headers", None))


async def _explain_http(request: Request, error: Exception) -> JSONResponse:
    status: int = getattr(error, "status_code", MALFORMED)
    detail = getattr(error, "detail", "")
    path = ascii(request.url.path[:60])
    return _as_json(status, f"{detail}: {request.method} {path}", getattr(error, "headers", None))


async def _explain_argument(_: Request, error: Exception) -> JSONResponse:
    """Says what the first argument that cannot be read must be."""
    found: Any = error
    first = found.errors()[0]
    name = ascii(str(first["loc"][-1])[:40])
    return _as_json(MALFORMED, f"{name}: {first['msg']}. Received: {first.get('input')!a:.60}")


async def _forget(_: Request, error: Exception) -> JSONResponse:
    return _as_json(MALFORMED, "The client went away.")  # nobody reads this


async def _apologise(_: Request, error: Exception) -> JSONResponse:
    return _as_json(500, "The server failed; its log says why.")
