"""One simulated place on several dates: products, their truth, and counts of its stations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import date
from pathlib import Path

from pipeline.errors import ConfigError, OutputError
from pipeline.safe_json import read_json_object
from pipeline.scenes.readers.naming import FIRST_LIGHT
from pipeline.simulation.counters import write_counters
from pipeline.simulation.product import SimulatedProduct, write_product
from pipeline.simulation.product_metadata import Granule
from pipeline.simulation.simulate import check_size
from pipeline.simulation.truth import write_look_alikes
from pipeline.simulation.world.demand import Demand
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.stage import Stage
from pipeline.storage.atomic import make_folder, replacing

LAST_DATE = date(2099, 12, 31)
"""Rules of local time may be others by then."""
_LIKE = "Dates are like 2023-06-01,2023-06-06."


def simulate_dates(
    out: Path,
    days: Iterable[date],
    size: int = 1024,
    seed: int = 0,
    demand: Demand | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[SimulatedProduct]:
    """Write a product for each date of the place of a size and seed, with truth and counts, to `out`.

    `truth/roads.gpkg` and `truth/look_alikes.gpkg` hold for all dates, `truth/DATE/` for one, and
    `counters.csv` has all dates in `out` (see `counters.write_counters`). Dates that are complete in `out`
    are not rendered again. `progress` is called with each date before the work on it. Each takes the time and
    memory of `simulate`.

    Raises
    ------
    ConfigError
        If the size is out of range, or as `check_dates`.
    OutputError
        If `out` has other scenes, or can't be written.
    """
    check_size(size)
    days, demand = check_dates(days), demand or Demand()
    products = []
    for number, day in enumerate(days, start=1):
        text = f"{day} ({number} of {len(days)})"
        progress(text)
        stage = Stage.of(size, seed, demand=demand, day=day)
        product = SimulatedProduct.of(out, Granule(stage.world))
        products.append(product)
        if number == 1:
            _write_place(out, stage, demand, days)
        if product.safe.exists() and product.trucks.parent.exists():
            progress(f"{text}: complete already")
            continue
        if not product.safe.exists():  # the truth appears before the product; this one is of a killed process
            shutil.rmtree(product.trucks.parent, ignore_errors=True)
        write_product(out, stage)
    return products


def parse_dates(text: str) -> list[date]:
    """Return the dates of a list with commas; raises ConfigError as `check_dates`, or if one is no date."""
    return check_dates(_parsed(part) for part in text.split(","))


def parse_change(text: str) -> tuple[date, float]:
    """Return the first date and the factor of `DATE:FACTOR`.

    Raises
    ------
    ConfigError
        If the text is not like that, or the factor is not from 0 to 100.
    """
    day, _, number = text.partition(":")
    with suppress(ValueError):
        if 0 <= float(number) <= 100:
            return _parsed(day), float(number)
    raise ConfigError(f"A change is like 2023-07-01:0.5, with a factor from 0 to 100. Received: {text}")


def _parsed(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"{_LIKE} Received: {text.strip() or 'an empty date'}") from error


def check_dates(days: Iterable[date]) -> list[date]:
    """Return dates in their order.

    Raises
    ------
    ConfigError
        If there is none, one is given twice, or one is before Sentinel-2's first image or after `LAST_DATE`.
    """
    ordered = sorted(days)
    if not ordered:
        raise ConfigError(f"{_LIKE} Received: no date")
    for day in ordered:
        if not FIRST_LIGHT <= day <= LAST_DATE:
            raise ConfigError(
                f"Dates are from {FIRST_LIGHT}, the first image of Sentinel-2, to {LAST_DATE}. "
                f"Received: {day}"
            )
        if ordered.count(day) > 1:
            raise ConfigError(f"{day} is given {ordered.count(day)} times. Give each date once.")
    return ordered


def _write_place(out: Path, stage: Stage, demand: Demand, days: Iterable[date]) -> None:
    """Write what holds for all dates; raises OutputError if `out` has another place."""
    truth, world = out / "truth", stage.world
    record, place = truth / "place.json", {"size": world.size, "seed": world.seed, **asdict(demand)}
    if truth.exists():
        _check_same(record, place)
    make_folder(truth)
    with replacing(record) as part:
        part.write_text(_as_json(place), encoding="utf-8")
    with replacing(truth / "look_alikes.gpkg") as part:
        # its bytes do not depend on the dates that are given
        write_look_alikes(part, stage.roofs, Granule(plan_world(world.size, world.seed)))
    complete = {date.fromisoformat(each.name) for each in truth.iterdir() if each.is_dir()}
    write_counters(out / "counters.csv", world, demand, {*days, *complete})


def _check_same(record: Path, place: Mapping[str, object]) -> None:
    """Raise OutputError if a folder's truth is not of this place and traffic."""
    try:
        there = read_json_object(record)
    except (OSError, ValueError):
        raise OutputError(f"{record.parent} exists already. Choose another folder, or remove it.") from None
    wanted = json.loads(_as_json(place))
    other = ", ".join(
        f"{name} {there.get(name)} there, {value} wanted"
        for name, value in wanted.items()
        if there.get(name) != value
    )
    if other:
        raise OutputError(f"{record.parent} is of another simulation: {other}. Choose another folder.")


def _as_json(place: Mapping[str, object]) -> str:
    return json.dumps(place, indent=2, default=str)
