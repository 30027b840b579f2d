"""The server's process: its socket first, then the application, until it is interrupted."""

import ipaddress
import socket
from typing import Any

SECONDS_TO_FINISH = 10  # for requests that are being answered when the server is stopped


def listen(host: str, port: int) -> socket.socket:
    """Binds an address, before anything that takes time is loaded.

    Args:
        host: name or address of an interface of this machine.
        port: 0 for any that is free.

    Raises:
        ValueError: if the address is in use, or not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen()
        except OSError:
            opened.close()
            raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(
            "`--host` and `--port` must be a free address of this machine; choose another port. "
            f"Received: {host}:{port}, {reason}"
        ) from error
    return opened


def is_loopback(host: str) -> bool:
    """Tells whether only this machine can reach an address; False where that is not certain.

    Example:
        >>> from keras_ctxattr.serving.running import is_loopback
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def address_of(opened: socket.socket) -> str:
    """Gives the address of a server as a browser takes it."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Any, opened: socket.socket) -> None:
    """Answers requests until the process is interrupted or terminated.

    Requests that are being answered are finished first.

    Args:
        app: an ASGI application.
        opened: what `listen` gave.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
    uvicorn.Server(config).run(sockets=[opened])
