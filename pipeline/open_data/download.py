"""Download of one file, from a folder or a server, whose size and checksum are known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from requests.exceptions import ConnectionError, RequestException, Timeout

from pipeline.addresses import web_fault
from pipeline.deadline import Deadline
from pipeline.errors import OpenDataError, OpenDataUnreachableError, OutputError
from pipeline.redaction import is_url, redacted
from pipeline.scenes.download import TIMEOUTS_S, close_redirect, said_in
from pipeline.scenes.refusals import http_refusal

PATIENCE_S = 60.0
"""Longest time without progress, all attempts and pauses together."""
SLOWEST_BYTES_PER_S = 10_000
_PAUSES_S = (0.1, 0.5, 2.0, 5.0)
_PIECE = 2**17


class NotThereError(OpenDataError):
    """Folder or server that does not have a file, or refuses it."""


def local_path(address: str) -> Path | None:
    """Return what a path or a file URL names; None for the URL of a server."""
    if is_url(address):
        return None
    if address.lower().startswith("file:"):
        return Path(url2pathname(urlsplit(address).path))
    return Path(address)


def retrieve(address: str, target: Path, sha256: str, size: int, report: Callable[[int], None]) -> None:
    """Copy the file at a path or URL (file, http, https) to `target`, which appears complete or not at all.

    A download that breaks off is resumed, up to four times. `report` is called with the bytes
    so far. Memory: a piece of 128 kB.

    Raises
    ------
    NotThereError
        If the folder or server does not have the file, or refuses it.
    OpenDataUnreachableError
        If the server fails, breaks off, or sends less than 10 kB/s for a minute.
    OpenDataError
        If size or checksum differ.
    OutputError
        If `target` can't be written.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    differs = f"{address} is not the file of the catalogue: its"
    download = _Download(size, report)
    try:
        pooch.retrieve(address, f"sha256:{sha256}", target.name, target.parent, downloader=download)
    except _SizeError as error:
        raise OpenDataError(f"{differs} size is {error}, not {size} bytes. Replace it there.") from error
    except ValueError as error:  # of Pooch
        raise OpenDataError(f"{differs} SHA-256 is not {sha256}. Replace it there.") from error
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from error


class _SizeError(Exception):
    """Size that differs; the message is the size."""


@dataclass(frozen=True)
class _Download:
    """Downloader as Pooch calls it: with a temporary file, which Pooch checks and moves."""

    size: int
    report: Callable[[int], None]

    def __call__(self, address: str, output_file: str, _: object) -> None:
        source = local_path(address)
        with Path(output_file).open("wb") as output:
            if source is None:
                self._download(address, output)
            else:
                self._copy(source, output)
            if output.tell() != self.size:
                raise _SizeError(f"{output.tell()} bytes")

    def _copy(self, source: Path, output: BinaryIO) -> None:
        try:
            file = source.open("rb")
        except OSError as error:
            raise NotThereError(f"{source} can't be read ({error.strerror})") from error
        with file:
            self._write(partial(file.read, _PIECE), output)

    def _download(self, url: str, output: BinaryIO) -> None:
        if fault := web_fault(url):
            raise NotThereError(f"{url} can't be fetched: {fault}")
        deadline = Deadline(PATIENCE_S)
        for pause_s in (*_PAUSES_S, None):
            try:
                with _answer(url, output.tell()) as answer:
                    if answer.status_code == requests.codes.ok:
                        output.seek(0)  # the server sends it from its beginning
                        output.truncate()
                    self._write(partial(_piece, answer, deadline), output)
                return
            except OpenDataUnreachableError:
                if pause_s is None or not deadline.pause(pause_s):
                    raise

    def _write(self, read: Callable[[], bytes], output: BinaryIO) -> None:
        while piece := read():
            output.write(piece)
            if output.tell() > self.size:
                raise _SizeError("larger")
            self.report(output.tell())


@contextmanager
def _answer(url: str, begin: int) -> Iterator[requests.Response]:
    """Request a file from a byte on; errors until the answer is read become errors of ours."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={begin}-"} if begin else {})}
    try:
        with requests.get(
            url, headers=headers, timeout=TIMEOUTS_S, stream=True, hooks={"response": close_redirect}
        ) as answer:
            if answer.status_code in (requests.codes.ok, requests.codes.partial):
                yield answer
                return
            if refusal := http_refusal(url, answer.status_code, said_in(answer)):
                raise NotThereError(f"{url} can't be fetched: {refusal.rstrip('.')}")
            raise _unreachable(url, f"HTTP status {answer.status_code}")
    except (Timeout, urllib3.exceptions.TimeoutError) as error:
        raise _unreachable(url, "no answer in time") from redacted(error)
    except (ConnectionError, urllib3.exceptions.HTTPError) as error:
        raise _unreachable(url, "no answer, or it broke off") from error
    except (RequestException, UnicodeError) as error:  # a redirect loop, or to no address
        raise NotThereError(f"{url} can't be fetched: {error}") from redacted(error)


def _piece(answer: requests.Response, deadline: Deadline) -> bytes:
    """Return what has arrived of an answer; empty at its end."""
    piece = bytes(answer.raw.read1(_PIECE))
    deadline.extend(len(piece) / SLOWEST_BYTES_PER_S)
    if deadline.has_passed:
        raise _unreachable(answer.url, f"less than {SLOWEST_BYTES_PER_S / 1e3:g} kB/s")
    return piece


def _unreachable(url: str, why: str) -> OpenDataUnreachableError:
    return OpenDataUnreachableError(f"{url} can't be fetched ({why}).")
