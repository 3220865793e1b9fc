"""Figures of a card: thresholds by the stated rule, counts that add up, and nothing that was not measured."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.config import Engine
from pipeline.errors import BundleError
from pipeline.models.bundle import open_bundle
from pipeline.open_data.resolve import names_in_recipe
from pipeline.settings import load_settings
from pipeline.validation.detector_card import (
    DetectorMeasurement,
    Mode,
    Observations,
    measure_detector,
    write_quality,
)
from pipeline.validation.observe import Place, Seed, observe_seed


def test_what_the_shipped_detector_is_measured_on():
    file = Path(__file__).resolve().parents[2] / "configs" / "measure-detector.yaml"
    settings = load_settings(DetectorMeasurement, file)
    assert [place.name for place in settings.places] == ["a2_braunschweig", "walserberg_a8"]
    trained = set(names_in_recipe(file.with_name("train-detector.yaml")))
    kept_out = {place.scene for place in (*settings.places, *settings.negative)} - trained
    assert {place.scene for place in settings.negative} - kept_out == {"data:virginia", "data:brandenburg"}
    assert {"data:dolomites", "data:braunschweig/a2_braunschweig.tif"} <= kept_out
    assert {seed.seed for seed in settings.calibration}.isdisjoint(seed.seed for seed in settings.held_out)


def test_no_seed_is_both_fitted_and_reported():
    with pytest.raises(ValueError, match="42 is given twice"):
        DetectorMeasurement(calibration=(Seed(seed=42),), held_out=(Seed(seed=42),))
    with pytest.raises(ValueError, match="a2 is given twice"):
        DetectorMeasurement(places=(Place(name="a2", scene="x"),), negative=(Place(name="a2", scene="y"),))


def test_a_segmenter_is_refused():
    with pytest.raises(BundleError, match="landcover is for segmentation"):
        measure_detector(open_bundle("landcover"), DetectorMeasurement())


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The shipped detector, measured on two tiny simulated scenes."""
    winter = date(2023, 12, 12)
    settings = DetectorMeasurement(
        calibration=(Seed(seed=2001, size=160),),
        held_out=(Seed(seed=42, size=160),),
        low_sun=(Seed(seed=2001, size=160, day=winter),),
    )
    said: list[str] = []
    found = measure_detector(open_bundle("trucks"), settings, said.append)
    assert said == ["simulated scene 2001", "simulated scene 42", "simulated scene 2001 on 2023-12-12"]
    return found


def test_a_measured_card_has_everything_and_is_written_whole(measured, tmp_path):
    bundle = open_bundle("trucks")
    written = write_quality(measured, bundle, tmp_path / "copy")
    assert sorted(path.name for path in written.folder.iterdir()) == [
        "card.yaml",
        "quality.png",
        "weights.safetensors",
    ]
    opened = open_bundle(str(written.folder))
    assert opened.card == measured.card
    assert opened.state_dict().keys() == bundle.state_dict().keys()
    quality = yaml.safe_load((written.folder / "card.yaml").read_text())["quality"]
    assert quality["simulated_held_out"]["seeds"] == [42]
    assert quality["speed"]["seconds_per_mpx_one_thread"] > 0
    for where in ("near_roads", "everywhere"):
        assert quality["calibration"][where]["expected_error_before"] is not None
        assert quality["recall"][where]["low_sun"].keys() == {"recall", "recall_error"}
    moving = quality["moving_vehicles"]
    assert moving["simulated_held_out"].keys() == {"near_roads", "everywhere"}
    assert moving["calibration"]["near_roads"]["expected_error_after"] is not None
    assert opened.card.vehicle_calibration is not None
    assert moving["thresholds"]["near_roads"] == opened.card.vehicle_threshold_near_roads
    assert str(measured.card.score_threshold_near_roads) in quality["thresholds"]["near_roads"]
    assert open_bundle("trucks").card == bundle.card  # the shipped one is as it was


def test_motion_counts_near_roads_only(measured, tmp_path):
    """Without roads the order of detections is the network's own.

    Motion tells vehicles from the rest; it says little about which of them are heavy.
    """
    seen = observe_seed(open_bundle("trucks"), Seed(seed=2001, size=160), tmp_path, Engine(threads=1))
    vehicles = Observations((seen,), (), (), (), ()).of_vehicles()
    fitted = {near: Mode.fit(vehicles, near, 0.5).calibration for near in (False, True)}
    assert fitted[False].motion == 0 and fitted[True].motion > 0
    everywhere, near = (measured.card.calibration_for(case) for case in (False, True))
    assert everywhere.motion == 0 <= near.motion
    scores = np.linspace(0.01, 0.99, 50)
    moving = np.tile([8.0, 0.0], 25)
    assert (np.diff(everywhere.probability(scores, moving)) > 0).all()


def test_counts_are_those_of_the_evaluation(measured):
    near = measured.card.quality["simulated_held_out"]["near_roads"]
    total = near["tp"] + near["fn"]
    assert total > 0
    assert near["recall"] == pytest.approx(near["tp"] / total, abs=1e-3)
    assert np.isfinite(measured.curves["simulated"].average_precision)


def test_the_earlier_name_of_negative_scenes_is_accepted_with_a_warning(caplog):
    settings = DetectorMeasurement.model_validate({"quiet": [{"name": "a", "scene": "x"}]})
    assert settings.negative == (Place(name="a", scene="x"),)
    assert "Setting quiet is now called negative." in caplog.text
