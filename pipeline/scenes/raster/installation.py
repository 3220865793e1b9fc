"""Check of GDAL and PROJ before a scene is opened: a broken installation is no fault of a scene."""

from __future__ import annotations

import os
import tempfile
from functools import cache

import pyogrio
import rasterio
from pyproj import Transformer
from rasterio.crs import CRS

from pipeline.environment import RASTER_DRIVERS, VECTOR_DRIVERS, home
from pipeline.errors import InstallationError

_VARIABLES = (
    *("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_SKIP", "OGR_SKIP", "GDAL_DRIVER_PATH", "GDAL_CONFIG_FILE"),
    *("PYTHONPATH", "LD_LIBRARY_PATH"),
)


@cache
def check_installation() -> None:
    """Check the temporary folder, the drivers of both GDALs, and that PROJ finds its database.

    Raises
    ------
    InstallationError
        If one of them is missing. It names the variables of the environment that may be the cause.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InstallationError(
            "No temporary folder can be written; set TMPDIR to one that can, and that has room. "
            f"Received: TMPDIR={os.environ.get('TMPDIR', '')}"
        ) from error
    missing = missing_drivers()
    if missing:
        raise InstallationError(f"GDAL has no driver {', '.join(missing)}; {advice()}")
    fault = fault_of_proj()
    if fault:
        raise InstallationError(f"PROJ can't convert coordinates ({fault}); {advice()}")


def missing_drivers() -> list[str]:
    """Return the drivers of rasterio's GDAL, and of pyogrio's, that a run needs and that are not there."""
    with rasterio.Env() as environment:
        rasters = environment.drivers()
    vectors = pyogrio.list_drivers()
    return [
        *(name for name in RASTER_DRIVERS if name not in rasters),
        *(name for name in VECTOR_DRIVERS if name not in vectors),
    ]


def fault_of_proj() -> str | None:
    """Return the fault of rasterio's or pyproj's PROJ; None if both know UTM."""
    try:
        CRS.from_epsg(32632).to_wkt()
        to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True)
        easting, northing = to_utm.transform(9.0, 0.0)
    except Exception as error:  # noqa: BLE001 each library has its own
        return " ".join(str(error).split())[:200]
    if abs(easting - 500_000) > 1 or abs(northing) > 1:  # on the central meridian, on the equator
        return f"9 degrees east on the equator is {easting:g}, {northing:g} in UTM"
    return None


def advice() -> str:
    """Return what to do about a driver or a database that is missing."""
    named = [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
    here = home()
    gdalrc = here / ".gdal" / "gdalrc" if here else None
    if gdalrc and gdalrc.is_file():
        named.append(str(gdalrc))
    reinstall = "reinstall rasterio, pyogrio and pyproj."
    if not named:
        return reinstall
    return f"unset what names another installation ({', '.join(named)}), or {reinstall}"
