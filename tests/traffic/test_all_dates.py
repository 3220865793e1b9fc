"""Trucks of all dates as one layer, read back from its files."""

import json
import os
import sqlite3
import subprocess

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from pipeline.errors import RunsError
from pipeline.traffic.all_dates import ALL_DATES, SEEN_BY_DATE, all_dates, write_all_dates
from pipeline.traffic.recurring import RECURRING
from pipeline.traffic.runs import read_runs
from tests.traffic.finished_runs import trucks, write_run
from tests.traffic.test_table import A2, FOUND

DATES = [f"2023-06-{day:02d}" for day in (3, 8, 13, 18)]


@pytest.fixture
def runs(tmp_path):
    """One truck of the first three dates is at the same place, and three pass on the last."""
    for number, day in enumerate(DATES):
        found = FOUND.iloc[:1] if number < 3 else FOUND
        write_run(tmp_path / "runs" / f"s{number}", A2, found, acquired=f"{day}T10:20:31+00:00")
    return tmp_path / "runs"


def test_the_layers_have_the_time_of_each_date(runs, tmp_path):
    files = write_all_dates(all_dates([runs]), tmp_path)
    found = gpd.read_file(files["trucks.gpkg"], layer="trucks")
    assert found.columns.tolist() == list(ALL_DATES.names)
    assert found["acquired"].dt.strftime("%Y-%m-%d").unique().tolist() == DATES
    assert found["recurring"].sum() == found["place_id"].notna().sum() == 4
    assert found[found["recurring"]]["dates_here"].tolist() == [4] * 4
    seen = gpd.read_file(files["trucks.gpkg"], layer="seen")
    assert seen.columns.tolist() == list(SEEN_BY_DATE.names)
    assert seen["acquired_date"].tolist() == DATES
    places = gpd.read_file(files["trucks.gpkg"], layer="recurring")
    assert places.columns.tolist() == list(RECURRING.names)
    assert places["dates"].tolist() == [" ".join(DATES)]
    assert found.crs == seen.crs == places.crs == A2.crs
    parquet = gpd.read_parquet(files["trucks.parquet"])
    assert parquet["id"].tolist() == found["id"].tolist()
    assert parquet.crs == found.crs


def test_the_styles_switch_the_temporal_controller_on(runs, tmp_path):
    files = write_all_dates(all_dates([runs]), tmp_path)
    with sqlite3.connect(files["trucks.gpkg"]) as base:
        styles = dict(base.execute("SELECT f_table_name, styleQML FROM layer_styles"))
    for name in ("trucks", "seen"):
        assert '<temporal enabled="1" mode="1"' in styles[name]
        assert 'startField="acquired"' in styles[name]
    assert "<temporal" not in styles["recurring"]


ASK_QGIS = """
import json, sys
from qgis.core import QgsApplication, QgsVectorLayer
app = QgsApplication([], False)
app.initQgis()
reported = {}
for name in ("trucks", "seen", "recurring"):
    layer = QgsVectorLayer(f"{sys.argv[1]}|layername={name}", name, "ogr")
    layer.loadDefaultStyle()  # the constructor of QGIS 3.22 loads it, too, but then resets the time
    time = layer.temporalProperties()
    reported[name] = [time.isActive(), int(time.mode()), time.startField(), layer.featureCount()]
print(json.dumps(reported))
"""


@pytest.mark.qgis
def test_qgis_reads_the_time_field(runs, tmp_path):
    files = write_all_dates(all_dates([runs]), tmp_path)
    done = subprocess.run(
        ["/usr/bin/python3", "-c", ASK_QGIS, str(files["trucks.gpkg"])],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named 'qgis'" in done.stderr:
        pytest.skip("needs QGIS: apt-get install qgis python3-qgis qgis-providers")
    reported = json.loads(done.stdout)
    assert reported["trucks"] == [True, 1, "acquired", 7]
    assert reported["seen"] == [True, 1, "acquired", 4]
    assert not reported["recurring"][0]


def test_the_order_of_folders_changes_no_byte(runs, tmp_path):
    folders = sorted(runs.iterdir())
    one, other = (all_dates(places) for places in (folders, folders[::-1]))
    for name in ("trucks", "seen", "recurring"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_scenes_of_two_zones_are_in_degrees(runs):
    write_run(runs / "west", A2.to_crs("EPSG:32631"), FOUND.iloc[:1].to_crs("EPSG:32631"))
    found = all_dates([runs])
    assert {frame.crs.to_epsg() for frame in (found.trucks, found.seen, found.recurring)} == {4326}
    assert found.recurring["dates"].tolist() == [" ".join(DATES)]
    assert len(found.seen) == 5


def test_detections_of_a_recurring_place_are_left_out_below_the_threshold_too(runs):
    found = all_dates([runs])
    for run in read_runs([runs]).runs:
        ids = run.detections["id"]
        flagged = found.trucks[found.trucks["recurring"] & (found.trucks["scene_id"] == run.scene_id)]["id"]
        np.testing.assert_array_equal(found.is_recurring(run), ids.isin(flagged).to_numpy())


def test_a_run_without_trucks_is_left_out_by_name(runs, tmp_path):
    write_run(tmp_path / "alone" / "land", A2, trucks([]), counts={})
    with pytest.raises(RunsError, match="land: a run without trucks"):
        all_dates([tmp_path / "alone"])
    assert "land: a run without trucks" in all_dates([runs, tmp_path / "alone"]).left_out[0]
