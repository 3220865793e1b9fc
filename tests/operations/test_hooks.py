"""The command for failures."""

import sys

from pipeline.operations.hooks import on_failure


def test_the_command_gets_the_scene_and_the_reason_from_its_environment(tmp_path):
    code = (
        "import os, pathlib\n"
        "pathlib.Path(os.environ['TRUCKSCAPE_SCENE']).write_text(os.environ['TRUCKSCAPE_REASON'])"
    )
    scene = str(tmp_path / "scene; rm")
    on_failure([sys.executable, "-c", code], scene, "/data/a.tif", "it's $broken")
    assert (tmp_path / "scene; rm").read_text() == "it's $broken"


def test_a_command_that_fails_or_is_missing_is_a_line_in_the_log(caplog):
    on_failure([], "a", "/data/a.tif", "broken")
    assert not caplog.records
    on_failure([sys.executable, "-c", "raise SystemExit(3)"], "a", "/data/a.tif", "broken")
    on_failure(["/nowhere/command"], "a", "/data/a.tif", "broken")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "/nowhere/command" in caplog.text
