"""Write RESULTS.md from one JSON file per benchmark in `results/`, so that each can be repeated alone."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT
from pipeline.models.bundle import open_bundle

PAGE = ROOT / "benchmarks" / "RESULTS.md"
PIECES = ROOT / "benchmarks" / "results"
ORDER = (
    "granule", "sizes", "megapixel", "trucks_peers", "landcover_peers", "runtimes", "gpu", "scenes",
    "merging", "matching", "detectors", "counts", "counters", "landcover_polygons", "clouds", "probabilities",
    "batch", "dask", "startup",
)  # fmt: skip
NETWORKS = ("trucks", "landcover")
_RUN = {
    **dict.fromkeys(("merging", "matching", "landcover_polygons", "clouds"), ()),
    **dict.fromkeys(("trucks_peers", "detectors", "counts", "counters"), ("trucks",)),
    **dict.fromkeys(("landcover_peers", "probabilities"), ("landcover",)),
}
"""Shipped networks that a section runs; both by default."""
_PACKAGES = ("truckscape", "torch", "torchvision", "numpy", "rasterio", "sahi", "torchgeo")


def bar(what: str, value: float, limit: float, at_most: bool, unit: str = "") -> dict[str, Any]:
    """Return a row of the table of limits: a measured value, its limit, and whether it is met."""
    met = value <= limit if at_most else value >= limit
    shown = f"{'at most' if at_most else 'at least'} {limit:g}{unit}"
    return {"what": what, "measured": f"{value:.3g}{unit}", "limit": shown, "met": met}


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table; its columns are the keys of the rows, in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(str(row.get(column, '')) for column in columns)} |" for row in rows),
    ]


def save(
    name: str,
    title: str,
    lines: Sequence[str],
    figures: dict[str, Any],
    bars: Sequence[dict[str, Any]] = (),
) -> None:
    """Store the figures of a benchmark, and write the page again. `lines` are Markdown."""
    piece = {
        "title": title,
        "command": f"python -m benchmarks.{name}",
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": machine(),
        "networks": networks(),
        "bars": list(bars),
        "lines": list(lines),
        "figures": figures,
    }
    PIECES.mkdir(exist_ok=True)
    (PIECES / f"{name}.json").write_text(json.dumps(piece, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write("\n".join(["", f"## {title}", "", *lines, ""]))
    sys.stdout.flush()


def figures(name: str) -> dict[str, Any] | None:
    """Return the figures of the last run of a benchmark; None if it has not run."""
    file = PIECES / f"{name}.json"
    return json.loads(file.read_text())["figures"] if file.is_file() else None


def page() -> str:
    """Return the text of the page."""
    pieces = {name: json.loads((PIECES / f"{name}.json").read_text()) for name in ORDER if _measured(name)}
    bars = [
        {**item, "met": "yes" if item["met"] else "**no**", "section": _title(name, piece)}
        for name, piece in pieces.items()
        for item in piece["bars"]
    ]
    shipped = " and ".join(f"{network} ({what})" for network, what in networks().items())
    lines = [
        "# Results of the benchmarks",
        "",
        "`make bench` writes this page; each section has its own command. No figure is written by hand.",
        "Seconds are wall-clock time. CPU seconds are those of all cores together. Memory is the highest sum "
        "of the resident memory of all processes of a command. The commands run one after the other.",
        f"The shipped networks are {shipped}. Sections marked (earlier networks) were measured with others.",
        "",
        *(table(bars) if bars else []),
    ]
    for name, piece in pieces.items():
        lines += [
            "",
            f"## {_title(name, piece)}",
            "",
            f"`{piece['command']}`, {piece['when']}, {piece['machine']}.",
            "",
            *piece["lines"],
        ]
    return "\n".join([*lines, ""])


def machine() -> str:
    """Describe this machine and the versions of packages."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, {packages}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def networks() -> dict[str, str]:
    """Return architecture and version of the shipped networks."""
    cards = {name: open_bundle(name).card for name in NETWORKS}
    return {name: f"{card.architecture}, version {card.version}" for name, card in cards.items()}


def _title(name: str, piece: dict[str, Any]) -> str:
    """Return the title of a section, which says so if it ran other networks than those that are shipped."""
    then, now = piece.get("networks", {}), networks()
    current = all(then.get(network) == now[network] for network in _RUN.get(name, NETWORKS))
    return str(piece["title"]) + ("" if current else " (earlier networks)")


def _measured(name: str) -> bool:
    return (PIECES / f"{name}.json").is_file()
