"""Links from a page to the files beside it, by what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_CONTENTS = {
    "trucks": "trucks",
    "vehicles": "moving vehicles of any kind",
    "look_alikes": "look-alikes left out",
    "road_segments": "traffic by segment of road",
    "seen": "area searched",
    "not_seen": "area not searched",
    "landcover": "land cover",
    "landcover_probability": "probabilities of land cover",
    "panoptic": "land cover and trucks in one raster",
    "confusion_cases": "confusion cases",
    "metrics": "figures of the evaluation",
    "traffic": "traffic by road, direction and date",
    "traffic_roads": "the same with the lines of the roads",
    "item": "STAC item of these files",
    "run": "record of the run: inputs, settings, versions",
}
"""What a file holds, by its name without suffix, in the page's order."""
_OF_FOLDERS = {"traffic.parquet": "traffic of this scene in the table of all scenes"}
_SHOWN = (".gpkg", ".geojson", ".parquet", ".fgb", ".pmtiles", ".csv", ".xlsx", ".tif", ".png", ".json")


@dataclass(frozen=True)
class FileLink:
    """A file beside a page."""

    name: str
    href: str
    """Relative to the page, for a URL."""
    size: str
    """For people; empty if the file is not written yet."""


def file_links(files: Iterable[Path], page: Path) -> list[tuple[str, list[FileLink]]]:
    """Return what the files hold, each with its links from `page`; styles and pages have none."""
    links: dict[str, list[FileLink]] = {name: [] for name in _CONTENTS.values()}
    for path in files:
        if path.suffix in _SHOWN:
            content = _OF_FOLDERS.get(path.parent.name) or _CONTENTS.get(path.stem, path.stem)
            href = quote(Path(os.path.relpath(path, page.parent)).as_posix())
            links.setdefault(content, []).append(FileLink(path.name, href, _size(path)))
    return [(content, there) for content, there in links.items() if there]


def _size(path: Path) -> str:
    if not path.is_file():
        return ""
    size = path.stat().st_size
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3)):,} kB"
