"""Compare expected numbers of trucks with the truth of simulated dates: `python -m benchmarks.counts`.

Five places, each on twelve dates with traffic from none to dense, run by the shipped detector near roads.
What it finds is kept in `runs/bench/counts`: the next run resumes from there, and another card of the same
weights is compared in a minute.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from itertools import product as pairs
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.products import KEPT, say
from benchmarks.results import bar, save, table
from pipeline.config import Engine
from pipeline.evaluation.trucks.scores import ROAD_BUFFER_M
from pipeline.layers.expected import Recall
from pipeline.models.bundle import Bundle, open_bundle
from pipeline.simulation.dates import simulate_dates
from pipeline.simulation.world.demand import Demand
from pipeline.storage.atomic import make_folder, replacing
from pipeline.validation.observe import Observed, Place, observe_place
from pipeline.validation.recall import expected_trucks

SIDE_PX = 512
SEEDS = (4101, 4102, 4103, 4104, 4105)
HEAVY = (0.0, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Factor of the flow of heavy vehicles on each date."""
FIRST, INTERVAL = date(2023, 1, 15), timedelta(days=30)


@dataclass(frozen=True)
class Counted:
    """Date of a place: its heavy vehicles near roads, and their expected number with its 95 % interval."""

    seed: int
    day: int
    heavy: float
    trucks: int
    expected: float
    low: float
    high: float

    @property
    def covered(self) -> bool:
        """True if the interval, its ends rounded outwards to complete trucks, holds the number."""
        return bool(np.floor(self.low) <= self.trucks <= np.ceil(self.high))


@dataclass(frozen=True)
class Agreement:
    """Expected numbers over true ones, by least squares, and the share of intervals that hold the truth."""

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    covered: float

    @classmethod
    def of(cls, dates: Sequence[Counted]) -> Agreement:
        """Fit a line to two dates or more."""
        fit = stats.linregress([one.trucks for one in dates], [one.expected for one in dates])
        return cls(
            slope=float(fit.slope),
            slope_error=float(fit.stderr),
            intercept=float(fit.intercept),
            intercept_error=float(fit.intercept_stderr),
            covered=float(np.mean([one.covered for one in dates])),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Count all dates, and write the section of RESULTS.md; with `--dates` a few, without a section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dates", type=int, help="count only so many, as a trial")
    most = parser.parse_args(arguments).dates
    bundle = open_bundle("trucks")
    plan = [(seed, day) for day, seed in pairs(range(len(HEAVY)), SEEDS)]
    dates = list(count_dates(bundle, plan[:most]))
    if most is None:
        write(bundle, dates)


def count_dates(bundle: Bundle, plan: Sequence[tuple[int, int]]) -> Iterable[Counted]:
    """Yield the dates (seed, day) of a plan, and report each."""
    recall = Recall.of_card(bundle.card.quality) or Recall.unknown()
    calibration = bundle.card.calibration_for(near_roads=True)
    for number, (seed, day) in enumerate(plan, 1):
        observed = observe_date(bundle, seed, day).calibrated(calibration)
        trucks, total = expected_trucks(observed, recall, near_roads=True)
        low, high = (float(end[0]) for end in total.interval)
        found = Counted(seed, day, HEAVY[day], trucks, float(total.expected[0]), low, high)
        say(
            f"{number} of {len(plan)}: place {seed}, date {day}, {found.trucks} trucks, "
            f"{found.expected:.1f} expected ({found.low:.1f} - {found.high:.1f})"
        )
        yield found


def observe_date(bundle: Bundle, seed: int, day: int) -> Observed:
    """Return what the network of a bundle sees on a date, which is simulated unless that is kept."""
    file = KEPT / "counts" / f"{bundle.card.weights_sha256[:12]}-{seed}-{day}.pickle"
    if file.is_file():
        return pickle.loads(file.read_bytes())  # type: ignore[no-any-return]  # noqa: S301
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        when, demand = FIRST + day * INTERVAL, Demand(heavy=HEAVY[day])
        (scene,) = simulate_dates(folder / "scene", [when], SIDE_PX, seed, demand)
        place = Place(name="date", scene=str(scene.safe), labels=scene.trucks, roads=scene.roads)
        observed = observe_place(bundle, place, folder, Engine(threads=1))
    make_folder(file.parent)
    with replacing(file) as part:
        part.write_bytes(pickle.dumps(observed))
    return observed


def write(bundle: Bundle, dates: Sequence[Counted]) -> None:
    """Write the section of RESULTS.md."""
    together = Agreement.of(dates)
    by_place = {seed: Agreement.of([one for one in dates if one.seed == seed]) for seed in SEEDS}
    worst = max((one.intercept for one in by_place.values()), key=abs)
    rows = [
        {
            "place": name,
            "trucks": f"{min(counts)} - {max(counts)}",
            "slope": f"{found.slope:.3f} +- {found.slope_error:.3f}",
            "intercept": f"{found.intercept:.2f} +- {found.intercept_error:.2f}",
            "intervals that hold the truth": f"{found.covered:.0%}",
        }
        for name, found in [*((str(seed), found) for seed, found in by_place.items()), ("all", together)]
        for counts in [[one.trucks for one in dates if name in ("all", str(one.seed))]]
    ]
    lines = [
        f"The shipped detector ({bundle.card.architecture}) near the roads of {len(SEEDS)} simulated places "
        f"of {SIDE_PX} x {SIDE_PX} px that nothing was fitted on, each on {len(HEAVY)} dates of a year "
        f"with {min(HEAVY):g} to {max(HEAVY):g} times the counted flow of heavy vehicles. A line is "
        "fitted to the expected numbers over the true ones by least squares, with its standard errors. "
        f"Trucks are the heavy vehicles in the searched area within {ROAD_BUFFER_M:g} m of a road that an "
        "observer can see move; detections of others count on neither side, as in the evaluation. Ends of "
        "the 95 % intervals are rounded outwards to complete trucks.",
        "",
        *table(rows),
    ]
    bars = [
        bar("slope of expected over true trucks", together.slope, 0.9, at_most=False),
        bar("slope of expected over true trucks", together.slope, 1.1, at_most=True),
        bar("intercept, trucks", abs(together.intercept), 2.0, at_most=True),
        bar("intercept of the place where it is farthest from 0", abs(worst), 2.0, at_most=True),
        bar("95 % intervals that hold the truth", 100 * together.covered, 90, at_most=False, unit=" %"),
        bar("95 % intervals that hold the truth", 100 * together.covered, 98, at_most=True, unit=" %"),
    ]
    figures = {
        "all": asdict(together),
        "places": {str(seed): asdict(found) for seed, found in by_place.items()},
        "dates": [asdict(one) for one in dates],
    }
    save("counts", "Expected numbers of trucks", lines, figures, bars)


if __name__ == "__main__":
    main()
