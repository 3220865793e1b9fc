"""Traffic by road of several runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.messages import python_names
from pipeline.api.progress import Progress, Reporter
from pipeline.input_warnings import warn

if TYPE_CHECKING:  # it takes seconds
    import pandas as pd


def traffic(
    runs: str | Path | Iterable[str | Path],
    *,
    keep_recurring: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return the traffic of finished runs with roads: a row for each road, direction and acquisition.

    `runs` are folders of runs, of a batch, or of several of them. Columns as in `traffic.parquet` of
    `truckscape traffic`: trucks, expected number with its interval, flow, speed, searched length, local time
    (`pipeline.traffic.table.TABLE_FIELDS`). Of several runs of one acquisition one counts; a warning names
    each run that is not used. Detections at one place on more dates than traffic explains do not count,
    unless `keep_recurring` is set.

    Raises
    ------
    RunsError
        If a folder is missing or has no finished run, or none can be used.
    """
    from pipeline.errors import RunsError
    from pipeline.traffic.place import read_place

    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    with python_names():
        place = read_place([Path(folder) for folder in folders], keep_recurring, Reporter(progress).say)
        if place.by_road is None:
            raise RunsError(place.without_roads)
    found = place.by_road
    for line in found.left_out:
        warn(f"Not used: {line}")
    return found.table
