"""Finished runs on disk whose trucks are known: segments, detections and a record, without networks."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from pipeline.layers.columns import NOT_SEEN, SEEN, TRUCKS
from pipeline.layers.expected import Recall
from pipeline.layers.flow import RoadCounts, observe
from pipeline.layers.formats.export import write_geoparquet
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.traffic import detection_layer, segment_layer
from pipeline.roads.segments import split_roads
from tests.layers.test_snapping import snap, trucks

__all__ = ["trucks", "write_run"]


def write_run(
    folder, network, found, *, acquired="2023-06-13T10:20:31+00:00", recall=None, unseen=None, cloud=None,
    **record,
):  # fmt: skip
    """Write a run whose roads are searched but for the metres (S,) `unseen`, of which `cloud` are cloud."""
    folder.mkdir(parents=True)
    segments = split_roads(network, max_m=1e5)
    missing = {name: None for name in TRUCKS.columns if name not in found}
    found = found.assign(**missing | {"id": [str(number) for number in range(len(found))]})
    snapped = snap(found, segments)
    known = recall or Recall.unknown()
    shares = known.shares(snapped.trucks, 0.5)
    counts = RoadCounts.of(snapped, len(segments), shares)
    seen = segments.length.to_numpy() - (0 if unseen is None else np.array(unseen))
    clouds = None if cloud is None else np.array(cloud, float)
    layer = segment_layer(observe(counts, segments, seen), segments, seen, counts, clouds)
    counted = shares.counted
    times = snapped.trucks[counted].assign(
        scene_id=folder.name,
        acquired=pd.Timestamp(acquired) if acquired else pd.NaT,
        acquired_date=acquired[:10] if acquired else None,
    )
    ground = gpd.GeoSeries([shapely.box(*network.total_bounds).buffer(500)], crs=network.crs)
    area = gpd.GeoDataFrame({"status": ["seen"], "area_m2": ground.area}, geometry=ground)
    rest = gpd.GeoDataFrame({"reason": ["cloud"], "area_m2": ground.area / 4}, geometry=ground)
    found_layers = {
        "trucks": TRUCKS.conform(times),
        "road_segments": layer,
        "seen": SEEN.conform(area),
        "not_seen": NOT_SEEN.conform(rest),
    }
    write_gpkg(folder / "trucks.gpkg", found_layers, {})
    write_geoparquet(detection_layer(counts), folder / "detections.parquet")
    whole = {
        "scene": folder.name,
        "acquired": acquired,
        "acquisition": None,
        "finished": "2026-01-01T00:00:00Z",
        "simulated": False,
        "source": str(folder / "scene.SAFE"),
        "clouds": "scl",
        "models": {"detection": "trucks-2"},
        "counts": {"trucks": int(shares.counted.sum()), "road_segments": len(layer)},
        "expected": {"trucks": len(times) / 0.8, "low": len(times) / 1.6, "high": len(times) / 0.4},
        "recall": {
            "all": shares.missing,
            "dispersion": shares.dispersion,
            "known": shares.known,
            "share_error": shares.share_error,
        },
    }
    (folder / "run.json").write_text(json.dumps(whole | record))
    return folder


def named(network, ref=None, name=None):
    """Give a network refs and names: one each, or one for all."""
    for column, values in {"ref": ref, "name": name}.items():
        if values is not None:
            each = [values] * len(network) if isinstance(values, str) else values
            network[column] = pd.Series(each, dtype=object)
    return network
