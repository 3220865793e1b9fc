"""Compare flows with counters, and recurring detections with what stands: `python -m benchmarks.counters`.

Five simulated places, each on six dates, run by the shipped detector near roads. Products and runs are kept
in `runs/bench/counters`: the next run resumes from there, and another detector needs no new products.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.planted import Flagged, PlantedPlace
from benchmarks.products import KEPT, say
from benchmarks.results import bar, save, table
from pipeline.config import load_config
from pipeline.models.bundle import Bundle, open_bundle
from pipeline.traffic.agreement import Agreement, agreement, fit
from pipeline.traffic.all_dates import all_dates
from pipeline.traffic.counters.read import read_counter
from pipeline.traffic.runs import Records, read_runs
from pipeline.traffic.stations import pairs, stations_of

SIDE_PX = 768
SEEDS = (5101, 5102, 11, 7, 23)
"""Nothing was fitted on the first two; the radii of recurring detections were chosen after the last one."""
NEW = SEEDS[:2]
STATION = ["seed", "station", "direction"]


@dataclass(frozen=True)
class Compared:
    """Pairs of a set of places and their agreement."""

    agreement: Agreement
    rmse_fitted: float
    """After a factor from all other pairs (leave-one-out)."""

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Compared:
        """Compare rows of `traffic.stations.pairs`."""
        figures = _figures(rows)
        return cls(agreement(*figures), fit(*figures, count="heavy", model="").rmse_corrected)

    @property
    def rmse_share(self) -> float:
        """RMSE after the fit over that of counting alone."""
        return self.rmse_fitted / self.agreement.poisson_rmse


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare all places, and write the section of RESULTS.md; with `--places` a few, without a section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, help="compare only so many, as a trial")
    most = parser.parse_args(arguments).places
    bundle = open_bundle("trucks")
    rows, flags = [], {}
    for seed in SEEDS[:most]:
        say(f"place {seed}")
        found, flags[seed] = compare(*run_place(bundle, seed))
        rows.append(found.assign(seed=seed))
    every = pd.concat(rows, ignore_index=True)
    lines, figures, bars = describe(every, flags)
    if most is None:
        intro = [about(bundle), "", *lines]
        save("counters", "Counters and recurring detections", intro, figures, bars)
    else:
        say("\n".join(lines))


def run_place(bundle: Bundle, seed: int) -> tuple[PlantedPlace, Path]:
    """Return the place of a seed, and the folder of its runs; simulate and run what this card lacks."""
    place = PlantedPlace(KEPT / "counters" / str(seed), seed, SIDE_PX)
    card = hashlib.sha256((bundle.folder / "card.yaml").read_bytes()).hexdigest()
    runs = place.folder / f"runs-{card[:12]}"
    config = load_config(None, ["landcover.enabled=false", "engine.threads=1"])
    return place, place.run(config, runs)


def compare(place: PlantedPlace, runs: Path) -> tuple[pd.DataFrame, Flagged]:
    """Return the pairs of a place, and its flagged detections."""
    records = Records.of([runs])
    every = all_dates(records)
    counts, _ = read_counter(place.counters, None, None)
    rows = pairs(read_runs(records), stations_of(counts, None, {}), "heavy", every.is_recurring)
    return rows, Flagged.of(every.trucks, place)


def describe(
    rows: pd.DataFrame, flags: dict[int, Flagged]
) -> tuple[list[str], dict[str, Any], list[dict[str, Any]]]:
    """Return the tables, figures and bars of places."""
    groups = {str(seed): [seed] for seed in flags} | {"new": [s for s in NEW if s in flags], "all": [*flags]}
    compared = {name: Compared.of(rows[rows["seed"].isin(seeds)]) for name, seeds in groups.items() if seeds}
    flagged = {name: _shares([flags[seed] for seed in seeds]) for name, seeds in groups.items() if seeds}
    stations = {key: agreement(*_figures(one)) for key, one in rows.groupby(STATION)}
    holds = {key: one.ratio.low <= 1 <= one.ratio.high for key, one in stations.items()}
    by_place = [
        {
            "place": name,
            "flagged, of what stands": f"{flagged[name][0]:.0%} of {flagged[name][1]}",
            "flagged, of trucks": f"{flagged[name][2]:.1%} of {flagged[name][3]}",
            "r": f"{one.agreement.r.value:.2f}",
            "ratio": _interval(one.agreement),
            "stations whose interval holds 1": _holding(holds, groups[name]),
            "RMSE after the fit over Poisson's": f"{one.rmse_share:.2f}",
        }
        for name, one in compared.items()
    ]
    by_station = [
        {
            "station": f"{seed} {station} {direction}",
            "trucks an hour": f"{one['counted_per_hour'].mean():.0f}",
            "ratio": _interval(stations[seed, station, direction]),
            "holds 1": "yes" if holds[seed, station, direction] else "**no**",
        }
        for (seed, station, direction), one in rows.groupby(STATION)
    ]
    last = compared["all"]
    share = 100 * float(np.mean([*holds.values()]))
    figures = {
        "places": {name: asdict(one) | {"flagged": flagged[name]} for name, one in compared.items()},
        "pairs": rows.drop(columns=["acquired", "lon", "lat"]).round(3).to_dict("records"),
    }
    bars = [
        bar("flagged detections of what stands", 100 * flagged["all"][0], 90, at_most=False, unit=" %"),
        bar("flagged trucks", 100 * flagged["all"][2], 1, at_most=True, unit=" %"),
        bar("r of flows and counters", last.agreement.r.value, 0.9, at_most=False),
        bar("stations whose ratio's interval holds 1", share, 90, at_most=False, unit=" %"),
        bar("RMSE after the fit over that of counting alone", last.rmse_share, 1.3, at_most=True),
    ]
    return [*table(by_place), "", *table(by_station)], figures, bars


def about(bundle: Bundle) -> str:
    """Return the paragraph above the tables."""
    new = " and ".join(map(str, NEW))
    return (
        f"The shipped detector ({bundle.card.architecture}) near the roads of {len(SEEDS)} simulated places "
        f"of {SIDE_PX} x {SIDE_PX} px on six dates. Beside the motorway stands a lorry every 800 m, at the "
        "same place on five of the dates. *Flagged* is the share of the detections of those that are found "
        "on three dates or more, and of the detections of trucks that pass, that are `recurring`. Each place "
        "has two counters on both directions of a road; the ratio is that of estimated and counted trucks, "
        f"with its 95 % interval. {new} are *new*: nothing was fitted on them; the others were seen before."
    )


def _figures(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series, float]:
    return rows["flow_per_hour"], rows["counted_per_hour"], rows["hours"], float(rows["unit"].max())


def _shares(flags: Sequence[Flagged]) -> tuple[float, int, float, int]:
    """Return share and number of detections of what stands, and of trucks."""
    often, passes, recurring = (
        np.concatenate([getattr(one, name) for one in flags]) for name in ("often", "passes", "recurring")
    )
    return (
        float(recurring[often].mean()) if often.any() else np.nan,
        int(often.sum()),
        float(recurring[passes].mean()) if passes.any() else np.nan,
        int(passes.sum()),
    )


def _interval(found: Agreement) -> str:
    return f"{found.ratio.value:.2f} ({found.ratio.low:.2f} - {found.ratio.high:.2f})"


def _holding(holds: dict[Any, bool], seeds: Sequence[int]) -> str:
    of = [one for (seed, *_), one in holds.items() if seed in seeds]
    return f"{sum(of)} of {len(of)}"


if __name__ == "__main__":
    main()
