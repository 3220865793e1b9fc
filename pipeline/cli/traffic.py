"""The command `traffic`: finished runs by road."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import note, say, say_path
from pipeline.cli.options import KeepRecurring, Out

commands = typer.Typer()


@commands.command()
def traffic(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUNS...", help="Folders of runs or batches, with roads.")
    ],
    out: Out,
    correction: Annotated[
        Path | None,
        typer.Option(help="Multiply flows and expected numbers by this factor: counter-correction.json."),
    ] = None,
    keep_recurring: KeepRecurring = False,
) -> None:
    """Combine finished runs: trucks of all dates as one layer, and counts by road, direction and date.

    The carriageways of a road are one road with two directions. Each acquisition counts once. Folders that
    can't be used are named, with the reason.

    Example: `truckscape traffic layers --out traffic`
    """
    from pipeline.report.place import write_place
    from pipeline.storage.out_folder import make_out
    from pipeline.traffic.agreement import read_correction
    from pipeline.traffic.place import read_place

    factor = None if correction is None else read_correction(correction)
    make_out(out)  # what can't be written is reported before minutes of reading
    place = read_place(runs, keep_recurring, note)
    if factor is not None:
        place = place.corrected(factor)
    files = write_place(place, out)
    every, found = place.every, place.by_road
    again, there = every.trucks["recurring"].sum(), len(every.recurring)
    say(f"{len(every.trucks)} trucks on the map, {again} of them recurring, at {there} places")
    if found is None:
        note(place.without_roads)
    else:
        for line in found.left_out:
            note(f"not used: {line}")
        roads, trucks = found.table["road"].nunique(), found.table["trucks"].sum()
        say(f"{found.scenes} acquisitions, {roads} roads, {trucks:.0f} trucks")
    for name, path in files.items():
        say_path(name, path)
