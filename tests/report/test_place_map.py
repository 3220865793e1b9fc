"""The map of a place: classes of flow, lines, and detections as columns."""

import numpy as np
import pandas as pd
import pytest

from pipeline.report import place_map
from pipeline.report.place_map import flow_classes, flow_legend, points_on_map
from pipeline.traffic.place import read_place
from tests.traffic.test_area import DATES, without_roads
from tests.traffic.test_table import FOUND


def test_classes_of_flow_are_quintiles_of_the_roads_with_trucks():
    flow = np.array([np.nan, 0, *range(1, 101)])
    assert flow_classes(flow).tolist() == [0, 21, 41, 60, 80]
    assert flow_classes(np.array([np.nan, 0.0])).tolist() == [0]
    legend = flow_legend(flow_classes(flow))
    assert [each["text"] for each in legend[:2]] == ["0 to 21", "21 to 41"]
    assert legend[-1]["text"] == "not searched"


def test_detections_keep_place_date_and_score(tmp_path, monkeypatch):
    every = read_place([without_roads(tmp_path, [FOUND.iloc[:n] for n in (1, 2, 1, 4)])]).every
    found = points_on_map(every, pd.DatetimeIndex(DATES))
    at = np.cumsum(np.reshape(found["at"], (-1, 2)), axis=0) * 1e-5
    centres = every.trucks.geometry.centroid.to_crs("EPSG:4326")
    np.testing.assert_allclose(at, np.stack([centres.x, centres.y], axis=1), atol=1e-5)
    assert found["date"] == [0, 1, 1, 2, 3, 3, 3, 3]
    assert found["score"] == [100] * 8
    assert sum(found["again"]) == every.trucks["recurring"].sum() > 0
    (area,) = found["areas"]
    west, _, _, north = every.seen.to_crs("EPSG:4326").total_bounds / 1e-5
    assert min(lon for lon, _ in area) == pytest.approx(west, abs=60)
    assert max(lat for _, lat in area) == pytest.approx(north, abs=60)
    monkeypatch.setattr(place_map, "MOST_POINTS", 3)
    few = points_on_map(every, pd.DatetimeIndex(DATES))
    assert (len(few["date"]), few["of"]) == (3, 8)
