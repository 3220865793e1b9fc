"""Boxes larger than a truck, and more of them than fit into a place."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from shapely.geometry import box

from pipeline.errors import LabelsError
from pipeline.evaluation.labels import checked_predicted_trucks, checked_truck_labels
from pipeline.evaluation.plausible_boxes import odd_sizes, too_large, too_many
from pipeline.input_warnings import collected_warnings

UTM = "EPSG:32632"


def boxes(*sides, crs=UTM):
    shapes = [box(6e5 + 5e3 * n, 58e5, 6e5 + 5e3 * n + side, 58e5 + 20) for n, side in enumerate(sides)]
    return gpd.GeoDataFrame({"id": [f"t{n}" for n in range(len(sides))]}, geometry=shapes, crs=UTM).to_crs(
        crs
    )


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:4979", "+proj=utm +zone=32 +units=us-ft"])
def test_sides_are_metres_in_any_crs(crs):
    frame = boxes(30, 900, 1200, 2e6, crs=crs)
    assert too_large(frame).tolist() == [False, False, True, True]
    assert odd_sizes(frame.iloc[:1]) == []
    assert odd_sizes(frame.iloc[1:2])[0].startswith(("boxes are 899", "boxes are 900"))


def test_a_continent_among_labels_and_detections_is_left_out_with_a_warning(tmp_path):
    boxes(30, 2e6, 40).to_file(tmp_path / "l.gpkg")
    for read, what in (
        (checked_truck_labels, "Truck labels"),
        (checked_predicted_trucks, "Predicted trucks"),
    ):
        with collected_warnings() as said:
            frame, left_out = read(tmp_path / "l.gpkg")
        assert frame["id"].tolist() == ["t0", "t2"] and left_out.as_dict() == {"larger_than_1_km": 1}
        assert (
            len(said) == 1 and f"{what}: 1 left out, larger than 1 km (the first: id t1, x 605000" in said[0]
        )
    boxes(2e6).to_file(tmp_path / "one.gpkg")
    with pytest.raises(LabelsError, match=r"no polygon of .*one\.gpkg can be used: 1 larger than 1 km"):
        checked_truck_labels(tmp_path / "one.gpkg")


def test_boxes_of_hundreds_of_metres_are_a_warning(tmp_path):
    boxes(500, 600).to_file(tmp_path / "l.gpkg")
    with collected_warnings() as said:
        assert len(checked_truck_labels(tmp_path / "l.gpkg")[0]) == 2
    assert len(said) == 1 and "boxes are 550 m across (median); a box is drawn around one truck" in said[0]


def test_more_labels_than_trucks_fit_in_a_place_are_left_out_and_detections_stay(tmp_path):
    x = 6e5 + np.arange(500) / 100
    frame = gpd.GeoDataFrame(geometry=shapely.box(x, 58e5, x + 30, 58e5 + 20), crs=UTM)
    assert (~too_many(frame)).sum() == 16
    assert (~too_many(frame.assign(scene_id=["a", "b"] * 250))).sum() == 32
    frame.to_file(tmp_path / "l.gpkg")
    with collected_warnings() as said:
        assert len(checked_truck_labels(tmp_path / "l.gpkg")[0]) == 16
        assert len(checked_predicted_trucks(tmp_path / "l.gpkg")[0]) == 500
    assert len(said) == 1 and "484 left out, more than trucks fit there" in said[0]
