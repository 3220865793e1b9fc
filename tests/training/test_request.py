"""A training as it is asked for: settings are checked before anything starts, bundles are published whole."""

from pathlib import Path

import pytest
import torch

from pipeline.config import SceneSettings
from pipeline.errors import ConfigError, OpenDataError, OutputError
from pipeline.models.bundle import open_bundle, save_bundle
from pipeline.training.detector.settings import DetectorTraining, FineTuning
from pipeline.training.detector.train import blank_card
from pipeline.training.request import TrainingRequest, publish_bundle, training_settings
from pipeline.training.segmenter import settings as segmenter

HERE = Path("runs/x")


def test_ones_own_boxes_are_a_fine_tuning_of_the_shipped_detector():
    request = TrainingRequest(
        "detector",
        HERE,
        settings=("steps=7", "labels.block_px=64"),
        imagery=("a.tif",),
        labels=(Path("a.gpkg"),),
        bands=("B02", "B03", "B04", "B08"),
        complete=Path("area.gpkg"),
    )
    settings = training_settings(request)
    assert isinstance(settings, FineTuning)
    assert (settings.start_from, settings.steps, settings.labels.block_px) == ("trucks", 7, 64)
    (source,) = settings.labelled
    assert (source.imagery, source.bands[0], source.complete) == ("a.tif", "B02", Path("area.gpkg"))


def test_open_data_that_is_not_fetched_is_an_error_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUCKSCAPE_DATA", str(tmp_path / "cache"))
    (tmp_path / "recipe.yaml").write_text("scenes: [{path: data:antwerp}]")
    with pytest.raises(OpenDataError, match="Run: truckscape data fetch antwerp"):
        training_settings(TrainingRequest("detector", HERE, config=tmp_path / "recipe.yaml"))


def test_one_s_own_land_cover_has_its_column_of_classes():
    request = TrainingRequest(
        "segmenter", HERE, imagery=("a.tif",), labels=(Path("a.gpkg"),), class_field="Nutzung"
    )
    settings = training_settings(request)
    assert isinstance(settings, segmenter.FineTuning)
    (source,) = settings.labelled
    assert (source.imagery, source.labels, source.class_field) == ("a.tif", Path("a.gpkg"), "Nutzung")


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_ones_own_imagery_has_its_values(kind):
    own = {"imagery": ("a.tif",), "labels": (Path("a.gpkg"),)}
    (source,) = training_settings(TrainingRequest(kind, HERE, scale=0.01, nodata="-9999", **own)).labelled
    assert source.values == SceneSettings(scale=0.01, nodata=-9999)
    with pytest.raises(ConfigError, match=r"-1000 \* 0\.0001 = -0\.1"):
        training_settings(TrainingRequest(kind, HERE, offset=-1000, **own))


def test_without_imagery_a_training_is_from_nothing(tmp_path):
    (tmp_path / "t.yaml").write_text("steps: 5")
    settings = training_settings(TrainingRequest("detector", HERE, tmp_path / "t.yaml", from_scratch=True))
    assert type(settings) is DetectorTraining
    assert settings.steps == 5
    assert isinstance(training_settings(TrainingRequest("segmenter", HERE)), segmenter.SegmenterTraining)


@pytest.mark.parametrize("settings", [(), ("steps=5",)])
def test_a_detector_without_imagery_asks_for_it(settings):
    with pytest.raises(ConfigError, match=r"no imagery.*--imagery SCENE --labels BOXES.*--from-scratch"):
        training_settings(TrainingRequest("detector", HERE, settings=settings))


@pytest.mark.parametrize("setting", ["simulated=[3]", "scenes=[{path: a.tif}]"])
def test_a_recipe_names_its_data(setting):
    assert training_settings(TrainingRequest("detector", HERE, settings=(setting,))).steps == 4000


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_imagery_without_labels_is_refused(kind):
    with pytest.raises(ConfigError, match=r"Each --imagery needs its --labels.* 1 of imagery, 0 of labels"):
        training_settings(TrainingRequest(kind, HERE, imagery=("a.tif",)))


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError, match=r"Unknown setting stepps\. Did you mean steps\?"):
        training_settings(TrainingRequest("detector", HERE, settings=("stepps=3",)))


@pytest.fixture
def bundle(tmp_path):
    return save_bundle(tmp_path / "out" / "bundle", blank_card(), {"a": torch.zeros(3)})


def test_a_bundle_is_published_under_its_id(bundle, tmp_path):
    folder = tmp_path / "models"
    assert publish_bundle(bundle, folder).folder == folder / "trucks"
    newer = save_bundle(tmp_path / "newer", bundle.card, {"a": torch.ones(3)})
    publish_bundle(newer, folder)
    assert open_bundle(str(folder / "trucks")).state_dict()["a"].tolist() == [1, 1, 1]
    assert [path.name for path in folder.iterdir()] == ["trucks"]


def test_a_folder_that_cannot_be_written_is_named(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"can't be published in .*file"):
        publish_bundle(bundle, tmp_path / "file")


def test_a_folder_that_is_no_bundle_is_kept(bundle, tmp_path):
    (tmp_path / "models" / "trucks").mkdir(parents=True)
    (tmp_path / "models" / "trucks" / "mine.txt").write_text("")
    with pytest.raises(OutputError, match=r"trucks is no bundle, and would be replaced"):
        publish_bundle(bundle, tmp_path / "models")
    assert (tmp_path / "models" / "trucks" / "mine.txt").exists()
    card = bundle.card.model_copy(update={"id": "../trucks"})
    with pytest.raises(OutputError, match="can't be the name of a folder"):
        publish_bundle(save_bundle(tmp_path / "other", card, {"a": torch.zeros(3)}), tmp_path / "models")
