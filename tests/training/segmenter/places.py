"""A small scene with labels, for tests."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from shapely import box

SIDE, WEST, NORTH = 128, 500_000, 5_000_000
BANDS = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def imagery(tmp_path_factory) -> Path:
    """Four bands, bright in the odd 32 px squares of a chessboard; no data in the last 8 rows."""
    path = tmp_path_factory.mktemp("imagery") / "scene.tif"
    rows, cols = np.mgrid[:SIDE, :SIDE] // 32
    numbers = np.where((rows + cols) % 2, 4000, 500).astype(np.uint16)
    numbers[-8:] = 0
    with rasterio.open(path, "w", **profile("uint16", 4), nodata=0) as target:
        target.write(np.repeat(numbers[None], 4, axis=0))
        target.descriptions = BANDS
    return path


def profile(dtype: str, count: int = 1) -> dict:
    return {
        "driver": "GTiff",
        "height": SIDE,
        "width": SIDE,
        "count": count,
        "dtype": dtype,
        "crs": "EPSG:32633",
        "transform": from_origin(WEST, NORTH, 10, 10),
    }


def square(row: int, col: int, rows: int = 32, cols: int = 32):
    left, top = WEST + 10 * col, NORTH - 10 * row
    return box(left, top - 10 * rows, left + 10 * cols, top)


def write_polygons(path: Path, labels: list[str], shapes: list, column: str = "class") -> Path:
    gpd.GeoDataFrame({column: labels}, geometry=shapes, crs="EPSG:32633").to_file(path)
    return path


@pytest.fixture
def chessboard(tmp_path) -> Path:
    """Every square with its class."""
    squares = [(row, col) for row in range(4) for col in range(4)]
    return write_polygons(
        tmp_path / "labels.gpkg",
        ["orchard" if (row + col) % 2 else "water" for row, col in squares],
        [square(32 * row, 32 * col) for row, col in squares],
    )
