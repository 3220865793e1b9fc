"""Measure complete runs, `truckscape run --no-prefect`, and their stages."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Measured, truckscape

_TILES = re.compile(r"\d+ of \d+ tiles")


@dataclass(frozen=True)
class Stage:
    """Part of a run, from one of its messages to the next."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True)
class MeasuredJob:
    """Cost of a run, and its `run.json`."""

    whole: Measured
    stages: tuple[Stage, ...]
    """The first ends with the last tile; the others have the names of the run's messages."""
    run: dict[str, Any]

    @property
    def engine(self) -> Stage:
        """Start of Python, preparation, decoding and networks."""
        return self.stages[0]


def job(scene: Path, *options: str) -> MeasuredJob:
    """Run a scene into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        whole = truckscape("run", str(scene), "--out", folder, "--no-prefect", *options)
        (record,) = Path(folder).glob("*/run.json")
        return MeasuredJob(whole, _stages(whole), json.loads(record.read_text()))


def _stages(whole: Measured) -> tuple[Stage, ...]:
    begin = max((i for i, line in enumerate(whole.lines) if _TILES.fullmatch(line.text)), default=0)
    until_last_tile = whole.lines[: begin + 1]
    last = until_last_tile[-1]
    peak = max(line.peak_mb for line in until_last_tile)
    stages = [Stage("start, decoding and networks", last.seconds, last.cpu_seconds, peak)]
    name = "storing the last shard"
    for line in whole.lines[begin + 1 :]:
        cpu = line.cpu_seconds - last.cpu_seconds
        stages.append(Stage(name, line.seconds - last.seconds, cpu, line.peak_mb))
        name, last = line.text, line
    return tuple(stages)
