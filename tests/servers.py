"""Real servers on loopback: files by ranges, an S3-compatible store; they fail as they are told to."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from RangeHTTPServer import RangeRequestHandler

HANG_S = 30
_DROP = 500


@dataclass
class FileServer:
    """What a server of files is to do, and what it did."""

    url: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """By path, what happens to the next requests: `503`, `close`, `half` (of the body), `hang`, or an address
    to redirect to. Then they are served."""
    bytes_per_s: float = math.inf
    redirect_body: bytes = b""
    """Sent gzipped with every redirect."""
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """By path, what is told besides of what is served."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by path, HEAD too."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def pending(self) -> int:
        """Faults that no one has met yet."""
        return sum(map(len, self.faults.values()))


class _Handler(RangeRequestHandler):
    def __init__(self, *args: Any, state: FileServer, **kwargs: Any) -> None:
        self.state = state
        super().__init__(*args, **kwargs)

    def do_HEAD(self) -> None:  # noqa: N802
        self.state.asked[self._plain] += 1
        super().do_HEAD()

    def do_GET(self) -> None:  # noqa: N802
        self.state.asked[self._plain] += 1
        faults = self.state.faults.get(self._plain, [])
        fault = faults.pop(0) if faults else None
        if fault is None:
            super().do_GET()
        elif fault == "503":
            self.send_error(503)
        elif fault == "half":
            self._half()
        elif "://" in fault:
            self.send_response(302)
            self.send_header("Location", fault)
            self.send_header("Content-Length", str(len(self.state.redirect_body)))
            if self.state.redirect_body:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(self.state.redirect_body)
        else:
            if fault == "hang":
                self.state.over.wait(HANG_S)
            self.close_connection = True

    def end_headers(self) -> None:
        for name, value in self.state.headers.get(self._plain, {}).items():
            self.send_header(name, value)
        super().end_headers()

    @property
    def _plain(self) -> str:
        return self.path.partition("?")[0]

    def _half(self) -> None:
        """What was asked for, announced as a whole, of which half is sent."""
        whole = Path(self.translate_path(self.path)).read_bytes()
        begin, end = 0, len(whole) - 1
        if "Range" in self.headers:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or end), end)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(whole)}")
        self.send_header("Content-Length", str(end + 1 - begin))
        self.end_headers()
        self.wfile.write(whole[begin : begin + (end + 1 - begin) // 2])
        self.close_connection = True

    def copyfile(self, source: Any, outputfile: Any) -> None:
        try:
            super().copyfile(source, self if self.state.bytes_per_s < math.inf else outputfile)
        except ConnectionError:  # GDAL has seen enough
            self.close_connection = True

    def write(self, content: bytes) -> None:
        """Send a part of a body slowly."""
        for begin in range(0, len(content), _DROP):
            self.wfile.write(content[begin : begin + _DROP])
            self.state.over.wait(_DROP / self.state.bytes_per_s)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def file_server(folder: Path) -> Iterator[FileServer]:
    """Files of a folder, by ranges."""
    state = FileServer()
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Handler, directory=str(folder), state=state)
    ) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            state.over.set()
            server.shutdown()
            thread.join()


class _Refusing(BaseHTTPRequestHandler):
    """Answers each request with one status and text."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, status: int, body: str, asked: list[str], **kwargs: Any) -> None:
        self.status, self.body, self.asked = status, body.encode(), asked
        super().__init__(*args, **kwargs)

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(f"{self.command} {self.path}")
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_GET = do_HEAD = do_POST = _answer  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@contextmanager
def refusing_server(status: int, body: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server that refuses everything, and the list of its requests."""
    asked: list[str] = []
    handler = partial(_Refusing, status=status, body=body, asked=asked)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


class _Slow(BaseHTTPRequestHandler):
    """Never done: it says nothing, or drips its header, its body, or redirects."""

    def __init__(self, *args: Any, kind: str, over: threading.Event, **kwargs: Any) -> None:
        self.kind, self.over = kind, over
        super().__init__(*args, **kwargs)

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.kind == "redirects":
            self.over.wait(0.3)
            self.send_response(302)
            self.send_header("Location", f"{self.path}x")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.kind == "busy":
            self.send_response(503)
            self.send_header("Retry-After", "3600")
            self.end_headers()
            return
        if self.kind in ("body", "silent body"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{")
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        with suppress(OSError):
            while not self.over.wait(0.1):
                if "silent" not in self.kind:
                    self.wfile.write(b" ")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None: ...


SLOW = ("silent", "header", "body", "silent body", "redirects", "busy")


@contextmanager
def slow_server(kind: str) -> Iterator[str]:
    """Yield the address of a server whose answers have no end; `kind` is one of `SLOW`."""
    over = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Slow, kind=kind, over=over)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            over.set()
            server.shutdown()
            thread.join()


class _Unsteady(BaseHTTPRequestHandler):
    """Between a client and a server: the next requests fail, the others go on to it."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, server_url: str, faults: list[str], **kwargs: Any) -> None:
        self.server_url, self.faults = server_url, faults
        super().__init__(*args, **kwargs)

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.faults.pop(0) if self.faults else None
        if fault == "close":
            self.close_connection = True
            return
        if fault:
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer = requests.request(
            self.command, self.server_url + self.path, data=body, headers=dict(self.headers), timeout=30
        )
        self.send_response(answer.status_code)
        for name in answer.headers.keys() - {"Connection", "Content-Length", "Transfer-Encoding"}:
            self.send_header(name, answer.headers[name])
        size = answer.headers["Content-Length"] if self.command == "HEAD" else len(answer.content)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@contextmanager
def unsteady(url: str, faults: list[str]) -> Iterator[str]:
    """The address of a server by a way on which each of `faults` befalls a request: a status, or `close`."""
    handler = partial(_Unsteady, server_url=url, faults=faults)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch, *buckets: str) -> Iterator[str]:
    """An S3-compatible store with buckets; the environment tells where it is and how to get in."""
    moto = pytest.importorskip(
        "moto.server", reason="needs an S3-compatible server: pip install moto[s3,server]"
    )
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_S3_ENDPOINT": f"{host}:{port}",  # as GDAL has it
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        requests.post(f"http://{host}:{port}/moto-api/reset", timeout=30)  # the store is one for the process
        for bucket in buckets:
            boto3.client("s3").create_bucket(Bucket=bucket)
        yield environment["AWS_ENDPOINT_URL"]
    finally:
        server.stop()
