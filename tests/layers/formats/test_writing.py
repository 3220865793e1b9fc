"""Errors of writing."""

import pytest

from pipeline.errors import OutputError
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.formats.writing import replacing
from tests.layers.formats.test_geojson import trucks


def test_an_unwritable_place_is_named_and_keeps_what_was_there(tmp_path):
    with pytest.raises(OutputError, match=r"trucks\.gpkg cannot be written"):
        write_gpkg(tmp_path / "missing" / "trucks.gpkg", {"trucks": trucks()}, {})
    old = tmp_path / "trucks.gpkg"
    old.write_text("old")
    with pytest.raises(OutputError, match="disk full"), replacing(old) as part:
        part.write_text("half")
        part.with_name(f"{part.name}-journal").touch()
        raise OSError("disk full")
    assert old.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["trucks.gpkg"]
