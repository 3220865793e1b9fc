"""Downloads from folders and real servers on loopback, some of which fail."""

import hashlib
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from pipeline.errors import OpenDataError, OpenDataUnreachableError, OutputError
from pipeline.open_data import download
from pipeline.open_data.download import NotThereError, retrieve
from tests.open_data.datasets import files_below
from tests.servers import file_server, refusing_server, slow_server

CONTENT = np.random.default_rng(1).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@pytest.fixture
def served(tmp_path):
    """A folder with a file, `a b.bin`."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a b.bin").write_bytes(CONTENT)
    return folder


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "a.bin"


def get(address: str, target, sha256=SHA256, size=SIZE) -> list[int]:
    """Retrieve, and return the bytes that were reported."""
    came: list[int] = []
    retrieve(address, target, sha256, size, came.append)
    return came


def test_from_a_folder_and_a_file_url(served, target):
    for address in (str(served / "a b.bin"), (served / "a b.bin").as_uri()):
        came = get(address, target)
        assert target.read_bytes() == CONTENT
        assert came == sorted(came)
        assert came[-1] == SIZE
        target.unlink()


def test_from_a_server_that_breaks_off_twice_and_is_busy(served, target):
    with file_server(served) as server:
        server.faults["/a%20b.bin"] = ["half", "503", "half"]
        came = get(f"{server.url}/a%20b.bin", target)
        assert server.pending == 0
    assert target.read_bytes() == CONTENT
    assert came == sorted(came)  # it was resumed, not begun from the start
    assert files_below(target.parent) == ["a.bin"]


def test_from_a_server_that_knows_no_ranges(served, target):
    breaks = [True]

    class Plain(SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile):
            content = source.read()
            outputfile.write(content[:1000] if breaks else content)
            breaks.clear()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Plain, directory=str(served))) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        get(f"http://127.0.0.1:{server.server_port}/a%20b.bin", target)
        server.shutdown()
    assert not breaks
    assert target.read_bytes() == CONTENT


def test_a_server_that_always_breaks_off(served, target, monkeypatch):
    monkeypatch.setattr(download, "_PAUSES_S", (0.0, 0.0))
    with file_server(served) as server:
        server.faults["/a%20b.bin"] = ["close"] * 9
        with pytest.raises(
            OpenDataUnreachableError, match=r"a%20b\.bin can't be fetched \(no answer, or it broke"
        ):
            get(f"{server.url}/a%20b.bin", target)
        assert server.asked["/a%20b.bin"] == 3
    assert files_below(target.parent) == []


def test_a_server_that_drips(target, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE_S", 0.5)
    with slow_server("body") as url, pytest.raises(OpenDataUnreachableError, match="less than 10 kB/s"):
        get(url, target)
    assert files_below(target.parent) == []


@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_refusal_is_not_tried_again(target, status):
    with refusing_server(status) as (url, asked):
        with pytest.raises(NotThereError, match=f"HTTP status {status}"):
            get(f"{url}/a.bin", target)
        assert len(asked) == 1
    assert files_below(target.parent) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/nowhere/a.bin", "/nowhere/a.bin can't be read (No such file or directory)"),
        ("https://", "https:// can't be fetched: it names no host"),
        ("http://127.0.0.1:0/a", "can't be fetched: its port is no number"),
    ],
)
def test_no_such_place(target, address, message):
    with pytest.raises(NotThereError, match=re.escape(message)):
        get(address, target)


def test_another_file_than_expected_is_not_kept(served, target):
    (served / "a b.bin").write_bytes(CONTENT[:-1] + b"x")
    with file_server(served) as server:
        for address in (str(served / "a b.bin"), f"{server.url}/a%20b.bin"):
            with pytest.raises(
                OpenDataError, match=f"is not the file of the catalogue: its SHA-256 is not {SHA256}"
            ):
                get(address, target)
            for size, found in ((10, "larger"), (SIZE + 1, "1000000 bytes")):
                with pytest.raises(OpenDataError, match=f"its size is {found}, not {size} bytes"):
                    get(address, target, size=size)
    assert files_below(target.parent) == []


def test_a_folder_that_cant_be_written(served, target):
    target.parent.rmdir()
    target.parent.write_text("a file")
    with pytest.raises(OutputError, match=r"a\.bin cannot be written"):
        get(str(served / "a b.bin"), target)
