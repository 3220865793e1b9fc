"""Values of options that several commands share."""

from pathlib import Path

from pipeline.cli.options import absolute, band_list


def test_bands_are_split_at_commas():
    assert band_list("B04, B03,B02") == ("B04", "B03", "B02")
    assert band_list(None) is None


def test_paths_are_absolute_for_processes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute(Path("in/../roads.gpkg")) == str(tmp_path / "roads.gpkg")
    assert absolute(None) is None
