"""Input files of a run: their hashes, and that they were not replaced while they were read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path

from pipeline.errors import InputChangedError
from pipeline.evaluation.trucks.true_negatives import true_negatives_file
from pipeline.run.request import Request
from pipeline.scenes.raster.datasets import FileState, file_state
from pipeline.scenes.readers.checksums import sha256_of_files
from pipeline.scenes.scene import Scene
from pipeline.storage.beside import deciding_files
from pipeline.storage.untrusted_vectors import file_of

States = Mapping[str, FileState]
"""Version of each file (`file_state`) by path."""
_MOST_FILES = 20_000
"""Files of a product are some hundred; a folder around it may hold anything."""


def states_below(path: str) -> States:
    """Return the version of a local file, or of the files in a folder; none for a URL, or what is no path."""
    try:
        here = Path(path).expanduser()
        if here.is_file():
            return states_of([here])
        return states_of(islice((file for file in here.rglob("*") if file.is_file()), _MOST_FILES))
    except (OSError, RuntimeError, ValueError):  # too long, of an unknown user: `open_scene` says so
        return {}


def states_of(files: Iterable[Path | str]) -> States:
    """Return the present version of files."""
    return {str(file): file_state(str(file)) for file in files}


def files_of_scene(scene: Scene) -> list[Path]:
    """Return the local files that decide the pixels of a scene."""
    return sorted({file for path in scene.files for file in deciding_files(path)})


def files_of_labels(request: Request) -> list[Path]:
    """Return the files that decide the labels of a request, which are read again when layers are finished."""
    given = [file_of(path) for path in (request.truck_labels, request.landcover_labels) if path]
    if request.truck_labels and (marked := true_negatives_file(request.truck_labels)):
        given.append(marked)
    return sorted({file for path in given for file in deciding_files(path)})


def files_of(scene: Scene, request: Request) -> list[Path]:
    """Return every local file that decides what a request reads."""
    roads = deciding_files(file_of(request.roads)) if request.roads else []
    return sorted({*files_of_scene(scene), *files_of_labels(request), *roads})


def hashes_of(files: Iterable[Path], scene: Scene, threads: int) -> dict[str, str]:
    """Return the SHA-256 of files by path.

    Raises MetadataError if a file of a product has another checksum than its manifest lists.
    """
    try:
        with ThreadPoolExecutor(threads) as pool:
            found = sha256_of_files(files, scene.checksums, pool)
    except FileNotFoundError as error:
        raise _changed(str(error.filename)) from error
    return {str(file): digest for file, digest in found.items()}


def check_same(before: States, files: Iterable[Path | str]) -> None:
    """Raise InputChangedError if a file has not the version that it had before, if it had one."""
    for name, state in states_of(files).items():
        if name in before and before[name] != state:
            raise _changed(name)


def verified(files: Iterable[Path], hashes: Mapping[str, str], states: States) -> States:
    """Return the present version of files that have the contents of `hashes`; else InputChangedError.

    `states` are the versions that were hashed. Another version, as on another machine, is hashed again.
    """
    present = states_of(files)
    for name, state in present.items():
        if name in hashes and state != states.get(name) and _digest(name, state) != hashes[name]:
            raise _changed(name)
    return present


def _changed(name: str) -> InputChangedError:
    return InputChangedError(
        f"{name} was changed or replaced while the run read it, so no layers are written. Run again when it "
        "is complete."
    )


@lru_cache(1024)
def _digest(name: str, state: FileState) -> str | None:
    return None if state is None else _sha256(Path(name))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise _changed(str(path)) from error
