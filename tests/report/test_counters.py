"""Comparison with counters: files and the summary."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from pipeline.report.counters import counts_table, scatter, write_correction, write_counts
from pipeline.traffic.agreement import Correction, agreement, fit

PAIRS = pd.DataFrame(
    {
        "station": ["S1", "S1", "S1", "S2"],
        "direction": ["E", "E", "W", "N"],
        "flow_per_hour": [180.0, 300, 90, 0],
        "flow_low": [120.0, 220, 50, 0],
        "flow_high": [260.0, 400, 150, 30],
        "counted_per_hour": [200.0, 280, 100, 20],
        "hours": [0.05, 0.05, 0.05, 0.04],
    }
)
FIGURES = PAIRS["flow_per_hour"], PAIRS["counted_per_hour"], PAIRS["hours"]


def test_the_files_of_a_comparison(tmp_path):
    found, correction = agreement(*FIGURES), fit(*FIGURES, count="heavy", model="m")
    files = write_counts(tmp_path / "new", PAIRS, found, {"count": "heavy"}, correction)
    assert sorted(path.name for path in files.values()) == ["counts.csv", "counts.json", "counts.png"]
    metrics = json.loads(files["metrics"].read_text())
    assert metrics["count"] == "heavy"
    assert metrics["r"]["value"] == pytest.approx(found.r.value)
    assert metrics["correction"]["factor"] == pytest.approx(correction.factor)
    assert pd.read_csv(files["table"])["flow_per_hour"].tolist() == [180, 300, 90, 0]
    with Image.open(files["picture"]) as picture:
        assert picture.width > 500
    stored = write_correction(correction, tmp_path / "correction.json")
    assert Correction.from_json(json.loads(stored.read_text())) == correction


def test_figures_that_are_not_defined_are_null(tmp_path):
    one = PAIRS[:1]
    found = agreement(*(values[:1] for values in FIGURES))
    files = write_counts(tmp_path, one, found, {}, None)
    metrics = json.loads(files["metrics"].read_text())
    assert metrics["r"] == {"value": None, "low": None, "high": None}
    assert "correction" not in metrics


def test_the_picture_has_a_group_for_each_station_and_direction():
    axes = scatter(PAIRS, agreement(*FIGURES)).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:2] == ["equal", "ratio 0.96"]
    assert labels[2:] == ["S1 E", "S1 W", "S2 N"]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_ylim()[1] > 400


def test_the_summary():
    console = Console(width=120)
    with console.capture() as captured:
        console.print(counts_table(agreement(*FIGURES), fit(*FIGURES, count="heavy", model="m")))
    text = captured.get()
    assert "4 pairs" in text
    assert "correction" in text
    assert np.isfinite(float(text.split("correlation r")[1].split()[0]))
