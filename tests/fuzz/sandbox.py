"""Folders of one trial, what lies beside them, and what happened to it.

FENCE/              everything in it but `work/out` and `tmp` must be as before
  beside/           files that no command may read; each holds the text CANARY
  home/, tmp/       of the command; `tmp` must be empty afterwards
  work/             the command's working directory
    in/             the input, which a trial damages
    out/            `--out`
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CANARY = "canary-4c1e9b77"
"""Text of the files beside the work; it is in no name, so that outputs may name the files."""
_LARGE = 4 << 20
_IN_ACCESS, _IN_NONBLOCK = 0x1, 0x800

CANARY_TABLE = f'wkt,name\n"LINESTRING (600050 5900000, 600600 5899450)",{CANARY}\n'
CANARY_ITEM = f'{{"type": "Feature", "id": "{CANARY}", "assets": {{}}, "links": []}}'
CANARY_LINES = (
    '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"name": "' + CANARY + '", '
    '"highway": "primary"}, "geometry": {"type": "LineString", "coordinates": '
    "[[10.4985, 53.2398], [10.508, 53.2345]]}}]}"
)
_BESIDE = {
    "secret.txt": f"password {CANARY}\n",
    "secret.csv": CANARY_TABLE,
    "secret.json": CANARY_ITEM,
    "secret.geojson": CANARY_LINES,
    "run.json": f'{{"outputs": ["secret.txt"], "scene": "{CANARY}"}}',
}


@dataclass(frozen=True)
class Sandbox:
    """Folders of one trial."""

    fence: Path

    @classmethod
    def create(cls, fence: Path) -> Sandbox:
        """Make the folders."""
        shutil.rmtree(fence, ignore_errors=True)
        made = cls(fence)
        for folder in (made.beside, made.inputs, made.out, made.tmp, made.home):
            folder.mkdir(parents=True)
        for name, text in _BESIDE.items():
            (made.beside / name).write_text(text, encoding="utf-8")
        return made

    @property
    def beside(self) -> Path:
        return self.fence / "beside"

    @property
    def work(self) -> Path:
        return self.fence / "work"

    @property
    def inputs(self) -> Path:
        return self.work / "in"

    @property
    def out(self) -> Path:
        return self.work / "out"

    @property
    def tmp(self) -> Path:
        return self.fence / "tmp"

    @property
    def home(self) -> Path:
        return self.fence / "home"

    def environment(self) -> dict[str, str]:
        """Return the environment of the command."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "LANG", "LC_ALL", "PYTHONPATH")
        }
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        own = {"HOME": str(self.home), "TMPDIR": str(self.tmp), "NO_COLOR": "1", "COLUMNS": "400"}
        return kept | threads | own

    def snapshot(self) -> dict[str, tuple[object, ...]]:
        """Return kind, size, time and content of everything that must stay."""
        found: dict[str, tuple[object, ...]] = {}
        for folder, folders, files in _walk(self.fence):
            folders[:] = [name for name in folders if folder / name not in (self.out, self.tmp)]
            for name in (*folders, *files):
                found[str((folder / name).relative_to(self.fence))] = _state(folder / name)
        return {**found, "..": tuple(sorted(path.name for path in self.fence.parent.iterdir()))}


def _walk(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for folder, folders, files in os.walk(top):
        yield Path(folder), folders, files


def _state(path: Path) -> tuple[object, ...]:
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        return (stat.S_IFMT(facts.st_mode),)
    content = None
    if facts.st_size <= _LARGE:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    return facts.st_size, facts.st_mtime_ns, content


@contextmanager
def reads_of(folder: Path) -> Iterator[set[str]]:
    """Collect the names of the files of a folder that are read meanwhile, by inotify; Linux only."""
    names: set[str] = set()
    if sys.platform != "linux":
        yield names
        return
    library = ctypes.CDLL(None, use_errno=True)
    handle = library.inotify_init1(_IN_NONBLOCK)
    try:
        library.inotify_add_watch(handle, os.fsencode(folder), _IN_ACCESS)
        yield names
        with suppress(BlockingIOError):
            while data := os.read(handle, 1 << 16):
                names.update(_names(data))
    finally:
        os.close(handle)


def _names(data: bytes) -> Iterator[str]:
    while data:
        _, mask, _, length = struct.unpack("iIII", data[:16])
        if mask & _IN_ACCESS and length:  # no name: the folder itself was listed
            name = data[16 : 16 + length].rstrip(b"\0").decode()
            if not mask & 0x40000000:  # a folder
                yield name
        data = data[16 + length :]


@dataclass
class CanaryServer:
    """Server on loopback that no command may ask; it answers with lines of the canary."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def canary_server() -> Iterator[CanaryServer]:
    """Start the server in a thread."""
    state = CanaryServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> object:
            if self.path.startswith("/stac"):  # an API that users name, and that is none
                return self.send_error(404)
            state.asked.append(f"{self.command} {self.path}")
            body = b"" if self.command == "HEAD" else CANARY_LINES.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return self.wfile.write(body)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
