"""Download of one document: complete or not at all, with limits of size and time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import requests
import urllib3
from requests.exceptions import ChunkedEncodingError, ConnectionError, RequestException, Timeout

from pipeline.addresses import web_fault
from pipeline.deadline import Deadline, DeadlinePassedError
from pipeline.errors import NotAProductError, SceneNotFoundError, TruckscapeError, UnreachableError
from pipeline.redaction import redacted
from pipeline.scenes.refusals import http_refusal

TIMEOUTS_S = (10, 30)
"""To connect, and between two chunks of an answer."""
PATIENCE_S = 60.0
"""Longest time for a document: all attempts and pauses, redirects, header and body together."""
_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
_PIECE = 2**16
_SAID_BYTES = 2048
_SHOWN = 300
"""Characters of a wrong address in a message."""


def fetch(url: str, what: str, most_bytes: int) -> bytes:
    """Download the document at an http(s) URL, with up to five attempts after transient errors.

    `what` names it in errors. Redirects lead to http(s) only. Memory: `most_bytes` at most. Time: a minute
    (`PATIENCE_S`) for all attempts together, however slowly the server answers.

    Raises
    ------
    SceneNotFoundError
        If it is no address, or the server refuses it; UnreachableError if the server fails, hangs, drips, or
        breaks off.
    NotAProductError
        If it is larger than `most_bytes`.
    """
    fault = web_fault(url)
    if fault:
        raise _failed(SceneNotFoundError, what, url[:_SHOWN], fault)
    deadline = Deadline(PATIENCE_S)
    for pause_s in (*_PAUSES_S, None):
        try:
            return deadline.wait_for(lambda gone: _fetch(url, what, most_bytes, gone), "download")
        except DeadlinePassedError as error:
            why = f"incomplete after {deadline.limit_s:g} s"
            raise _failed(UnreachableError, what, url, why) from error
        except UnreachableError:
            if pause_s is None or not deadline.pause(pause_s):
                raise
    raise AssertionError("the last attempt returns or raises")


def pieces(answer: requests.Response, what: str, most_bytes: int, abandoned: Event) -> Iterator[bytes]:
    """Yield the body of an answer, decompressed, until it is abandoned.

    Raises NotAProductError as soon as it is larger than `most_bytes`.
    """
    came = 0
    for piece in answer.iter_content(_PIECE):
        came += len(piece)
        if came > most_bytes:
            raise NotAProductError(f"{what} is larger than {most_bytes / 1e6:.0f} MB: {answer.url}")
        if abandoned.is_set():
            return
        yield piece


def said_in(answer: requests.Response) -> str:
    """Return the beginning of an answer's text, without markup, for messages."""
    body = next(answer.iter_content(_SAID_BYTES), b"")
    return " ".join(re.sub(r"<[^>]*>?", " ", body.decode(errors="replace")).split())[:200]


def close_redirect(answer: requests.Response, **_: object) -> None:
    """Close an answer that leads elsewhere: requests reads its body to the end, however long that is."""
    if answer.is_redirect:
        answer.close()


def _fetch(url: str, what: str, most_bytes: int, abandoned: Event) -> bytes:
    with _answer(url, what) as answer:
        if answer.status_code != requests.codes.ok:
            refusal = http_refusal(url, answer.status_code, said_in(answer))
            if refusal:
                raise _failed(SceneNotFoundError, what, url, refusal)
            raise _failed(UnreachableError, what, url, f"HTTP status {answer.status_code}")
        return b"".join(pieces(answer, what, most_bytes, abandoned))


@contextmanager
def _answer(url: str, what: str) -> Iterator[requests.Response]:
    """Request a URL; errors until the answer is read become errors of ours."""
    try:
        with requests.get(url, timeout=TIMEOUTS_S, stream=True, hooks={"response": close_redirect}) as answer:
            yield answer
    except Timeout as error:
        raise _failed(UnreachableError, what, url, "no answer in time") from redacted(error)
    except ChunkedEncodingError as error:
        raise _failed(UnreachableError, what, url, "the answer broke off") from redacted(error)
    except ConnectionError as error:
        raise _failed(UnreachableError, what, url, "no answer") from redacted(error)
    except (RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
        # A redirect loop, or a redirect to another scheme or to no address.
        raise _failed(SceneNotFoundError, what, url, str(error)) from redacted(error)


def _failed(kind: type[TruckscapeError], what: str, url: str, why: str) -> TruckscapeError:
    return kind(f"{what} can't be fetched: {url} ({why}).")
