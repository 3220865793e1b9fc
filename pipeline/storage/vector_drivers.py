"""GDAL's drivers of vector files, restricted while a file of others is open.

GDAL chooses a driver by the content of a file, and pyogrio passes no list of those that may. Some drivers
follow what a file names: other files, servers and commands (VRT, WFS, GDALG, GML). Checking the content first
is no protection, since GDAL may see more in it than the check: so the others are taken out of GDAL.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyogrio

from pipeline.environment import RASTER_DRIVERS, VECTOR_DRIVERS
from pipeline.errors import InstallationError
from pipeline.private_interfaces import register_vector_drivers

SAFE_DRIVERS = (*VECTOR_DRIVERS, "GeoJSONSeq", "ESRIJSON", "TopoJSON")
"""Drivers of formats that hold their own features. The first are those that truckscape needs."""
_SKIP = "GDAL_SKIP"


@contextmanager
def only_safe_drivers() -> Iterator[None]:
    """Leave pyogrio `SAFE_DRIVERS` within the context, in all threads; afterwards it has all again.

    The cost is 2 ms. A thread of other code that reads another format meanwhile may fail.

    Raises
    ------
    InstallationError
        If the other drivers can't be taken out.
    """
    _restriction.enter()
    try:
        yield
    finally:
        _restriction.leave()


class _Restriction:
    """The restriction of this process, and how many readers are within it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._skipped: str | None = None

    def enter(self) -> None:
        with self._lock:
            if not self._readers:
                self._restrict()
            self._readers += 1

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._release()

    def _restrict(self) -> None:
        self._skipped = pyogrio.get_gdal_config_option(_SKIP)
        skipped: list[str] = []
        for _ in range(2):  # those that the user's own setting leaves out come back at first
            skipped += _others()
            # The comma at the end keeps a single name with a space from being two.
            pyogrio.set_gdal_config_options({_SKIP: ",".join(skipped) + ","})
            register_vector_drivers()
        if others := _others():
            self._release()
            raise InstallationError(
                f"pyogrio's GDAL does not leave out its drivers {', '.join(others)}, so files of others "
                "can't be read safely. Install the version of pyogrio in constraints.txt."
            )

    def _release(self) -> None:
        pyogrio.set_gdal_config_options({_SKIP: self._skipped})
        register_vector_drivers()


def _others() -> list[str]:
    """Return the drivers that pyogrio has besides the safe ones; a GDAL shared with rasterio has its, too."""
    return sorted(set(pyogrio.list_drivers()) - {*SAFE_DRIVERS, *RASTER_DRIVERS})


_restriction = _Restriction()
