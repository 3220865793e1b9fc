"""One simulated place on six dates, from pixels to counters, recurring detections and the page."""

from dataclasses import replace
from datetime import date

import geopandas as gpd
import numpy as np
import pytest
from scipy.spatial import KDTree

from pipeline.config import load_config
from pipeline.evaluation.trucks.boxes import centres
from pipeline.report.place import write_place
from pipeline.run import Request, run_directly
from pipeline.simulation import truth
from pipeline.simulation.counters import write_counters
from pipeline.simulation.product import write_product
from pipeline.simulation.product_metadata import Granule
from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world.demand import Demand
from pipeline.simulation.world.fleet import KINDS, paints, sizes
from pipeline.simulation.world.stage import Stage
from pipeline.traffic.agreement import agreement, fit
from pipeline.traffic.counters.read import read_counter
from pipeline.traffic.place import read_place
from pipeline.traffic.runs import read_runs
from pipeline.traffic.stations import pairs, stations_of

DAYS = [date(2023, 6, day) for day in (1, 6, 11, 16, 21, 26)]
"""Thursday, Tuesday, Sunday, Friday, Wednesday, Monday."""
SIZE, SEED, DEMAND = 512, 11, Demand()


def standing(world, rng):
    """Return lorries beside the motorway every 800 m, and the numbers of the five dates of each."""
    found = []
    kind = KINDS["articulated lorry"]
    motorway = next(road for road in world.roads if road.road_class == "motorway")
    for along in np.arange(40, motorway.line.length, 80):
        (x, y), (dx, dy) = motorway.place(along)
        aside = (motorway.half_width_m + rng.uniform(2, 12)) / 10 * rng.choice([-1, 1])
        (length, width), *_ = sizes(kind, 1, rng).tolist()
        heading = float(np.degrees(np.arctan2(dx, -dy)) % 360)
        x, y = float(x - dy * aside), float(y + dx * aside)
        paint, *_ = paints(kind, 1, rng)
        if min(x, y) > 20 and max(x, y) < world.size - 20:
            one = Vehicle(x, y, heading, 85.0, length, width, paint, "articulated lorry")
            found.append((one, rng.permutation(len(DAYS))[:5].tolist()))
    return found


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    """Return the folder of six runs, that of the place, and where something stands, in the runs' CRS."""
    place = tmp_path_factory.mktemp("place")
    stages = [Stage.of(SIZE, SEED, demand=DEMAND, day=day) for day in DAYS]
    stands = standing(stages[0].world, np.random.default_rng(SEED))
    for number, stage in enumerate(stages):
        lorries = (*stage.traffic.heavy, *(one for one, on in stands if number in on))
        product = write_product(place, replace(stage, traffic=replace(stage.traffic, heavy=lorries)))
        truth.write_vehicles(product.trucks, stage, Granule(stage.world))
        if number == 0:
            truth.write_roads(product.roads, Granule(stage.world))
    write_counters(place / "counters.csv", stages[0].world, DEMAND, DAYS)
    config = load_config(None, ["landcover.enabled=false"])
    for safe in sorted(place.glob("*.SAFE")):
        run_directly(Request(str(safe), place / "runs", config, roads=place / "truth" / "roads.gpkg"))
    to_map = Granule(stages[0].world).affine(10)
    return place / "runs", place, np.array([to_map * (one.x, one.y) for one, _ in stands])


def near(of, places, metres):
    """Return whether each of `of` (N, 2) has one of `places` (M, 2) within some metres, and which."""
    away, which = KDTree(places).query(of, distance_upper_bound=metres)
    return np.isfinite(away), which


@pytest.mark.longer
def test_what_stands_recurs_and_what_passes_does_not(dates):
    """Bars: 90 % of what stands and is detected on three dates or more, 1 % of true trucks."""
    runs, place, stands = dates
    every = read_place([runs]).every
    trucks, xy = every.trucks, centres(every.trucks)
    static, which = near(xy, stands, 15)
    passes = np.zeros(len(trucks), bool)
    for day in DAYS:
        here = (trucks["acquired_date"] == day.isoformat()).to_numpy()
        vehicles = gpd.read_file(place / "truth" / day.isoformat() / "trucks.gpkg")
        passes[here] = near(xy[here], centres(vehicles), 20)[0] & ~static[here]
    on = trucks.assign(which=which)[static].groupby("which")["acquired_date"].nunique()
    often = static & np.isin(which, on[on >= 3].index)
    flagged = trucks["recurring"].to_numpy(bool)
    assert often.sum() >= 15
    assert passes.sum() >= 60
    assert flagged[often].mean() >= 0.9
    assert flagged[passes].mean() <= 0.01


@pytest.mark.longer
def test_flows_are_those_of_the_counters(dates):
    """Two stations, two directions, six dates; measured: r 0.89, RMSE after the fit 1.01 of Poisson's."""
    runs, place, _ = dates
    counts, _ = read_counter(place / "counters.csv", None, None)
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
