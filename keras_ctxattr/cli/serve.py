"""`ctxattr serve`: an index as a search page, a module as a model server."""

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from keras_ctxattr.cli.app import app, load_tensorflow

PACKAGES = ("fastapi", "uvicorn")  # of the extra `web`


@app.command()
def serve(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="INDEX|MODULE", help="An index of photographs, or a module: NAME or NAME/1."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; other machines reach 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes any.")
    ] = 8080,
    max_bytes: Annotated[int, typer.Option(min=1, help="Of the images of a request.")] = 20_000_000,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Of the images of a request.")
    ] = 50_000_000,
) -> None:
    """Search an index in the browser, and serve its module or any other, until Ctrl-C.

    The module is served over the Open Inference Protocol (KServe V2).
    """
    _check_packages()
    from keras_ctxattr.serving.running import address_of, is_loopback, listen
    from keras_ctxattr.serving.running import serve as run

    with listen(host, port) as opened:
        if not is_loopback(host):
            print(
                f"warning: {host} can be reached from elsewhere, and there is no authentication",
                file=sys.stderr,
            )
        load_tensorflow()
        from keras_ctxattr.serving.application import LOCAL_HOSTS, create_app
        from keras_ctxattr.serving.uploads import Limits

        limits = Limits(max_bytes=max_bytes, max_pixels=max_pixels)
        served = create_app(folder, limits=limits, hosts=LOCAL_HOSTS if is_loopback(host) else ())
        name = quote(served.state.service.module.name)
        address = address_of(opened)
        if served.state.index is not None:
            print(f"Search    {address}/")
        print(f"Serving   {address}/v2/models/{name}   (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # it depends on who handles the signal
            run(served, opened)
        print("Stopped.")


def _check_packages() -> None:
    """Says which extra is missing, before a traceback does."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            "Serving needs the packages of the extra `web`: pip install 'keras_ctxattr[web]'. "
            f"Received: no {', '.join(missing)}"
        )
