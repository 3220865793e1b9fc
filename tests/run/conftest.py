"""A run that the tests of this folder share."""

import shutil

import pytest

from pipeline.config import load_config
from pipeline.models.bundle import open_bundle, save_card
from pipeline.run import Request, run_directly

FAST = ["engine.threads=1", "tiling.tile_px=128", "tiling.shards=2"]


def request_for(product, out, **changes) -> Request:
    given = {
        "scene": str(product.safe),
        "out": out,
        "config": load_config(None, FAST),
        "roads": product.roads,
        "truck_labels": product.trucks,
        "landcover_labels": product.landcover,
    }
    return Request(**(given | changes))


@pytest.fixture(scope="package")
def result(product, tmp_path_factory):
    return run_directly(request_for(product, tmp_path_factory.mktemp("out")))


@pytest.fixture(scope="package")
def soft(product, tmp_path_factory):
    """The same run with probabilities of land cover, without labels."""
    config = load_config(None, [*FAST, "landcover.probabilities=true", "export.formats=parquet"])
    out = tmp_path_factory.mktemp("soft")
    return run_directly(request_for(product, out, config=config, truck_labels=None, landcover_labels=None))


@pytest.fixture
def calibrated(tmp_path):
    """A copy of the shipped detector whose card can be changed."""
    shipped = open_bundle("trucks")
    folder = tmp_path / "calibrated"
    folder.mkdir()
    shutil.copyfile(shipped.weights, folder / shipped.weights.name)

    def with_card(**changes) -> str:
        changes.setdefault("calibration_near_roads", None)
        return str(save_card(folder, shipped.card.model_copy(update=changes)).folder)

    return with_card
