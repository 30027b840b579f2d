"""The search page and what it asks for: neighbours, attributes, groups, pictures."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from keras_ctxattr.export import read_module
from keras_ctxattr.search import ImageIndex, Match
from keras_ctxattr.search.pixels import UnavailableError
from keras_ctxattr.search.records import IndexedImage
from keras_ctxattr.serving.errors import MALFORMED, NOT_FOUND, RequestError
from keras_ctxattr.serving.gallery import PICTURE, THUMBNAIL, ServedIndex
from keras_ctxattr.serving.service import ModuleService
from keras_ctxattr.serving.uploads import BodyReader

MAX_COUNT = 200
_PAGE_FILES = ("page.css", "page.js")
# Nothing comes from elsewhere, and nobody may show the page inside another.
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FOREVER = "private, max-age=31536000, immutable"  # the address holds a digest of the content

Count = Annotated[int, Query(ge=1, le=MAX_COUNT)]
Offset = Annotated[int, Query(ge=0, le=2**53)]


def make_router(served: ServedIndex, service: ModuleService, reader: BodyReader) -> APIRouter:
    """Makes the routes of the search page.

    Args:
        served: The index.
        service: Describes images that are sent; of the index's module.
        reader: Reads what is sent.
    """
    router = APIRouter()
    _add_page(router)
    _add_lists(router, served)
    _add_pictures(router, served)
    _add_searches(router, served, service, reader)
    return router


def _add_page(router: APIRouter) -> None:
    folder = resources.files("keras_ctxattr.serving") / "page"

    @router.get("/", include_in_schema=False)
    def page() -> Response:
        return Response(
            (folder / "index.html").read_bytes(), media_type="text/html", headers=_SECURITY
        )

    @router.get("/page/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in _PAGE_FILES:
            raise RequestError(NOT_FOUND, f"The page has no such part. Received: {name[:60]!a}")
        kind = mimetypes.guess_type(name)[0]
        return Response((folder / name).read_bytes(), media_type=kind, headers=_SECURITY)


def _add_lists(router: APIRouter, served: ServedIndex) -> None:
    @router.get("/api/index")
    def about() -> dict[str, Any]:
        index = served.current()
        return {
            "name": served.name,
            "num_images": len(index),
            "num_attributes": index.num_attributes,
            "has_vectors": index.has_vectors,
            "sources": [label for _, label in index.store.sources().values()],
        }

    @router.get("/api/model")
    def model() -> dict[str, Any]:
        return read_module(served.module)

    @router.get("/api/images")
    def images(offset: Offset = 0, limit: Count = 48) -> dict[str, Any]:
        index = served.current()
        ids = index.ids[offset : offset + limit]
        return {"total": len(index), "images": _tell_ids(index, ids)}

    @router.get("/api/attributes")
    def attributes() -> dict[str, Any]:
        index = served.current()
        sides = served.sides()
        return {
            "attributes": [
                {
                    **side,
                    "having": _tell_rows(index, side["having"]),
                    "lacking": _tell_rows(index, side["lacking"]),
                }
                for side in sides
            ]
        }

    @router.get("/api/groups")
    def groups() -> dict[str, Any]:
        index = served.current()
        found = served.groups()
        return {
            "groups": [
                {"num_images": one["num_images"], "images": _tell_rows(index, one["rows"])}
                for one in found
            ]
        }


def _add_pictures(router: APIRouter, served: ServedIndex) -> None:
    @router.get("/api/pictures/{image_id}/{digest}/{kind}")
    def picture(image_id: int, digest: str, kind: str) -> Response:
        sizes = {"thumbnail": THUMBNAIL, "picture": PICTURE}
        if kind not in sizes:
            raise RequestError(NOT_FOUND, f"A picture is one of {', '.join(sizes)}.")
        image = _find_image(served.current(), image_id)
        if image.digest != digest:
            raise RequestError(NOT_FOUND, f"The image is another one now. Received: {image_id}")
        try:
            encoded = served.picture(image, sizes[kind])
        except UnavailableError as error:
            raise RequestError(
                NOT_FOUND,
                f"An image must be as it was when it was indexed. Received: {image_id}, {error}",
            ) from error
        headers = {**_SECURITY, "Cache-Control": _FOREVER}
        return Response(encoded, media_type="image/jpeg", headers=headers)


def _add_searches(
    router: APIRouter, served: ServedIndex, service: ModuleService, reader: BodyReader
) -> None:
    @router.get("/api/images/{image_id}/similar")
    def similar(image_id: int, count: Count = 48, bits: str = "") -> dict[str, Any]:
        index = served.current()
        image = _find_image(index, image_id)
        rows = index.rows_of([image_id])
        vector = index.vectors(rows)[0] if index.has_vectors else None
        required = _read_bits(bits, index.num_attributes)
        matches = index.search(
            index.codes[rows[0]], vector, count=count, required=required, leave_out=[image_id]
        )
        return {
            "image": _tell(image),
            "bits": _tell_bits(index.codes[rows[0]], served.shares()),
            "matches": [_tell_match(match) for match in matches],
        }

    @router.post("/api/search")
    async def search(request: Request, count: Count = 48, bits: str = "") -> dict[str, Any]:
        async with reader.read(request) as encoded:
            found = await service.describe_files([encoded])
        return await run_in_threadpool(_search_described, served, found, count, bits)


def _search_described(
    served: ServedIndex, found: Mapping[str, np.ndarray], count: int, bits: str
) -> dict[str, Any]:
    index = served.current()
    code, features = found["codes"][0], found["features"][0]
    vector = features / max(float(np.linalg.norm(features)), 1e-12)
    required = _read_bits(bits, index.num_attributes)
    matches = index.search(code, vector, count=count, required=required)
    return {
        "bits": _tell_bits(code, served.shares()),
        "matches": [_tell_match(match) for match in matches],
    }


def _find_image(index: ImageIndex, image_id: int) -> IndexedImage:
    is_number = 0 <= image_id < 2**63  # what the database can look for
    found = index.store.images([image_id]) if is_number else {}
    if image_id not in found or index.rows_of([image_id])[0] < 0:
        raise RequestError(NOT_FOUND, f"The index has no such image. Received: {image_id}")
    return found[image_id]


def _read_bits(text: str, num_attributes: int) -> dict[int, bool]:
    """Reads which bits results must have ("12") and must not have ("-3"), between commas."""
    required: dict[int, bool] = {}
    for part in filter(None, text.split(",")):
        digits = part.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and int(digits[:6]) < num_attributes):
            raise RequestError(
                MALFORMED,
                f"`bits` must be numbers from 0 to {num_attributes - 1} between commas, a minus "
                f"before those that results must not have. Received: {part[:40]!a}",
            )
        required[int(digits)] = not part.startswith("-")
    return required


def _tell_rows(index: ImageIndex, rows: np.ndarray) -> list[dict[str, Any]]:
    rows = rows[rows < len(index)]  # computed of a state that had more
    return _tell_ids(index, index.ids[rows])


def _tell_ids(index: ImageIndex, ids: Iterable[int]) -> list[dict[str, Any]]:
    wanted = [int(image_id) for image_id in ids]
    found = index.store.images(wanted)
    return [_tell(found[image_id]) for image_id in wanted if image_id in found]


def _tell(image: IndexedImage) -> dict[str, Any]:
    address = f"api/pictures/{image.image_id}/{image.digest}"
    return {
        "id": image.image_id,
        "name": image.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        "height": image.height,
        "width": image.width,
        "thumbnail": f"{address}/thumbnail",
        "picture": f"{address}/picture",
    }


def _tell_match(match: Match) -> dict[str, Any]:
    return {**_tell(match.image), "distance": match.distance, "similarity": match.similarity}


def _tell_bits(code: np.ndarray, shares: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"bit": bit, "is_set": bool(is_set), "share": float(share)}
        for bit, (is_set, share) in enumerate(zip(np.unpackbits(code), shares, strict=True))
    ]
