"""Fixtures that the tests of truck evaluation share."""

import geopandas as gpd
import pytest
from shapely.geometry import LineString, box

from pipeline.evaluation.trucks.scores import evaluate_trucks
from tests.evaluation.trucks.test_scores import UTM, X, Y, boxes, labels


def area(*bounds, **columns):
    return gpd.GeoDataFrame(
        columns, geometry=[box(X + a, Y + b, X + c, Y + d) for a, b, c, d in bounds], crs=UTM
    )


@pytest.fixture(scope="module")
def measured():
    """Three labels in 10 km x 10 km: two found, one missed, and two false alarms."""
    return evaluate_trucks(
        boxes(
            (0, 0),
            (1000, 0),
            (1100, 0),
            (4000, 4000),
            score=[0.9, 0.8, 0.6, 0.3],
            heading_deg=[90, 270, 90, 0],
            speed_kmh=[83, 76, 50, 50],
            speed_kmh_sigma=[5, 3, 3, 3],
        ),
        labels((0, 0), (1000, 0), (2000, 0), travel=[90, 90, 90], speed=[80, 80, 80]),
        seen=area((-5000, -5000, 5000, 5000)),
        roads=gpd.GeoDataFrame(
            {"road_class": ["motorway", "track"]},
            geometry=[
                LineString([(X - 9000, Y), (X + 9000, Y)]),
                LineString([(X + 4000, Y + 3990), (X + 4000, Y + 4010)]),
            ],
            crs=UTM,
        ),
    )
