"""`truckscape batch`, `schedule` and `status`: one line for each mistake."""

import pytest

from tests.cli.test_app import refused


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (["batch", "--no-prefect", "--out", "OUT"], "--folder"),
        (["batch", "--folder", "/nowhere", "--no-prefect", "--out", "OUT"], "/nowhere"),
        (["batch", "--stac", "file:///etc", "--no-prefect", "--out", "OUT"], "file:///etc"),
        (["status", "OUT"], "OUT"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys, monkeypatch, tmp_path, line, named):
    out = str(tmp_path / "out")
    message = refused(capsys, monkeypatch, *(out if word == "OUT" else word for word in line))
    assert named.replace("OUT", out) in message
