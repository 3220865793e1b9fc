from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from pipeline.inference.predictions import CLOUD, NO_ROAD, NODATA, SEEN, SHADOW
from pipeline.layers.search_area import seen_layers


def write_status(path: Path, codes: np.ndarray) -> Path:
    rows, cols = codes.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=rows, width=cols, crs="EPSG:32632",
        transform=Affine(10, 0, 600_000, 0, -10, 5_800_000),
    ) as target:  # fmt: skip
        target.write(codes.astype(np.uint8), 1)
    return path


def test_seen_and_not_seen_cover_the_scene_once(tmp_path):
    codes = np.array([[SEEN, SEEN, CLOUD], [SEEN, NO_ROAD, CLOUD], [SHADOW, NODATA, SEEN]])
    seen, not_seen, fraction = seen_layers(write_status(tmp_path / "status.tif", codes))
    assert seen.crs.to_epsg() == not_seen.crs.to_epsg() == 32632
    assert seen[["status", "area_m2"]].values.tolist() == [["seen", 300.0], ["seen", 100.0]]
    assert sorted(not_seen[["reason", "area_m2"]].values.tolist()) == [
        ["cloud", 200.0], ["no_road", 100.0], ["nodata", 100.0], ["shadow", 100.0],
    ]  # fmt: skip
    both = np.concatenate([seen.geometry.values, not_seen.geometry.values])
    assert shapely.coverage_is_valid(both)
    assert shapely.union_all(both).equals(shapely.box(600_000, 5_799_970, 600_030, 5_800_000))
    assert fraction == pytest.approx(4 / 9)


@pytest.mark.parametrize(("code", "fraction", "rows"), [(SEEN, 1.0, (1, 0)), (NODATA, 0.0, (0, 1))])
def test_a_scene_of_one_kind(tmp_path, code, fraction, rows):
    status = write_status(tmp_path / "status.tif", np.full((1, 1), code))
    seen, not_seen, share = seen_layers(status)
    assert (len(seen), len(not_seen)) == rows
    assert list(seen.columns) == ["status", "area_m2", "geometry"]
    assert list(not_seen.columns) == ["reason", "area_m2", "geometry"]
    assert share == fraction
