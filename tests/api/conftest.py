"""A scene, its roads and its trucks, which the tests of this folder share."""

import geopandas as gpd
import pytest

import truckscape as ts

FAST = {"engine.threads": 1, "tiling.tile_px": 128, "tiling.shards": 2, "landcover.enabled": False}
BANDS = ["B02", "B03", "B04", "B08"]


@pytest.fixture(scope="package")
def scene(product) -> ts.Scene:
    return ts.open(product.safe)


@pytest.fixture(scope="package")
def roads(product) -> gpd.GeoDataFrame:
    return gpd.read_file(product.roads)


@pytest.fixture(scope="package")
def array(scene):
    return scene.to_xarray(bands=BANDS)


@pytest.fixture(scope="package")
def result(scene, roads, tmp_path_factory) -> ts.Result:
    """The run of the scene, near roads, with land cover."""
    return ts.run(scene, tmp_path_factory.mktemp("layers"), roads=roads, settings={"engine.threads": 1})
