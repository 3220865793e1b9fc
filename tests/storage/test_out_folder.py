import json
import os

import pytest

from pipeline.errors import OutputError
from pipeline.storage import out_folder
from pipeline.storage.out_folder import (
    BESIDE_SCENES,
    ROADS,
    TRAFFIC,
    check_file,
    check_scene_folder,
    make_out,
)
from tests.conftest import only_on


def test_a_new_folder_and_that_of_an_earlier_run_are_written(tmp_path):
    check_scene_folder(tmp_path / "new", "S2A")
    folder = tmp_path / "S2A"
    folder.mkdir()
    check_scene_folder(tmp_path, "S2A")
    (folder / "roads.gpkg").write_text("of the user")
    check_scene_folder(tmp_path, "S2A")
    (folder / "run.json").write_text('{"scene": "S2A"}')
    (folder / "trucks.gpkg").write_text("")
    check_scene_folder(tmp_path, "S2A")
    (folder / "run.json").unlink()  # a run that died while it wrote layers
    (folder / ".shards").mkdir()
    check_scene_folder(tmp_path, "S2A")


@pytest.mark.parametrize("name", ["S2A", "S2A/.shards", "S2A/evaluation", "traffic.parquet", ".roads"])
@pytest.mark.parametrize("kind", ["link", "loop", "file"])
def test_links_and_files_where_folders_are_written_are_refused(tmp_path, name, kind):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "S2A").mkdir(exist_ok=True)
    place = tmp_path / name
    if name == "S2A":
        place.rmdir()
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "elsewhere" if kind == "link" else place)
    with pytest.raises(OutputError, match=r"is no folder but a link or file.*choose another --out"):
        check_scene_folder(tmp_path, "S2A", [TRAFFIC, ROADS])
    if place.parent == tmp_path and name != "S2A":
        check_scene_folder(tmp_path, "S2A")  # nothing is written there


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ('{"scene": "S2B"}', "of 'S2B'"),
        ("{}", "of 'None'"),
        ("[1]", "no JSON object"),
        ("5", "no JSON object"),
        ("null", "no JSON object"),
        ("[" * 100_000, "deeper"),
        ("", "not JSON"),
        (json.dumps({"scene": ["S2A"]}), "of"),
        (json.dumps({"scene": "x" * 5000}), "of 'xxx"),
    ],
)
def test_a_record_of_others_keeps_its_folder(tmp_path, record, why):
    (tmp_path / "S2A").mkdir()
    (tmp_path / "S2A" / "run.json").write_text(record)
    with pytest.raises(OutputError, match=rf"not the record of a run of S2A \(it is .*{why}") as caught:
        check_scene_folder(tmp_path, "S2A")
    assert len(str(caught.value)) < 600


@only_on("linux", "darwin", why="pipes")
def test_a_record_that_is_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "S2A").mkdir()
    os.mkfifo(tmp_path / "S2A" / "run.json")
    with pytest.raises(OutputError, match="is no file but"):
        check_scene_folder(tmp_path, "S2A")


def test_layers_that_no_run_has_made_are_kept(tmp_path):
    (tmp_path / "S2A").mkdir()
    (tmp_path / "S2A" / "trucks.gpkg").write_text("drawn by hand")
    with pytest.raises(OutputError, match=r"was not made by a run: it has trucks\.gpkg but no run\.json"):
        check_scene_folder(tmp_path, "S2A")


def test_a_disk_that_does_not_tell_capital_letters(tmp_path, monkeypatch):
    (tmp_path / "s2a").mkdir()
    check_scene_folder(tmp_path, "S2A")
    monkeypatch.setattr(out_folder.Path, "samefile", lambda one, other: True)
    with pytest.raises(OutputError, match="is the folder of s2a on this disk"):
        check_scene_folder(tmp_path, "S2A")
    check_scene_folder(tmp_path, "s2a")


def test_a_folder_of_results_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, why in (("file", "a file"), ("file/x", "Not a directory"), ("loop", "leads to no folder")):
        with pytest.raises(OutputError, match=rf"Can't write to .*{why}.*choose another --out"):
            make_out(tmp_path / name)
    with pytest.raises(OutputError, match="leads to no folder"):
        make_out(tmp_path / "dangling")
    with pytest.raises(OutputError, match=r"M\\xfcnchen: its name is not UTF-8"):
        make_out(tmp_path / os.fsdecode(b"M\xfcnchen"))
    with pytest.raises(OutputError, match=r"red\\x1b\[31m: its name has control characters"):
        make_out(tmp_path / "red\x1b[31m")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    make_out(tmp_path / "linked")


@only_on("linux", "darwin", why="pipes and devices")
def test_a_file_beside_scenes_is_not_written_through_a_link(tmp_path):
    check_file(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_text("")
    check_file(tmp_path / "log.jsonl")
    (tmp_path / "link").symlink_to(tmp_path / "log.jsonl")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "zero", "dangling", "pipe", "folder"):
        with pytest.raises(OutputError, match="is no file but a link, folder or device"):
            check_file(tmp_path / name)


def test_names_beside_scenes_are_small_letters():
    assert all(name == name.casefold() for name in BESIDE_SCENES)  # as `safe_id` compares them
