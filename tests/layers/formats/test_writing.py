"""Errors of writing."""

import pytest

from pipeline.errors import OutputError
from pipeline.layers.formats.export import write_formats
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.formats.writing import replacing
from pipeline.storage.untrusted_vectors import layer_names, read_layer
from tests.layers.formats.test_geojson import trucks
from tests.storage.test_vector_sources import NAMES


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


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_written(tmp_path, name):
    folder = tmp_path / (name if name != "." else "a")
    folder.mkdir()
    write_gpkg(folder / f"{name}.gpkg", {"trucks": trucks(), "more": trucks()}, {})
    write_formats({"trucks": trucks()}, folder, ("flatgeobuf", "geojson"))
    expected = {f"{name}.gpkg", "trucks.fgb", "trucks.geojson"}
    assert {file.name for file in folder.iterdir() if file.is_file() and not file.is_symlink()} == expected
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert layer_names(folder / f"{name}.gpkg", "Trucks")[:2] == ["trucks", "more"]
    assert len(read_layer(folder / "trucks.fgb", "Trucks", "points")) == len(trucks())
