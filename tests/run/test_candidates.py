"""Candidates of a run: which are trucks, which are left out, and what is expected."""

import geopandas as gpd
import pytest

from pipeline.config import load_config
from pipeline.run import Request, run_directly
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
