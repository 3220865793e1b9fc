"""Compare expected numbers of trucks with the truth of simulated dates: `python -m benchmarks.counts`.

Five places, each on twelve dates with traffic from none to dense, run by the shipped detector near roads.
What is done is kept in `runs/bench/counts`, and the next run resumes from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
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
from pipeline.validation.observe import Place, observe_place
from pipeline.validation.recall import expected_trucks

SIDE_PX = 512
SEEDS = (4001, 4002, 4003, 4004, 4005)
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
    card = hashlib.sha256((bundle.folder / "card.yaml").read_bytes()).hexdigest()[:12]
    kept = KEPT / "counts"
    make_folder(kept)
    for number, (seed, day) in enumerate(plan, 1):
        file = kept / f"{card}-{seed}-{day}.json"
        if not file.is_file():
            with replacing(file) as part:
                part.write_text(json.dumps(asdict(count(bundle, seed, day, kept))), encoding="utf-8")
        found = Counted(**json.loads(file.read_text(encoding="utf-8")))
        say(
            f"{number} of {len(plan)}: place {seed}, date {day}, {found.trucks} trucks, "
            f"{found.expected:.1f} expected ({found.low:.1f} - {found.high:.1f})"
        )
        yield found


def count(bundle: Bundle, seed: int, day: int, kept: Path) -> Counted:
    """Simulate a date, unless that is done, and run the detector near its roads."""
    folder, demand = kept / f"scene-{seed}-{day}", Demand(heavy=HEAVY[day])
    (scene,) = simulate_dates(folder, [FIRST + day * INTERVAL], SIDE_PX, seed, demand)
    place = Place(name="date", scene=str(scene.safe), labels=scene.trucks, roads=scene.roads)
    with tempfile.TemporaryDirectory() as scratch:
        observed = observe_place(bundle, place, Path(scratch), Engine(threads=1))
    recall = Recall.of_card(bundle.card.quality) or Recall.unknown()
    calibrated = observed.calibrated(bundle.card.calibration_for(near_roads=True))
    trucks, total = expected_trucks(calibrated, recall, near_roads=True)
    low, high = (float(end[0]) for end in total.interval)
    return Counted(seed, day, HEAVY[day], trucks, float(total.expected[0]), low, high)


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
