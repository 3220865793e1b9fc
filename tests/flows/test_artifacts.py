"""Results of a scene on Prefect's pages."""

import math
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from flows.artifacts import road_table, scene_artifacts, summary_markdown
from pipeline.report.page import ReportContext
from pipeline.report.pictures import Picture
from pipeline.report.roads import RoadRow
from pipeline.run import Result


def result(url: str | None = None, shown: ReportContext | None = None) -> Result:
    run = {
        "scene": "T32UPD_[a]",
        "counts": {"trucks": 7},
        "expected": {"trucks": 9.4, "low": 6.0, "high": 13.0},
        "seen_fraction": 0.5,
        "tiles": {"total": 4, "skipped": 1},
        "warnings": [],
        "seconds": {"merge": 2.0},
        "peak_rss_mb": 100,
        "parameters": {"publish": {"url": url}},
    }
    folder = Path("/data/layers/T32 UPD")
    outputs = {"report": folder / "report.html", "traffic.parquet": folder.parent / "traffic.parquet"}
    return Result(folder, outputs, run, {}, shown)


def test_the_summary_has_counts_and_links_to_the_files():
    markdown = summary_markdown(result())
    assert "| trucks | 7 detected; 9 expected (6 - 13) |" in markdown
    assert "(<file:///data/layers/T32%20UPD/report.html>)" in markdown


def test_links_lead_to_where_the_layers_were_published():
    markdown = summary_markdown(result("s3://bucket/north/"))
    assert "(<s3://bucket/north/T32%20UPD/report.html>)" in markdown
    assert "(<s3://bucket/north/traffic.parquet>)" in markdown
    assert "file://" not in markdown


def test_the_table_of_roads_is_json_without_nan():
    row = RoadRow("A 2", "motorway", "E", 3.0, 4.25, (1.0, 9.5), math.nan, (math.nan, math.nan), 88.04, 7.0)
    assert road_table([row]) == [
        {
            "road": "A 2",
            "direction": "E",
            "trucks": 3.0,
            "expected": 4.2,
            "expected, 95 %": "1.0 - 9.5",
            "trucks per hour": None,
            "per hour, 95 %": None,
            "mean speed, km/h": 88.0,
            "searched, km": 7.0,
        }
    ]


@pytest.mark.parametrize(("has_picture", "keys"), [(False, ["summary"]), (True, ["summary", "map"])])
def test_what_a_scene_lacks_has_no_artifact(has_picture, keys):
    grid = GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), "EPSG:32632") if has_picture else None
    picture = Picture(np.zeros((4, 4, 4), np.uint8), grid) if has_picture else None
    made = [each.args[1] for each in scene_artifacts(result(shown=ReportContext("a", picture=picture)))]
    assert made == [f"scene-{key}" for key in keys]
    assert len(list(scene_artifacts(result()))) == 1
