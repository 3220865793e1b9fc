"""While a file of others is open, GDAL has no driver that follows addresses; afterwards it has them again."""

import threading

import geopandas as gpd
import pyogrio
import pytest
import shapely

from pipeline.environment import RASTER_DRIVERS
from pipeline.errors import InstallationError
from pipeline.storage import vector_drivers
from pipeline.storage.vector_drivers import SAFE_DRIVERS, only_safe_drivers


def test_other_drivers_are_away_and_come_back(tmp_path):
    point = gpd.GeoDataFrame({"name": ["x"]}, geometry=[shapely.Point(2, 1)], crs="EPSG:4326")
    point.to_file(tmp_path / "a.kml", driver="LIBKML")
    before = set(pyogrio.list_drivers())
    with only_safe_drivers():
        assert set(pyogrio.list_drivers()) <= {*SAFE_DRIVERS, *RASTER_DRIVERS}
        with pytest.raises(pyogrio.errors.DataSourceError):
            pyogrio.read_dataframe(tmp_path / "a.kml")
    assert set(pyogrio.list_drivers()) == before >= {"OGR_VRT", "LIBKML", "WFS"}
    assert len(pyogrio.read_dataframe(tmp_path / "a.kml")) == 1


def test_the_last_reader_brings_them_back():
    inside, leave = threading.Event(), threading.Event()

    def read():
        with only_safe_drivers():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=read)
    thread.start()
    inside.wait(10)
    with only_safe_drivers():
        pass
    assert "OGR_VRT" not in pyogrio.list_drivers()
    leave.set()
    thread.join()
    assert "OGR_VRT" in pyogrio.list_drivers()


def test_a_setting_of_the_user_stays():
    pyogrio.set_gdal_config_options({"GDAL_SKIP": "DXF"})
    try:
        with pytest.raises(ZeroDivisionError), only_safe_drivers():
            _ = 1 / 0
        assert pyogrio.get_gdal_config_option("GDAL_SKIP") == "DXF"
    finally:
        pyogrio.set_gdal_config_options({"GDAL_SKIP": None})


def test_nothing_is_opened_if_a_driver_stays(monkeypatch):
    monkeypatch.setattr(vector_drivers, "register_vector_drivers", lambda: None)
    with pytest.raises(InstallationError, match=r"does not leave out .*WFS"), only_safe_drivers():
        pytest.fail("it was entered")
    monkeypatch.undo()
    with only_safe_drivers():
        assert "WFS" not in pyogrio.list_drivers()
