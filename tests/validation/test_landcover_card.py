"""A land-cover model's card: what is fitted, what is reported, and against what."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from pipeline import cli
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import open_bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.registry import build_network
from pipeline.open_data.catalogue import catalogue
from pipeline.open_data.resolve import names_in, split
from pipeline.settings import load_settings
from pipeline.validation import landcover_card
from pipeline.validation.landcover_card import (
    LandcoverMeasurement,
    measure_landcover,
    write_landcover_quality,
)
from pipeline.validation.landcover_places import LandcoverPlace, ObservedLandcover
from tests.conftest import write_geotiff
from tests.models.test_unet import small_card

BANDS = ("B02", "B03", "B04", "B08")
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "measure-landcover.yaml"


def place(name: str, scene: str = "", **changes) -> LandcoverPlace:
    return LandcoverPlace(name=name, scene=scene or f"{name}.tif", **{"level": "L1C", **changes})


def test_what_the_shipped_model_is_measured_on():
    settings = load_settings(LandcoverMeasurement, CONFIG)
    assert settings.places and settings.calibration and settings.teacher
    assert len(settings.teacher.mean) == len(settings.teacher.bands) == 9
    known = catalogue()
    for name in names_in(settings):
        assert known.select(*split(name)), name


def test_no_place_is_both_fitted_and_reported():
    with pytest.raises(ValidationError, match="each place is measured once; a is given twice"):
        LandcoverMeasurement(places=(place("a"),), calibration=(place("a", "b.tif"),))
    with pytest.raises(ValidationError, match=r"once; a\.tif is given twice"):
        LandcoverMeasurement(places=(place("a"),), calibration=(place("b", "a.tif"),))
    half = place("b", "a.tif", within=((0, 0, 5, 5),))
    assert LandcoverMeasurement(places=(place("a"),), calibration=(half,))
    with pytest.raises(ValidationError, match="pairs name places; c is none of a, b"):
        LandcoverMeasurement(places=(place("a"), place("b")), pairs=(("a", "c"),))


def test_a_detector_is_refused_and_so_is_nothing():
    with pytest.raises(BundleError, match="trucks is for detection"):
        measure_landcover(open_bundle("trucks"), LandcoverMeasurement(places=(place("a"),)))
    with pytest.raises(ConfigError, match=r"Give them, e\.g\. --config configs/measure-landcover"):
        measure_landcover(open_bundle("landcover"), LandcoverMeasurement())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(3)
    card = small_card(bands=BANDS, mean=(0.1,) * 4, std=(0.05,) * 4, optional_bands=("B04", "B08"))
    card = with_halo(card).model_copy(update={"quality": {"cross_validation": {"folds": 4}, "speed": 1}})
    return save_bundle(tmp_path_factory.mktemp("bundle"), card, build_network(card).state_dict())


def observed(name: str, level: str, right: int, **changes) -> ObservedLandcover:
    """A map of 10 pixels of trees, of which the teacher calls so many trees and the others grass."""
    teacher = np.array([[1] * right + [2] * (10 - right)], np.uint8)
    values = {
        "bands": BANDS,
        "found": np.ones((1, 10), np.uint8),
        "teacher": teacher,
        "labels": None,
        "without": {},
        "logits": np.eye(9, dtype=np.float32)[np.ones(10, int)] * 3,
        "truth": teacher[0],
    }
    return ObservedLandcover(name=name, level=level, **{**values, **changes})


@pytest.fixture
def quick(monkeypatch):
    """Measures maps that are given by name instead of networks on scenes."""
    maps = {}
    monkeypatch.setattr(landcover_card, "OpenPlace", SimpleNamespace(of=lambda place: place))
    monkeypatch.setattr(landcover_card, "observe_landcover", lambda place, *_: maps[place.name])
    monkeypatch.setattr(landcover_card, "compared_speed", lambda *_: {"cpu_seconds_per_mpx": 1.0})
    monkeypatch.setattr(landcover_card, "Teacher", lambda settings, threads: None)
    return maps


def settings_for(maps, fitted=(), **changes) -> LandcoverMeasurement:
    teacher = load_settings(LandcoverMeasurement, CONFIG).teacher.model_copy(update={"model": "none"})
    given = {"places": tuple(place(name) for name in maps if name not in fitted), "teacher": teacher}
    return LandcoverMeasurement(**given, calibration=tuple(place(name) for name in fitted), **changes)


def test_figures_by_place_level_and_missing_bands(quick, bundle):
    grass = np.full((1, 10), 2, np.uint8)
    quick["alps"] = observed("alps", "L1C", 8, without={("B08",): grass})
    quick["delta"] = observed("delta", "L2A", 6, bands=BANDS[:3])
    quality = measure_landcover(bundle, settings_for(quick, missing=(("B08",), ("B12",)))).card.quality
    assert quality["reference"] == "Dynamic World"
    assert quality["agreement"] == {"mean_of_places": 0.7, "all_pixels": 0.7, "L1C": 0.8, "L2A": 0.6}
    assert quality["places"]["rows"] == [
        ["alps", "L1C", 10, 0.8, None, None, 0.4, "-"],
        ["delta", "L2A", 10, 0.6, None, None, 0.3, "B08"],
    ]
    assert quality["iou_by_place"]["alps"] == {"trees": 0.8, "grass": 0.0}
    assert quality["agreement_without"] == {"no band": 0.8, "B08": 0.2}
    assert quality["mean_iou_without"] == {"no band": 0.4, "B08": 0.1}
    assert quality["confusions"] == {"grass as trees": 0.3}
    assert "real_labels" not in quality and "levels_agree" not in quality


def test_a_card_answers_what_missing_bands_cost(quick, bundle):
    grass = np.full((1, 10), 2, np.uint8)
    quick["alps"] = observed("alps", "L1C", 8, without={("B08", "B04"): grass})
    card = measure_landcover(bundle, settings_for(quick)).card
    assert (card.agreement_without(()), card.agreement_without(("B04", "B08"))) == (0.8, 0.2)


def test_real_labels_are_compared_beside_the_teacher(quick, bundle):
    labels = np.array([[1] * 4 + [2] * 4 + [UNLABELLED] * 2], np.uint8)
    quick["west"] = observed("west", "L1C", 6, labels=labels)
    real = measure_landcover(bundle, settings_for(quick)).card.quality["real_labels"]["west"]
    assert (real["pixels"], real["accuracy"], real["teacher_accuracy"]) == (8, 0.5, 0.75)
    assert real["advantage"] == -0.25
    assert real["classes"]["rows"] == [["trees", 4, 1.0, 1.0], ["grass", 4, 0.0, 0.5]]


def test_real_labels_without_a_teacher(quick, bundle):
    labels = np.ones((1, 10), np.uint8)
    quick["west"] = observed("west", "L1C", 6, labels=labels, teacher=None)
    measured = measure_landcover(bundle, settings_for(quick))
    real = measured.card.quality["real_labels"]["west"]
    assert (real["accuracy"], real["classes"]["rows"]) == (1.0, [["trees", 10, 1.0]])
    assert "agreement" not in measured.card.quality
    assert [bar.name for bar in measured.bars] == ["west"]


def test_two_levels_of_one_acquisition_are_compared_with_each_other(quick, bundle):
    other = np.array([[1] * 9 + [2]], np.uint8)
    quick |= {"toa": observed("toa", "L1C", 8), "boa": observed("boa", "L2A", 8, found=other)}
    settings = settings_for(quick, fitted=("boa",), pairs=(("toa", "boa"),))
    assert measure_landcover(bundle, settings).card.quality["levels_agree"] == {"toa and boa": 0.9}


def test_the_temperature_is_fitted_on_other_places_than_it_is_reported_on(quick, bundle):
    quick |= {"fitted": observed("fitted", "L1C", 9), "reported": observed("reported", "L1C", 5)}
    measured = measure_landcover(bundle, settings_for(quick, fitted=("fitted",)))
    calibration = measured.card.quality["calibration"]
    temperature = measured.card.calibration.temperature
    # softmax(3 / T, 8 zeros) is 0.9 where exp(3 / T) = 72
    assert temperature == calibration["temperature"] == pytest.approx(3 / np.log(72), rel=0.01)
    assert calibration["fitted_on"] == ["fitted"]
    assert calibration["expected_error_after"] == pytest.approx(0.9 - 0.5, abs=0.01)
    assert calibration["expected_error_before"] == pytest.approx(np.exp(3) / (np.exp(3) + 8) - 0.5, abs=1e-3)


def test_what_the_training_measured_is_kept_and_the_rest_replaced(quick, bundle):
    quick["alps"] = observed("alps", "L1C", 8)
    quality = measure_landcover(bundle, settings_for(quick)).card.quality
    assert quality["cross_validation"] == {"folds": 4}
    assert quality["speed"] == {"cpu_seconds_per_mpx": 1.0}


@pytest.fixture
def scenes(tmp_path):
    numbers = np.random.default_rng(0).integers(300, 3000, (4, 48, 64)).astype(np.uint16)
    return [
        str(write_geotiff(tmp_path / f"{name}.tif", numbers[:, rows:])) for name, rows in (("a", 0), ("b", 8))
    ]


def test_a_place_needs_something_to_compare_with(bundle, scenes):
    with pytest.raises(ConfigError, match="Place a has nothing to compare with: no labels"):
        measure_landcover(bundle, LandcoverMeasurement(places=(place("a", scenes[0]),), threads=1))


def test_the_scenes_of_a_pair_lie_on_one_grid(bundle, scenes):
    both = (place("a", scenes[0]), place("b", scenes[1], level="L2A"))
    with pytest.raises(ConfigError, match=r"a and b are a pair.* Received: \(48, 64\) and \(40, 64\) pixels"):
        measure_landcover(bundle, LandcoverMeasurement(places=both, pairs=(("a", "b"),), threads=1))


def test_the_command_measures_a_copy(bundle, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.validation.timing.CORE_PX", 64)
    same = place("again", scenes[0], level="L2A", within=((0, 0, 48, 64),))
    settings = LandcoverMeasurement(
        places=(place("a", scenes[0]), same), pairs=(("a", "again"),), threads=1, previous=str(bundle.folder)
    )
    config = tmp_path / "measure.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    out = tmp_path / "copy"
    arguments = ["models", "measure", str(bundle.folder), "--config", str(config), "--out", str(out)]
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "levels agree: a and again 1" in result.output
    assert sorted(path.name for path in out.iterdir()) == ["card.yaml", "quality.png", "weights.safetensors"]
    measured = open_bundle(str(out))
    assert measured.card.quality["speed"]["of_previous"] > 0
    assert measured.state_dict().keys() == bundle.state_dict().keys()
    assert open_bundle(str(bundle.folder)).card == bundle.card


def test_a_card_is_written_into_the_bundle_itself(quick, bundle, tmp_path):
    quick["alps"] = observed("alps", "L1C", 8)
    own = save_bundle(tmp_path / "own", bundle.card, bundle.state_dict())
    written = write_landcover_quality(measure_landcover(own, settings_for(quick)), own)
    assert written.folder == own.folder
    assert open_bundle(str(own.folder)).card.quality["agreement"]["all_pixels"] == 0.8
