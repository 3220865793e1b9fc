"""Private folders."""

import tempfile

import pytest

from pipeline.api.folders import private_folder
from pipeline.errors import OutputError


def test_the_folder_is_removed_also_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="stop"), private_folder() as folder:
        (folder / "deep" / "er").mkdir(parents=True)
        assert folder.parent == tmp_path
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


def test_no_place_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="Set TMPDIR"), private_folder():
        pass
