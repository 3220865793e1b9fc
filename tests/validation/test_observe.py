"""Detections of a detector on reference places."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from pydantic import ValidationError
from shapely import box

from pipeline.config import Engine
from pipeline.models.bundle import Calibration, open_bundle
from pipeline.validation.card_metrics import detector_metrics
from pipeline.validation.observe import Place, Seed, observe_place, observe_seed, pool
from tests.validation.test_card_metrics import observed


def test_pooled_places_add_up_and_never_match_each_other():
    one, other = observed({0: 0.9}, [1000]), observed({1000: 0.9}, [0])
    together = pool("both", [one, other])
    found = detector_metrics(together.evaluate(near_roads=True))
    assert [found[key] for key in ("tp", "fp", "fn")] == [0, 2, 2]
    assert together.km2 == pytest.approx(200)
    assert pool("both", [one, observed({}, [], roads=False)]).roads is None


def test_as_vehicles_all_labels_count_and_the_score_is_that_of_any_vehicle():
    place = observed({0: 0.2, 1000: 0.9}, [0, 1000])
    place = replace(place, reference=place.reference.assign(vehicle=["light", "heavy"]))
    place = replace(place, trucks=place.trucks.assign(vehicle_score=[0.8, 0.95]))
    vehicles = place.of_vehicles()
    assert vehicles.trucks["score"].tolist() == [0.8, 0.95]
    found = detector_metrics(vehicles.evaluate(near_roads=True, threshold=0.5))
    assert [found[key] for key in ("tp", "fp", "fn")] == [2, 0, 0]
    alone = replace(place, trucks=place.trucks.drop(columns="vehicle_score")).of_vehicles()
    assert alone.trucks["score"].tolist() == [0.2, 0.9]


def test_a_seed_is_observed_on_its_own_date_and_on_a_given_one(tmp_path):
    bundle, engine, day = open_bundle("trucks"), Engine(threads=1), date(2023, 12, 20)
    seeds = [Seed(seed=3, size=128), Seed(seed=3, size=128, day=day)]
    own, given = (observe_seed(bundle, seed, tmp_path, engine) for seed in seeds)
    assert [own.name, given.name] == ["seed_3", "seed_3_2023-12-20"]
    assert given.roads.geometry.geom_equals_exact(own.roads.geometry, 1e-6).all()
    assert given.shadow > 3 > own.shadow
    with pytest.raises(ValidationError, match="2015-06-23"):
        Seed(seed=3, day=date(1970, 1, 1))


@pytest.fixture
def a2(shared_data, monkeypatch):
    """A real chip with 17 firm trucks, by its names in the catalogue."""
    monkeypatch.setenv("TRUCKSCAPE_DATA", str(shared_data))
    labels = Path("data:braunschweig/a2_braunschweig_trucks.gpkg")
    return Place(name="whole", scene="data:braunschweig/a2_braunschweig.tif", labels=labels)


def test_only_what_lies_within_the_polygons_is_observed(a2, tmp_path):
    engine, bundle = Engine(threads=1), open_bundle("trucks")
    whole = observe_place(bundle, a2, tmp_path, engine)
    left, bottom, right, top = whole.seen.total_bounds
    half = gpd.GeoDataFrame(geometry=[box(left, bottom, (left + right) / 2, top)], crs=whole.seen.crs)
    half.to_file(tmp_path / "half.gpkg")
    place = a2.model_copy(update={"name": "half", "within": tmp_path / "half.gpkg"})
    part = observe_place(bundle, place, tmp_path, engine)
    assert part.km2 == pytest.approx(whole.km2 / 2, rel=0.02)
    assert 0 < len(part.trucks) < len(whole.trucks)
    counts = [
        sum(detector_metrics(item.evaluate(False, 0.5))[key] for key in ("tp", "fn"))
        for item in (part, whole)
    ]
    assert 0 < counts[0] < counts[1] == 17


def test_scores_are_the_networks_own_whatever_the_card_says(a2, tmp_path):
    """Else measuring a bundle twice would calibrate what is calibrated."""
    bundle, engine = open_bundle("trucks"), Engine(threads=1)
    other = Calibration(temperature=3.0, offset=-2.0)
    cautious = bundle.card.model_copy(update={"calibration": other, "calibration_near_roads": other})
    scores = [
        observe_place(item, a2, tmp_path / name, engine).trucks["score"].tolist()
        for name, item in (("own", bundle), ("cautious", bundle.model_copy(update={"card": cautious})))
    ]
    assert scores[0] == scores[1]


def test_calibration_changes_scores_and_nothing_else():
    before = observed({0: 0.9, 1000: 0.5}, [0])
    after = before.calibrated(Calibration(temperature=2.0))
    assert after.trucks["score"].tolist() == pytest.approx([0.75, 0.5])
    assert after.trucks.drop(columns="score").equals(before.trucks.drop(columns="score"))
    assert before.trucks["score"].tolist() == [0.9, 0.5]


def test_scores_are_calibrated_for_the_shadows_of_the_place():
    summer = observed({0: 0.5}, [0])
    winter = replace(summer, shadow=2.0)
    calibration = Calibration(shadow=np.log(3.0))
    assert [each.calibrated(calibration).trucks["score"].item() for each in (summer, winter)] == [0.5, 0.75]


def test_what_is_seen_to_move_is_believed_more():
    still = observed({0: 0.5, 1000: 0.5}, [0])
    moving = replace(still, trucks=still.trucks.assign(evidence=[0.0, 2.0]))
    odds = moving.calibrated(Calibration(motion=np.log(2.0))).trucks["score"] / 0.5
    assert odds.tolist() == pytest.approx([1.0, 0.8 / 0.5])
