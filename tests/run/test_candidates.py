"""Candidates of a run: which are trucks, which are left out, and what is expected."""

import geopandas as gpd
import pytest
from geopandas.testing import assert_geodataframe_equal

from pipeline.config import load_config
from pipeline.models.bundle import open_bundle
from pipeline.run import Request, prepare, run_directly
from tests.run.conftest import FAST


def run_of(product, out, *settings, roads=None):
    config = load_config(None, [*FAST, *settings])
    return run_directly(Request(str(product.safe), out, config, roads=roads))


def test_without_roads_trucks_and_look_alikes_are_what_a_threshold_of_ones_own_keeps(product, tmp_path):
    """The rule holds at the card's threshold only, and takes away what has no motion or is on water."""
    usual = run_of(product, tmp_path / "usual")
    threshold = usual.run["score_threshold"]
    own = run_of(product, tmp_path / "own", f"trucks.score_threshold={threshold}")
    counts = usual.run["counts"]
    assert own.run["counts"]["trucks"] == counts["trucks"] + counts["look_alikes"] > 0
    assert own.run["counts"]["look_alikes"] == 0
    left_out = gpd.read_file(usual.folder / "trucks.gpkg", layer="look_alikes")
    assert set(left_out["reason"]) <= {"water", "no_motion"} and (left_out["score"] >= threshold).all()


def test_the_expected_number_of_a_card_with_one_recall_is_the_count_over_it(product, tmp_path):
    done = run_of(product, tmp_path, "traffic.recall=0.8", roads=product.roads)
    expected, count = done.run["expected"], done.run["counts"]["trucks"]
    assert "look_alikes" not in done.run["counts"]
    assert expected["trucks"] == pytest.approx(count / 0.8, abs=1e-3)
    assert expected["low"] < expected["trucks"] < expected["high"]
    assert done.summary()["trucks"].startswith(f"{count} detected; {count / 0.8:.0f} expected (")


@pytest.mark.parametrize("with_roads", [True, False])
def test_vehicles_of_any_kind_have_all_trucks_among_them_and_change_nothing_of_these(
    product, tmp_path, with_roads
):
    roads = product.roads if with_roads else None
    wide, narrow = (
        run_of(
            product,
            tmp_path / name,
            "landcover.enabled=false",
            f"trucks.vehicle_threshold={least}",
            roads=roads,
        )
        for name, least in (("wide", 0.3), ("narrow", 1))
    )
    vehicles, trucks = (
        gpd.read_file(wide.folder / "trucks.gpkg", layer=name) for name in ("vehicles", "trucks")
    )
    assert wide.run["vehicle_threshold"] == 0.3
    assert wide.run["counts"]["vehicles"] == len(vehicles) > len(trucks) > 0
    same = vehicles[vehicles["id"].isin(trucks["id"])].reset_index(drop=True)
    assert_geodataframe_equal(same, trucks)
    others = vehicles[~vehicles["id"].isin(trucks["id"])]
    assert (others["vehicle_score"] >= 0.3).all()
    assert (others["score"] < wide.run["score_threshold"]).all()
    names = ["trucks.geojson", *(["detections.parquet"] if with_roads else [])]
    for name in names:
        assert (wide.folder / name).read_bytes() == (narrow.folder / name).read_bytes()
    assert wide.run["expected"] == narrow.run["expected"]


def test_a_detector_of_heavy_vehicles_has_no_layer_of_others_and_a_threshold_for_it_is_a_warning(
    product, tmp_path, calibrated
):
    card = open_bundle("trucks").card
    bundle = calibrated(vehicle_threshold=None, vehicle_threshold_near_roads=None)
    done = run_of(product, tmp_path / "out", "landcover.enabled=false", f"trucks.bundle={bundle}")
    assert card.vehicle_threshold is not None and done.run["vehicle_threshold"] is None
    assert "vehicles" not in done.run["counts"]
    single = calibrated(classes=card.classes[:1])
    config = load_config(None, [*FAST, f"trucks.bundle={single}", "trucks.vehicle_threshold=0.5"])
    warned = prepare(Request(str(product.safe), tmp_path / "single", config)).warnings
    assert any("trucks.vehicle_threshold=0.5 is not used" in line for line in warned)
