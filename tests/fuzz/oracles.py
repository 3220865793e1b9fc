"""Judges of a trial: everything that no input may cause."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import rasterio

from tests.fuzz.executor import Ending
from tests.fuzz.sandbox import CANARY

LAYERS = ("trucks", "landcover")
Fingerprint = dict[str, str]
"""Hash of each layer of one scene, without what names the scene or its time."""

_NOISE = {
    "traceback": re.compile(r"^Traceback \(most recent", re.M),
    "unexpected error": re.compile(r"\bunexpected [A-Za-z_]\w*: "),
    "warning of Python": re.compile(r"\b[A-Z]\w+Warning\b"),
    "message of GDAL": re.compile(r"^(ERROR|Warning) \d+:", re.M),
    "exception that was ignored": re.compile(r"^Exception ignored", re.M),
    "control characters": re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]"),
}
_HIDDEN_OUTPUTS = {".shards", ".roads"}
_NAMES_THE_SCENE = {"id", "scene_id", "acquired", "acquired_date", "msi_detector"}


def noise(stdout: str, stderr: str) -> Iterator[str]:
    """Yield what a terminal must never show."""
    for name, pattern in _NOISE.items():
        found = pattern.search(stderr) or pattern.search(stdout)
        if found:
            yield f"{name}: {found[0]!r}"


def bad_ending(ending: Ending, stderr: str, stops_at_error: bool) -> Iterator[str]:
    """Yield what is wrong with the end of a command; one that `stops_at_error` says so in one line."""
    if ending.killed_for:
        yield f"limit passed: {ending.killed_for}"
    elif ending.status not in (0, 1, 2):
        yield f"exit status {ending.status}"
    if ending.left_behind:
        yield f"processes left behind: {'; '.join(ending.left_behind)}"
    lines = sum(line.startswith("error: ") for line in stderr.splitlines())
    if lines > 1 or (stops_at_error and ending.status == 1 and lines != 1):
        yield f"{lines} error lines"


def changes(before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> Iterator[str]:
    """Yield each file outside of `--out` that was made, changed or removed."""
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            kind = "made" if name not in before else "removed" if name not in after else "changed"
            yield f"{kind} outside of --out: {name}"


def leaks(out: Path, texts: Collection[str]) -> Iterator[str]:
    """Yield each output that holds the text of files that no command may read."""
    if any(CANARY in text for text in texts):
        yield "canary on the terminal"
    token = CANARY.encode()
    for file in _files(out):
        if token in file.read_bytes():
            yield f"canary in {file.relative_to(out)}"


def half_written(out: Path, tmp: Path, kept: Collection[str]) -> Iterator[str]:
    """Yield temporary files that a command left; `kept` are names that were in `out` before."""
    for file in _files(tmp):
        yield f"temporary file left: {file.relative_to(tmp)}"
    for file in _files(out):
        name = str(file.relative_to(out))
        if name in kept:
            continue
        hidden = [part for part in file.relative_to(out).parts if part.startswith(".")]
        if any(part not in _HIDDEN_OUTPUTS for part in hidden):
            yield f"half-written file left: {name}"


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if stat.S_ISREG(path.lstat().st_mode) and path.stat().st_size < 64 << 20:
            yield path


def names_in(out: Path) -> set[str]:
    """Return the files of a folder, relative to it."""
    return {str(file.relative_to(out)) for file in _files(out)}


def fingerprints(out: Path, foreign: Collection[str] = ()) -> list[Fingerprint]:
    """Return those of all scenes in `out` that have a record, but for folders of others."""
    records = [file for file in sorted(out.rglob("run.json")) if file.parent.name not in foreign]
    return [{name: _LAYER[name](record.parent) for name in LAYERS} for record in records]


def _trucks(folder: Path) -> str:
    file = folder / "trucks.geojson"
    if not file.is_file():
        return ""
    trucks = []
    for feature in json.loads(file.read_text(encoding="utf-8"))["features"]:
        properties: dict[str, Any] = feature["properties"]
        kept = {name: value for name, value in properties.items() if name not in _NAMES_THE_SCENE}
        trucks.append(json.dumps([feature["geometry"], kept], sort_keys=True))
    return _hash("\n".join(sorted(trucks)).encode())


def _landcover(folder: Path) -> str:
    file = folder / "landcover.tif"
    if not file.is_file():
        return ""
    with rasterio.open(file) as raster:
        grid = f"{raster.crs} {tuple(raster.transform)} {raster.shape} {raster.nodata}"
        return _hash(grid.encode() + raster.read().tobytes())


_LAYER = {"trucks": _trucks, "landcover": _landcover}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def wrong_layers(
    found: list[Fingerprint], undamaged: list[Fingerprint], may_differ: Collection[str]
) -> Iterator[str]:
    """Yield layers that no undamaged scene has, but for those that the mutation may change."""
    for layer in LAYERS:
        if layer in may_differ:
            continue
        right = {scene[layer] for scene in undamaged}
        for scene in found:
            if scene[layer] not in right:
                yield f"wrong layer with exit 0: {layer} {scene[layer] or 'missing'}, not {sorted(right)}"
