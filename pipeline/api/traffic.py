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


def traffic(runs: str | Path | Iterable[str | Path], *, progress: Progress | None = None) -> pd.DataFrame:
    """Return the traffic of finished runs with roads: a row for each road, direction and acquisition.

    `runs` are folders of runs, of a batch, or of several of them. Columns as in `traffic.parquet` of
    `truckscape traffic`: trucks, expected number with its interval, flow, speed, searched length, local time
    (`pipeline.traffic.table.TABLE_FIELDS`). Of several runs of one acquisition one counts; a warning names
    each run that is not used.

    Raises
    ------
    RunsError
        If a folder is missing or has no finished run, or none can be used.
    """
    from pipeline.traffic.table import traffic_of

    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    with python_names():
        found = traffic_of([Path(folder) for folder in folders], say=Reporter(progress).say)
    for line in found.left_out:
        warn(f"Not used: {line}")
    return found.table
