"""Columns of the vector layers and their types: one declaration, from which every layer is built.

A file has the same types whatever its scene holds, so that files of many scenes are one table.
`docs/layers.md` describes each column; a test compares it with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.printable import storable


@dataclass(frozen=True)
class Type:
    """Type of a column: its name in the documentation, and the conversion of values to it."""

    name: str
    convert: Callable[[pd.Series], Any]


@dataclass(frozen=True)
class Layer:
    """Types of a layer's columns, in order, and the type of its geometry."""

    geometry: str
    columns: Mapping[str, Type]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all columns, the geometry last."""
        return (*self.columns, "geometry")

    def conform(self, frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """Return the declared columns of a frame, in order, with the declared types.

        Raises
        ------
        KeyError
            If a column is missing.
        TypeError, ValueError
            If a value is not of its column's type.
        """
        converted = {name: kind.convert(frame[name]) for name, kind in self.columns.items()}
        return gpd.GeoDataFrame(converted, index=frame.index, geometry=frame.geometry, crs=frame.crs)


def _text(values: pd.Series) -> pd.Series:
    if isinstance(values.dtype, pd.StringDtype):
        texts = np.asarray(values.dropna().unique(), dtype=object)
        if "".join(texts).isprintable():
            return values
        return values.replace({text: storable(text) for text in texts if not text.isprintable()})
    there = values.notna().to_numpy()
    found = np.full(len(values), None, dtype=object)
    found[there] = [storable(str(value)) for value in values[there]]
    return pd.Series(found, dtype=object, index=values.index)


def _number(values: pd.Series) -> pd.Series:
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    return pd.Series(numbers, index=values.index)


def _utc(values: pd.Series) -> pd.Series:
    is_naive = pd.api.types.is_datetime64_dtype(values)  # as GDAL reads a column without a value
    return (values.dt.tz_localize("UTC") if is_naive else values).astype("datetime64[ms, UTC]")


TEXT = Type("text", _text)
NUMBER = Type("number", _number)
INTEGER = Type("integer", lambda values: values.astype("Int64"))
BOOLEAN = Type("boolean", lambda values: values.astype("boolean"))
TIME = Type("time", _utc)

TRUCKS = Layer(
    "Polygon",
    {
        "id": TEXT,
        "score": NUMBER,
        "scene_id": TEXT,
        "acquired": TIME,
        "acquired_date": TEXT,
        "heading_deg": NUMBER,
        "heading_source": TEXT,
        "axis_deg": NUMBER,
        "speed_kmh": NUMBER,
        "speed_kmh_sigma": NUMBER,
        "msi_detector": INTEGER,
        "band_order": TEXT,
        "landcover": TEXT,
        "road_id": TEXT,
        "road_class": TEXT,
        "segment_id": TEXT,
        "near_cloud": BOOLEAN,
        "touches_edge": BOOLEAN,
        "model": TEXT,
    },
)
TRUCKS_AMONG_VEHICLES = Layer("Polygon", {**TRUCKS.columns, "vehicle_score": NUMBER})
"""The layers `trucks` and `vehicles` of a detector that knows light vehicles, too."""
ROAD_SEGMENTS = Layer(
    "LineString",
    {
        "segment_id": TEXT,
        "road_id": TEXT,
        "road_class": TEXT,
        "name": TEXT,
        "ref": TEXT,
        "oneway": INTEGER,
        "lanes": INTEGER,
        "maxspeed": TEXT,
        "hidden": TEXT,
        "length_m": NUMBER,
        "azimuth_deg": NUMBER,
        "seen_km": NUMBER,
        "cloud_km": NUMBER,
        "count": INTEGER,
        "count_forward": INTEGER,
        "count_backward": INTEGER,
        "count_unresolved": INTEGER,
        "trucks_per_km": NUMBER,
        "expected": NUMBER,
        "expected_low": NUMBER,
        "expected_high": NUMBER,
        "mean_speed_kmh": NUMBER,
        "speed_se_kmh": NUMBER,
        "flow_per_hour": NUMBER,
        "flow_low": NUMBER,
        "flow_high": NUMBER,
        "flow_forward": NUMBER,
        "flow_backward": NUMBER,
    },
)
DETECTIONS = Layer(
    "Polygon",
    {
        **TRUCKS.columns,
        "direction": INTEGER,
        "counted": BOOLEAN,
        "chance": NUMBER,
        "recall": NUMBER,
        "recall_group": INTEGER,
        "recall_error": NUMBER,
    },
)
"""The file `detections.parquet`: all that counts of trucks on roads are made of."""
LANDCOVER = Layer("Polygon", {"class": INTEGER, "name": TEXT, "colour": TEXT, "area_m2": NUMBER})
LANDCOVER_WITH_CONFIDENCE = Layer("Polygon", {**LANDCOVER.columns, "confidence": NUMBER})
"""The layer `landcover` of a run with `landcover.probabilities`."""
SEEN = Layer("Polygon", {"status": TEXT, "area_m2": NUMBER})
NOT_SEEN = Layer("Polygon", {"reason": TEXT, "area_m2": NUMBER})
LOOK_ALIKES = Layer("Polygon", {"score": NUMBER, "reason": TEXT})
LAYERS: Mapping[str, Layer] = {
    "trucks": TRUCKS,
    "vehicles": TRUCKS_AMONG_VEHICLES,
    "look_alikes": LOOK_ALIKES,
    "road_segments": ROAD_SEGMENTS,
    "landcover": LANDCOVER,
    "seen": SEEN,
    "not_seen": NOT_SEEN,
}
"""Layers of a run, by name."""
