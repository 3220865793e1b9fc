"""One simulated place on six dates, from pixels to counters, recurring detections and the page."""

import pytest

from benchmarks.planted import Flagged, PlantedPlace
from pipeline.config import load_config
from pipeline.report.place import write_place
from pipeline.traffic.agreement import agreement, fit
from pipeline.traffic.counters.read import read_counter
from pipeline.traffic.place import read_place
from pipeline.traffic.runs import read_runs
from pipeline.traffic.stations import pairs, stations_of


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    """Return the folder of six runs, and their place."""
    place = PlantedPlace(tmp_path_factory.mktemp("place"), 11, 512)
    return place.run(load_config(None, ["landcover.enabled=false"]), place.folder / "runs"), place


@pytest.mark.longer
def test_what_stands_recurs_and_what_passes_does_not(dates):
    """Bars: 90 % of what stands and is detected on three dates or more, 1 % of true trucks."""
    runs, place = dates
    found = Flagged.of(read_place([runs]).every.trucks, place)
    assert found.often.sum() >= 15
    assert found.passes.sum() >= 60
    assert found.recurring[found.often].mean() >= 0.9
    assert found.recurring[found.passes].mean() <= 0.01


@pytest.mark.longer
def test_flows_are_those_of_the_counters(dates):
    """Two stations, two directions, six dates; measured: r 0.89, RMSE after the fit 1.01 of Poisson's."""
    runs, place = dates
    counts, _ = read_counter(place.counters, None, None)
    left_out = read_place([runs]).every.is_recurring
    rows = pairs(read_runs([runs]), stations_of(counts, None, {}), "heavy", left_out)
    assert len(rows) == 24

    def figures(of):
        return of["flow_per_hour"], of["counted_per_hour"], of["hours"], float(rows["unit"].max())

    found, made = agreement(*figures(rows)), fit(*figures(rows), count="heavy", model="m")
    ratios = [agreement(*figures(each)).ratio for _, each in rows.groupby(["station", "direction"])]
    assert found.r.value >= 0.8
    assert sum(each.low <= 1 <= each.high for each in ratios) >= 3
    assert made.rmse_corrected <= 1.3 * found.poisson_rmse


@pytest.mark.longer
def test_the_page_shows_what_stands(dates, tmp_path):
    files = write_place(read_place([dates[0]]), tmp_path)
    text = files["index.html"].read_text(encoding="utf-8")
    assert text.count('alt="2023-06-11: ') >= 3
    assert set(files) >= {"traffic.csv", "traffic.xlsx", "trucks.gpkg"}
