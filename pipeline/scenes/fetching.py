"""One document from a server: whole or not at all, no larger than it may be, in bounded time."""

from __future__ import annotations

import time

import requests
from requests.exceptions import ChunkedEncodingError, ConnectionError, RequestException, Timeout

from pipeline.addresses import keep_secrets, told
from pipeline.errors import NotAProductError, SceneNotFoundError, TruckscapeError, UnreachableError

PASSING = (408, 429, 500, 502, 503, 504)
"""HTTP statuses of a server that may do better later."""

_TIMEOUTS_S = (10, 30)
"""Until a connection, and between two pieces of an answer."""
_WHOLE_S = 120
_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
_PIECE = 2**16

keep_secrets("urllib3.connectionpool", "urllib3.util.retry")


def fetch(url: str, what: str, most_bytes: int) -> bytes:
    """The document at an http(s) address, asked for up to five times where a fault may pass.

    `what` names it in errors. Redirects lead to http(s) only. Memory: `most_bytes` at most.

    Raises
    ------
    SceneNotFoundError
        If the server refuses it; UnreachableError where the server fails, hangs, or breaks off.
    NotAProductError
        If it is larger than `most_bytes`.
    """
    for pause_s in _PAUSES_S:
        try:
            return _fetch(url, what, most_bytes)
        except UnreachableError:
            time.sleep(pause_s)
    return _fetch(url, what, most_bytes)


def _fetch(url: str, what: str, most_bytes: int) -> bytes:
    begun = time.monotonic()
    body = bytearray()
    try:
        with requests.get(url, timeout=_TIMEOUTS_S, stream=True) as answer:
            if answer.status_code != requests.codes.ok:
                kind = UnreachableError if answer.status_code in PASSING else SceneNotFoundError
                raise _failed(kind, what, url, f"HTTP status {answer.status_code}")
            for piece in answer.iter_content(_PIECE):
                body += piece
                if len(body) > most_bytes:
                    raise NotAProductError(f"{what} is larger than {most_bytes / 1e6:.0f} MB: {url}")
                if time.monotonic() - begun > _WHOLE_S:
                    raise _failed(UnreachableError, what, url, f"not whole after {_WHOLE_S} s")
    except Timeout as error:
        raise _failed(UnreachableError, what, url, "no answer in time") from told(error)
    except ChunkedEncodingError as error:
        raise _failed(UnreachableError, what, url, "the answer broke off") from told(error)
    except ConnectionError as error:
        raise _failed(UnreachableError, what, url, "no answer") from told(error)
    except RequestException as error:  # redirected in circles, or to what is not http
        raise _failed(SceneNotFoundError, what, url, str(error)) from told(error)
    return bytes(body)


def _failed(kind: type[TruckscapeError], what: str, url: str, why: str) -> TruckscapeError:
    return kind(f"{what} can't be fetched: {url} ({why}).")
