"""What a client did wrong, or has to wait for, with the HTTP status that says so."""

from collections.abc import Mapping

MALFORMED = 400
NOT_FOUND = 404
TOO_SLOW = 408
TOO_LARGE = 413
UNKNOWN_FORMAT = 415
MISDIRECTED = 421
UNUSABLE = 422
BUSY = 503

RETRY_AFTER = {"Retry-After": "1"}  # seconds


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status, 4xx or 503.
        message: one line: what must hold, how to mend it, what was received.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
