"""A warning where a folder has another product of the acquisition that is to be run into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.input_warnings import warn
from pipeline.safe_json import read_json_object
from pipeline.scenes.acquisition import Acquisition, acquisition_of, is_same
from pipeline.scenes.scene import Scene
from pipeline.storage.out_folder import MOST_RECORD_BYTES, RECORD


def warn_of_same_acquisition(scene: Scene, out: Path) -> None:
    """Warn for each scene in `out` that shows the same: its trucks would count twice in `traffic.parquet`."""
    here = acquisition_of(scene)
    for path in sorted(out.glob("*/run.json")) if here else ():
        there = _acquisition(path)
        if here and there and path.parent.name != scene.id and is_same(here, there):
            warn(
                f"{scene.id} (baseline {here.baseline}) is the same acquisition as {path.parent.name} "
                f"(baseline {there.baseline}) in {out}: together, as in traffic.parquet, its trucks count "
                "twice. Give another --out, or use `truckscape batch`, which counts the newest only."
            )


def warn_of_another_scene(scene: Scene, out: Path, inputs: Mapping[str, str]) -> None:
    """Warn if the folder of the scene has layers of another scene with the same id, which are replaced.

    A scene that was moved has the same files; another product of its acquisition is the same scene. `inputs`
    are the SHA-256 of files by path.
    """
    try:
        record = read_json_object(out / scene.id / RECORD, MOST_RECORD_BYTES)
    except (OSError, ValueError):
        return
    source, files = record.get("source"), record.get("inputs")
    hashes = (
        {value for value in files.values() if isinstance(value, str)} if isinstance(files, dict) else set()
    )
    mine = {inputs[str(file)] for file in scene.files if str(file) in inputs}
    here, there = acquisition_of(scene), Acquisition.from_json(record.get("acquisition") or {})
    if source == scene.href or hashes & mine or (here and there and is_same(here, there)):
        return
    warn(
        f"{out / scene.id} has layers of another scene of this id, from {source}; they are replaced. To keep "
        "both, rename the input or give another --out."
    )


def _acquisition(path: Path) -> Acquisition | None:
    try:
        return Acquisition.from_json(read_json_object(path, MOST_RECORD_BYTES)["acquisition"])
    except (OSError, ValueError, LookupError):
        return None
