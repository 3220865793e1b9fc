"""Area and road length that were searched."""

import geopandas as gpd
import pytest
from shapely.geometry import LineString

from pipeline.evaluation.trucks.exposure import exposure
from pipeline.evaluation.trucks.scores import evaluate_trucks
from tests.evaluation.trucks.conftest import area
from tests.evaluation.trucks.test_scores import UTM, X, Y, boxes, labels


def test_area_that_overlaps_itself_counts_once():
    around = area((0, 0, 1000, 1000), (500, 0, 1500, 1000))
    road = gpd.GeoDataFrame(geometry=[LineString([(X, Y + 500), (X + 3000, Y + 500)])], crs=UTM)
    evaluation = evaluate_trucks(boxes(score=[]), labels(), seen=around, roads=road)
    assert exposure(evaluation.surroundings).road_km == pytest.approx(1.5)
