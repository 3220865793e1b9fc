"""What a previous run made and the next one does not goes, and nothing else."""

import json

import pytest

from pipeline.storage.atomic import remove_stale_outputs, set_aside


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
        json.dumps({"outputs": ["trucks.gpkg", "trucks.fgb", "gone.tif", "../beside.txt", "/etc/hostname"]})
    )
    set_aside(record, previous)
    assert not record.exists()
    set_aside(record, previous)  # a run that died before it had a record of its own
    assert remove_stale_outputs(folder, previous, ["trucks.gpkg"]) == ["trucks.fgb"]
    assert sorted(path.name for path in folder.iterdir()) == [".shards", "notes.txt", "trucks.gpkg"]
    assert (folder / "../beside.txt").exists()
    assert not previous.exists()


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_without_a_record_of_ours_all_stays(folder, text):
    previous = folder / ".shards" / "previous.json"
    if text is not None:
        previous.write_text(text)
    assert remove_stale_outputs(folder, previous, []) == []
    assert (folder / "trucks.fgb").exists()
