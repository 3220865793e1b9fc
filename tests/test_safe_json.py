import json
import os
import socket
import threading
from pathlib import Path

import pytest

from pipeline import safe_json
from pipeline.safe_json import parse_json, read_given, read_json, read_json_object
from tests.conftest import only_on


def test_json_is_read_with_and_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.json"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + '{"a": [1, "ü", null]}'.encode())
        assert read_json(path) == read_json_object(path) == {"a": [1, "ü", None]}


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_deep_json_is_refused():
    assert parse_json(nested(100)) is not None
    for levels in (101, 900, 100_000):
        with pytest.raises(ValueError, match="deeper than 100 levels"):
            parse_json(nested(levels))
    with pytest.raises(ValueError, match="deeper than 100 levels"):
        parse_json('{"a":' * 500 + "1" + "}" * 500)
    assert parse_json(json.dumps([[1, 2]] * 1000)) == [[1, 2]] * 1000


@pytest.mark.parametrize("content", [b"", b"[" * 9, b"\xff\xfe", b"1" * 5000, b"<html>", b'{"a":1}x'])
def test_what_is_no_json_is_a_value_error(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^is not JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", ["[]", "5", "null", '"a"', "true"])
def test_another_value_than_an_object_is_a_value_error(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="is no JSON object"):
        read_json_object(tmp_path / "a.json")


def test_a_large_file_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(7 * 2**30)
    with pytest.raises(ValueError, match="larger than 17 MB"):
        read_json(path)


@only_on("linux", "darwin", why="pipes and devices as files")
def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "zero"):
        with pytest.raises(ValueError, match="is no file but"):
            read_json(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(tmp_path / "socket"))
        for path in (tmp_path / "socket", tmp_path / "loop", tmp_path):
            with pytest.raises((OSError, ValueError)):
                read_json(path)


@only_on("linux", "darwin", why="named pipes")
def test_a_pipe_is_read_if_somebody_writes_and_not_waited_for_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_json, "_PIPE_S", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=r"from which nothing came in 0.2 s"):
        read_given(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"x" * 200_000))
    writer.start()
    assert read_given(pipe) == b"x" * 200_000
    writer.join()
    assert read_given(Path("/dev/null")) == b""
    with pytest.raises(ValueError, match="is larger than 0 MB"):
        read_given(Path("/dev/zero"), 1000)
    with pytest.raises(ValueError, match="is no file but a folder"):
        read_given(tmp_path)
