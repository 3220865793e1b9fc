"""A finished run on disk whose boxes are known, without networks."""

import json

import geopandas as gpd
import numpy as np
import shapely

from pipeline.evaluation.trucks.cases import TRUCK_CASES
from pipeline.layers.formats.geopackage import write_gpkg
from tests.conftest import write_geotiff

SHAPE = 90, 120
BOXES = ((10.25, 12.5, 14.75, 15.0), (30.0, 30.5, 33.25, 34.0), (100.0, 60.0, 104.0, 62.5))
"""In pixels of the scene; the second is in the margin of the images beside its own."""


def on_map(box):
    left, top, right, bottom = box
    return shapely.box(600000 + 10 * left, 5800000 - 10 * bottom, 600000 + 10 * right, 5800000 - 10 * top)


def write_run(folder, boxes=BOXES, cases=None, crs="EPSG:32632"):
    """Write a scene, and the run of it, named by the folder."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0).integers(700, 1800, (4, *SHAPE), dtype=np.uint16)
    scene = write_geotiff(folder.parent / f"{folder.name}.tif", numbers, crs=crs)
    frame = gpd.GeoDataFrame(
        {"id": [f"t{n}" for n in range(len(boxes))], "score": [0.75] * len(boxes)},
        geometry=[on_map(box) for box in boxes],
        crs=crs,
    )
    write_gpkg(folder / "trucks.gpkg", {"trucks": frame}, {})
    record = {"scene": folder.name, "source": str(scene), "shape": list(SHAPE)}
    if cases is not None:
        fields = dict.fromkeys(TRUCK_CASES.columns)
        rows = [fields | case for case in cases]
        layer = gpd.GeoDataFrame(rows, geometry=[on_map(box) for box in boxes], crs=crs)
        (folder / "evaluation").mkdir()
        write_gpkg(folder / "evaluation" / "confusion_cases.gpkg", {"trucks": TRUCK_CASES.conform(layer)}, {})
    (folder / "run.json").write_text(json.dumps(record))
    return folder
