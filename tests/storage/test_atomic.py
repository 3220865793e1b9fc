"""Files appear whole or not at all, and what killed processes leave behind goes."""

import json
import os
import subprocess

import pytest

from pipeline.errors import OutputError
from pipeline.storage.atomic import (
    remove_abandoned,
    remove_stale_outputs,
    replacing,
    replacing_folder,
    set_aside,
    temporary,
)


def test_a_file_appears_when_it_is_whole(tmp_path):
    with replacing(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert not (tmp_path / "a.txt").exists()
        assert part.parent == tmp_path
        assert part.suffix == ".txt"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_appears_when_it_is_whole(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        if folder.name == "b":
            folder.mkdir()
        with replacing_folder(folder) as part:
            (part / "a.txt").write_text("new")
            assert not (folder / "a.txt").exists()
        assert (folder / "a.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_with_files_or_after_a_failure_stays(tmp_path):
    folder = tmp_path / "a"
    with pytest.raises(OutputError, match=r"a can't be written \(No space"), replacing_folder(folder) as part:
        (part / "half.txt").write_text("half")
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(OutputError, match="not empty"), replacing_folder(folder) as part:
        (part / "new.txt").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OutputError, match="cannot be written"), replacing(tmp_path / "a.txt") as part:
        part.write_text("half")
        part.with_name(part.name + "-journal").write_text("of a driver")
        raise OSError("No space left on device")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.fixture
def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def named(path, process: int, host: str | None = None):
    """The temporary name that another process would give."""
    ours = temporary(path).name
    name = ours.replace(f"-{os.getpid()}.part", f"-{process}.part")
    return path.with_name(name if host is None else f".{path.stem}.{host}-{process}.part{path.suffix}")


def test_what_a_killed_process_left_goes(tmp_path, gone):
    left = named(tmp_path / "trucks.gpkg", gone)
    left.write_text("half")
    left.with_name(left.name + "-journal").write_text("of a driver")
    folder = named(tmp_path / "merging", gone)
    folder.mkdir()
    (folder / "status.part.tif").write_text("half")
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_at_work_stays(tmp_path, gone):
    day = 24 * 3600
    ours, parents = temporary(tmp_path / "a.tif"), named(tmp_path / "a.tif", os.getppid())
    elsewhere, long_ago = named(tmp_path / "a.tif", gone, "node7"), named(tmp_path / "b.tif", gone, "node7")
    others = [tmp_path / ".hidden", tmp_path / "a.part.tif", tmp_path / ".notes.part", tmp_path / "a.tif"]
    for path in (ours, parents, elsewhere, long_ago, *others):
        path.write_text("")
    os.utime(long_ago, (long_ago.stat().st_mtime - day - 60,) * 2)
    remove_abandoned(tmp_path)
    assert set(tmp_path.iterdir()) == {ours, parents, elsewhere, *others}


def test_there_may_be_no_folder(tmp_path):
    remove_abandoned(tmp_path / "none")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "S2A"
    (folder / ".shards").mkdir(parents=True)
    for name in ("trucks.gpkg", "trucks.fgb", "notes.txt", "../beside.txt"):
        (folder / name).write_text(name)
    return folder


def test_what_is_made_no_more_goes_and_what_users_put_there_stays(folder):
    record, previous = folder / "run.json", folder / ".shards" / "previous.json"
    record.write_text(
        json.dumps(
            {
                "scene": "S2A",
                "outputs": ["trucks.gpkg", "trucks.fgb", "gone.tif", "../beside.txt", "/etc/hostname"],
            }
        )
    )
    set_aside(record, previous)
    assert not record.exists()
    set_aside(record, previous)  # a run that died before it had a record of its own
    assert remove_stale_outputs(folder, previous, ["trucks.gpkg"]) == ["trucks.fgb"]
    assert sorted(path.name for path in folder.iterdir()) == [".shards", "notes.txt", "trucks.gpkg"]
    assert (folder / "../beside.txt").exists()
    assert not previous.exists()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"outputs": ["trucks.fgb"]}',
        '{"scene": "S2B", "outputs": ["trucks.fgb"]}',
        '{"scene": "S2A", "outputs": "trucks.fgb"}',
        '{"scene": "S2A", "outputs": {"trucks.fgb": 1}}',
        '{"scene": "S2A", "outputs": null}',
        '{"scene": "S2A", "outputs": 5}',
        "[" * 100_000,
    ],
)
def test_without_a_record_of_ours_all_stays(folder, text):
    previous = folder / ".shards" / "previous.json"
    if text is not None:
        previous.write_text(text)
    assert remove_stale_outputs(folder, previous, []) == []
    assert (folder / "trucks.fgb").exists()


def test_names_in_a_record_lead_nowhere_else(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    precious = tmp_path / "elsewhere" / "precious.txt"
    precious.write_text("")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "made.tif").write_text("")
    (folder / "linked.txt").symlink_to(precious)
    names = [
        "link/precious.txt",
        str(precious),
        "../elsewhere/precious.txt",
        "./../elsewhere/precious.txt",
        "a/../made.tif",
        "MADE.tif",
        "link",
        ".",
        "..",
        "",
        "a\x00b",
        "\ud800",
        "x" * 5000,
        "trucks.fgb/x",
        5,
        None,
        ["trucks.gpkg"],
        "linked.txt",
    ]
    previous = folder / ".shards" / "previous.json"
    previous.write_text(json.dumps({"scene": "S2A", "outputs": names}))
    assert remove_stale_outputs(folder, previous, ["made.tif"]) == ["linked.txt"]  # the link, not its file
    assert precious.exists()
    assert (folder / "made.tif").exists()
    assert (folder / "trucks.gpkg").exists()


def test_temporary_files_behind_a_link_stay(tmp_path, gone):
    left = named(tmp_path / "trucks.gpkg", gone)
    left.write_text("half")
    (tmp_path / "link").symlink_to(tmp_path)
    remove_abandoned(tmp_path / "link")
    assert left.exists()
