"""The layout of `--out`: a folder for each scene, and the files of all scenes beside them.

What is there may be somebody else's. Before a run writes or removes anything, `check_scene_folder` makes sure
that it does so in the folder of its scene only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.printable import is_text
from pipeline.redaction import shown
from pipeline.safe_json import read_json_object

CATALOG, COLLECTION = "catalog.json", "collection.json"
TRAFFIC = "traffic.parquet"
TRAFFIC_CSV, TRAFFIC_XLSX, TRAFFIC_ROADS = "traffic.csv", "traffic.xlsx", "traffic_roads.parquet"
ALL_TRUCKS, ALL_TRUCKS_PARQUET = "trucks.gpkg", "trucks.parquet"
LEDGER = "ledger.sqlite"
LOG = "log.jsonl"
TIME_SERIES = "time_series.png"
INDEX = "index.html"
BESIDE_SCENES = (
    *(CATALOG, COLLECTION, TRAFFIC, TRAFFIC_CSV, TRAFFIC_XLSX, TRAFFIC_ROADS, LEDGER, LOG, TIME_SERIES),
    *(ALL_TRUCKS, ALL_TRUCKS_PARQUET, INDEX),
)
"""Names that no scene's folder may have. SQLite adds `-wal`, `-shm` and `-journal` to that of the ledger."""
ROADS = ".roads"
SHARDS, EVALUATION = ".shards", "evaluation"
"""Folders in that of a scene."""
RECORD, ITEM = "run.json", "item.json"
PROBABILITIES = "landcover_probability.tif"
DETECTIONS = "detections.parquet"
_WRITTEN = (
    ITEM,
    EVALUATION,
    "report.html",
    "trucks.gpkg",
    "trucks.geojson",
    "landcover.tif",
    PROBABILITIES,
    "landcover.gpkg",
)
"""Files and folders by which a folder that no run has made would lose something of its owner."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MOST_RECORD_BYTES = 64 * 2**20
"""A record names all shards and inputs."""


def is_address_for_gdal(path: Path) -> bool:
    """Return whether GDAL takes the path of a file or folder for an address, such as `/vsis3/bucket`."""
    return path.absolute().as_posix().startswith("/vsi")


def check_out(out: Path) -> None:
    """Raise OutputError if the folder of results is a file, or GDAL can't write to a folder of that name."""
    try:
        _check_out(out)
    except (OSError, ValueError) as error:  # a name that is too long, a loop of links
        why = getattr(error, "strerror", None) or error
        raise OutputError(f"Can't write to {shown(str(out))} ({why}); choose another --out.") from error


def _check_out(out: Path) -> None:
    if not is_text(out):
        raise OutputError(f"Can't write to {out}: its name is not UTF-8. Rename it, or choose another --out.")
    if _CONTROL.search(str(out)):
        raise OutputError(
            f"Can't write to {out}: its name has control characters. Rename it, or choose another --out."
        )
    if is_address_for_gdal(out):
        raise OutputError(f"Can't write to {out}, which GDAL takes for an address; choose another --out.")
    if out.is_symlink() and not out.is_dir():
        raise OutputError(f"Can't write to {out}, a link that leads to no folder; choose another --out.")
    if out.exists() and not out.is_dir():
        raise OutputError(f"Can't write to {out}, which is a file; choose another --out.")


def make_out(out: Path) -> None:
    """Make the folder of results. Raises OutputError as `check_out`, or if it can't be made."""
    check_out(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise OutputError(f"Can't write to {out} ({why}); choose another --out.") from error


def check_file(path: Path) -> None:
    """Check that a file beside the scenes is one, or does not exist: a link would be written through.

    Raises
    ------
    OutputError
        If it is a link, a folder, a pipe or a device.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(
            f"{path} is no file but a link, folder or device. Remove it, or choose another --out."
        )


def check_scene_folder(out: Path, scene_id: str, beside: Sequence[str] = ()) -> None:
    """Check that a run may write into `out/<scene_id>`, and replace and remove results there.

    `beside` names folders of `out` that the run writes into as well.

    Raises
    ------
    OutputError
        If it, or a folder that the run would write into, is a link or a file; if its record is of another
        scene; or if no run has made it and it has files that would be overwritten.
    """
    try:
        _check_scene_folder(out, scene_id, beside)
    except OSError as error:
        raise OutputError(f"Can't read {out / scene_id} ({error.strerror}); choose another --out.") from error


def _check_scene_folder(out: Path, scene_id: str, beside: Sequence[str]) -> None:
    folder = out / scene_id
    for place in (folder, folder / SHARDS, folder / EVALUATION, *(out / name for name in beside)):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise OutputError(
                f"{place} is no folder but a link or file; layers are not written through it. Remove it, or "
                "choose another --out."
            )
    if (folder / RECORD).exists() or (folder / RECORD).is_symlink():
        _check_record(folder / RECORD, scene_id)
    elif not (folder / SHARDS).is_dir():
        there = [name for name in _WRITTEN if (folder / name).exists()]
        if there:
            raise OutputError(
                f"{folder} was not made by a run: it has {', '.join(there)} but no {RECORD}. Move it away, "
                "or choose another --out."
            )
    other = _other_spelling(out, scene_id)
    if other is not None:
        raise OutputError(
            f"{folder} is the folder of {other} on this disk, which takes capital letters for small ones. "
            "Choose another --out."
        )


def is_record_of(record: object, scene_id: str) -> bool:
    """Return whether a JSON document is the record of a run of a scene."""
    return isinstance(record, dict) and record.get("scene") == scene_id


def _check_record(path: Path, scene_id: str) -> None:
    try:
        record = read_json_object(path, MOST_RECORD_BYTES)
        if is_record_of(record, scene_id):
            return
        why = f"it is of {str(record.get('scene'))[:100]!r}"
    except (OSError, ValueError) as error:
        why = f"it {error}" if isinstance(error, ValueError) else str(error.strerror)
    raise OutputError(
        f"{path} is not the record of a run of {scene_id} ({why}), so its layers may be somebody else's. "
        "Move the folder away, or choose another --out."
    )


def _other_spelling(out: Path, scene_id: str) -> str | None:
    """Return the name in capitals or small letters that a folder has instead of `scene_id`; None without."""
    folder, other = out / scene_id, out / scene_id.swapcase()
    try:
        if other.name == folder.name or not folder.samefile(other):
            return None
    except OSError:  # most file systems tell capital letters: there is no such folder
        return None
    names = os.listdir(out)  # noqa: PTH208
    return next((name for name in names if name != scene_id and name.casefold() == scene_id.casefold()), None)
