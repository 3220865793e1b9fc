"""The command `evaluate counts`: flows on roads against traffic counters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.console import note, say_page, say_path
from pipeline.cli.evaluate import commands
from pipeline.cli.options import KeepRecurring, Out, finite


def _named(values: list[str] | None, option: str) -> dict[str, str]:
    """Split values such as A=B; one without a name has the name ""."""
    pairs = [part.strip().rpartition("=") for value in values or () for part in value.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"{option} names {', '.join(names)}: each once.")
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}


def _place(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        lon, lat = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--station {text!r} is not LON,LAT, e.g. 13.262,52.478.") from None
    finite(lon), finite(lat)
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise typer.BadParameter(f"--station {text!r} is no place: longitude comes first, in degrees.")
    return lon, lat


@commands.command("counts")
def evaluate_counts(
    runs: Annotated[Path, typer.Argument(help="Folder of a run, of runs or of a batch, with roads.")],
    counter: Annotated[
        Path,
        typer.Argument(
            help="Counts by hour or quarter of an hour as CSV: of BASt, WebTRIS, or any with named columns."
        ),
    ],
    out: Out,
    station: Annotated[
        str | None, typer.Option(metavar="LON,LAT", help="Place of the counter, unless the file has it.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Names of the columns, e.g. start=time,vehicles=volume,heavy=hgv,direction=dir."),
    ] = None,
    direction: Annotated[
        list[str] | None,
        typer.Option(
            help="Direction of travel: N, NE, ... or degrees; R1=N where the file has directions. May be "
            "repeated."
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            help="Time zone of the counter's clocks, e.g. Europe/Berlin, unless times have offsets."
        ),
    ] = None,
    count: Annotated[
        Literal["heavy", "all"], typer.Option(help="Vehicles of the counter that are compared.")
    ] = "heavy",
    fit: Annotated[
        bool,
        typer.Option("--fit", help="Store a correction factor beside the runs: counter-correction.json."),
    ] = False,
    keep_recurring: KeepRecurring = False,
) -> None:
    """Compare flows of trucks with a traffic counter: correlation, RMSE, bias and ratio, with intervals.

    The flow is that of the nearest carriageway in the counter's direction, up to the junctions on either
    side; the count is that of the hour of the acquisition.

    Example: `truckscape evaluate counts layers zst1234.csv --station 13.26,52.48 --direction R1=N
    --direction R2=S --timezone Europe/Berlin --out counts`
    """
    from pipeline.report.counters import counts_table, write_correction, write_counts
    from pipeline.traffic.agreement import agreement
    from pipeline.traffic.agreement import fit as fitted
    from pipeline.traffic.all_dates import all_dates
    from pipeline.traffic.counted import zone_of
    from pipeline.traffic.counters.read import read_counter
    from pipeline.traffic.runs import Records, read_runs
    from pipeline.traffic.stations import pairs, stations_of

    place, directions = _place(station), _named(direction, "--direction")
    zone = None if timezone is None else zone_of(timezone)
    counts, kind = read_counter(counter, zone, _named([columns], "--columns") if columns else None)
    stations = stations_of(counts, place, directions)
    records = Records.of([runs])
    found = read_runs(records, note)
    left_out = None if keep_recurring else all_dates(records).is_recurring
    rows = pairs(found, stations, count, left_out, note)
    figures = (rows["flow_per_hour"], rows["counted_per_hour"], rows["hours"], float(rows["unit"].max()))
    agreed = agreement(*figures)
    models = ", ".join(sorted(rows["model"].unique()))
    correction = fitted(*figures, count=count, model=models) if fit else None
    about = {
        "counter": counter.name,
        "format": kind.name,
        "count": count,
        "heavy": kind.heavy,
        "model": models,
    }
    files = write_counts(out, rows, agreed, about, correction)
    say_page(counts_table(agreed, correction))
    for name, path in files.items():
        say_path(f"{name:10}", path)
    if correction:
        say_path("correction", write_correction(correction, runs / "counter-correction.json"))
