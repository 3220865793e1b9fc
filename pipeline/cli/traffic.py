"""The command `traffic`: finished runs by road."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import note, say, say_path
from pipeline.cli.options import Out

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
    keep_recurring: Annotated[
        bool,
        typer.Option(
            "--keep-recurring",
            help="Count recurring detections, too: those at one place on more dates than traffic explains.",
        ),
    ] = False,
) -> None:
    """Combine finished runs: trucks of all dates as one layer, and counts by road, direction and date.

    The carriageways of a road are one road with two directions. Each acquisition counts once. Folders that
    can't be used are named, with the reason.

    Example: `truckscape traffic layers --out traffic`
    """
    from pipeline.errors import RunsError
    from pipeline.report.place import write_place
    from pipeline.storage.out_folder import INDEX, make_out
    from pipeline.traffic.agreement import corrected_traffic, read_correction
    from pipeline.traffic.all_dates import all_dates, write_all_dates
    from pipeline.traffic.files import write_traffic_files
    from pipeline.traffic.summary import summary_of
    from pipeline.traffic.table import traffic_of

    factor = None if correction is None else read_correction(correction)
    make_out(out)  # what can't be written is reported before minutes of reading
    every = all_dates(runs, note)
    files = write_all_dates(every, out)
    flagged, places = every.trucks["recurring"].sum(), len(every.recurring)
    say(f"{len(every.trucks)} trucks on the map, {flagged} of them recurring, at {places} places")
    try:
        found = traffic_of(runs, None if keep_recurring else every.is_recurring, note)
    except RunsError as error:  # without roads there is the layer only
        note(str(error))
    else:
        if factor is not None:
            found = corrected_traffic(found, factor)
        files |= write_traffic_files(found, out)
        files[INDEX] = write_place(summary_of(found), out, files)
        for line in found.left_out:
            note(f"not used: {line}")
        roads = found.table["road"].nunique()
        trucks = found.table["trucks"].sum()
        say(f"{found.scenes} acquisitions, {roads} roads, {trucks:.0f} trucks")
    for name, path in files.items():
        say_path(name, path)
