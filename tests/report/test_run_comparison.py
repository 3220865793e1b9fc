import json
import sqlite3

import geopandas as gpd
import pytest

from pipeline.evaluation.compare import compare_runs
from pipeline.report.run_comparison import chance, write_run_comparison
from tests.evaluation.test_compare import two_runs


@pytest.fixture
def runs(tmp_path):
    return two_runs(tmp_path)


@pytest.mark.parametrize("depth", ["", "SCENE", "SCENE/evaluation"])
def test_two_runs_leave_a_layer_figures_and_a_page(runs, depth):
    out = runs / "out"
    comparison = compare_runs(runs / "now" / depth, runs / "new" / depth)
    write_run_comparison(out, comparison)
    record = comparison.record
    assert record == json.loads((out / "comparison.json").read_text())
    assert record["trucks"]["cases"]["truck"] == {
        "fixed": 2,
        "broken": 1,
        "still wrong": 0,
        "both right": 1,
        "not observed": 0,
    }
    assert record["trucks"]["cases"]["false alarm"]["broken"] == 1
    assert record["trucks"]["differences"]["recall"]["before"] == 0.5
    assert record["landcover"]["differences"]["accuracy"]["change"] == 1
    layer = gpd.read_file(out / "comparison.gpkg", layer="trucks")
    assert layer["change"].value_counts().to_dict() == {"fixed": 2, "broken": 2, "both right": 1}
    with sqlite3.connect(out / "comparison.gpkg") as database:
        styled = database.execute("SELECT f_table_name FROM layer_styles ORDER BY 1").fetchall()
    assert styled == [("landcover",), ("trucks",)]
    page = (out / "comparison.html").read_text()
    assert "finds 2 that the first had missed" in page
    assert "trucks-new" in page
    assert "default-src 'none'" in page
    assert 'src="http' not in page


def test_p_values_as_people_write_them():
    assert [chance(None), chance(0.0004), chance(0.25)] == ["n/a", "< 0.001", "0.250"]
