"""A broken installation is found before a scene is opened."""

import tempfile

import pytest

from pipeline.errors import InstallationError
from pipeline.operations.request import BatchRequest
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster import installation


@pytest.fixture(autouse=True)
def again():
    installation.check_installation.cache_clear()
    yield
    installation.check_installation.cache_clear()


def test_this_installation_is_well():
    installation.check_installation()
    assert installation.missing_drivers() == []
    assert installation.fault_of_proj() is None


def test_a_missing_driver_is_no_fault_of_the_scene(monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "RASTER_DRIVERS", ("GTiff", "NoSuch"))
    monkeypatch.setenv("GDAL_SKIP", "NoSuch")
    with pytest.raises(InstallationError, match=r"GDAL has no driver NoSuch; unset .*GDAL_SKIP=NoSuch"):
        open_scene("scene.SAFE")
    with pytest.raises(InstallationError, match="no driver NoSuch"):
        BatchRequest((), tmp_path).check()


def test_a_foreign_proj_is_named(monkeypatch):
    class Crs:
        from_epsg = staticmethod(lambda code: 1 / 0)

    monkeypatch.setattr(installation, "CRS", Crs)
    monkeypatch.setenv("PROJ_LIB", "/usr/share/proj")
    with pytest.raises(InstallationError, match=r"division by zero.*PROJ_LIB=/usr/share/proj"):
        installation.check_installation()


def test_no_temporary_folder(monkeypatch):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setenv("TMPDIR", "/gone")
    with pytest.raises(InstallationError, match=r"set TMPDIR.*Received: TMPDIR=/gone"):
        installation.check_installation()
