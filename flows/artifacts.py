"""Artifacts of a scene for Prefect's pages: summary with links, roads, and a picture of the trucks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from pipeline.report.markdown import code, plain
from pipeline.report.pictures import data_uri, marked
from pipeline.report.roads import RoadRow, road_rows
from pipeline.run import Result


def scene_artifacts(result: Result) -> Iterator[Callable[[], object]]:
    """Yield functions that record the results of a scene: a summary, traffic by road, a picture."""
    name = plain(result.run["scene"])
    yield partial(create_markdown_artifact, summary_markdown(result), "scene-summary", name)
    shown = result.shown
    if shown is None:
        return
    if roads := road_table(road_rows(shown.road_traffic)):
        yield partial(create_table_artifact, roads, "scene-roads", f"Trucks by road: {name}")
    if shown.picture is not None:
        trucks = None if shown.trucks is None else shown.trucks.geometry
        picture = data_uri(marked(shown.picture, trucks), lossless=False)
        yield partial(create_image_artifact, picture, "scene-map", f"Trucks: {name}")


def summary_markdown(result: Result) -> str:
    """Return the results as tables, with links to report and layers where they were published, else here."""
    rows = [f"| {plain(name)} | {plain(value)} |" for name, value in result.summary().items()]
    paths = [
        f"| {code(name)} | [{code(address)}](<{address}>) |"
        for name, path in sorted(result.outputs.items())
        for address in (_address(result, path),)
    ]
    head = [f"## {plain(result.run['scene'])}", "", "| what | value |", "|---|---|"]
    return "\n".join([*head, *rows, "", "| file | address |", "|---|---|", *paths])


def road_table(rows: list[RoadRow]) -> list[dict[str, Any]]:
    """Return traffic by road and direction for a table of JSON; what is not known is None."""
    return [
        {
            "road": row.road,
            "direction": row.direction,
            "trucks": _rounded(row.trucks),
            "expected": _rounded(row.expected),
            "expected, 95 %": _interval(row.expected_interval),
            "trucks per hour": _rounded(row.flow_per_hour),
            "per hour, 95 %": _interval(row.flow_interval),
            "mean speed, km/h": _rounded(row.mean_speed_kmh),
            "searched, km": _rounded(row.seen_km),
        }
        for row in rows
    ]


def _address(result: Result, path: Path) -> str:
    url = result.run["parameters"]["publish"]["url"]
    if url is None:
        return path.absolute().as_uri()
    inside = path.is_relative_to(result.folder)
    below = path.relative_to(result.folder.parent) if inside else Path(path.name)
    return f"{url.rstrip('/')}/{quote(below.as_posix())}"


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 1)


def _interval(ends: tuple[float, float]) -> str | None:
    return None if any(map(math.isnan, ends)) else f"{ends[0]:.1f} - {ends[1]:.1f}"
