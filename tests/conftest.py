"""Fixtures that several test modules share."""

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import settings
from rasterio.transform import from_origin

from pipeline.processes import configure_process
from pipeline.simulation.simulate import SimulatedProduct, simulate

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("truckscape", settings(), deadline=None)
settings.load_profile("truckscape")
configure_process()

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
NEEDS_IMAGERY = "needs the real imagery of"


def only_on(*systems: str, why: str) -> pytest.MarkDecorator:
    """Skip a test on other systems than these, named as in `sys.platform`; `why` says what they lack."""
    return pytest.mark.skipif(not sys.platform.startswith(systems), reason=f"needs {why}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imagery beside the project; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{NEEDS_IMAGERY} {SHARED}, which is not on this machine")
    return SHARED


def pytest_terminal_summary(terminalreporter) -> None:
    """Say in one line how many tests were skipped for want of the real imagery."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    count = sum(NEEDS_IMAGERY in reason for reason in skipped)
    if count:
        terminalreporter.write_line(
            f"{count} tests skipped: they need the real imagery of ../shared/data (see CONTRIBUTING.md)"
        )


@pytest.fixture(scope="session")
def product(tmp_path_factory) -> SimulatedProduct:
    """A simulated product of 256 x 256 pixels with its truth; nothing was trained on its seed."""
    return simulate(tmp_path_factory.mktemp("product"), size=256, seed=77)


def write_geotiff(path: Path, numbers: np.ndarray, crs: str | None = "EPSG:32632", described=True) -> Path:
    """A four-band GeoTIFF of Sentinel-2 numbers, (4, H, W) uint16, 0 = nodata."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=numbers.shape[1],
        width=numbers.shape[2],
        count=4,
        dtype="uint16",
        nodata=0,
        crs=crs,
        transform=from_origin(600000, 5800000, 10, 10),
    ) as dataset:
        dataset.write(numbers)
        if described:
            dataset.descriptions = ("B02", "B03", "B04", "B08")
    return path
