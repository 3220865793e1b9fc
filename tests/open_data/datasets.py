"""Files of a small catalogue, in place of the real one."""

import hashlib
from pathlib import Path

from pipeline.open_data.catalogue import DataFile, Dataset

CONTENT = {
    "fields/B02.tif": b"blue",
    "fields/B03.tif": b"green" * 40_000,
    "scenes/town.tif": b"town",
    "scenes/port_1.tif": b"port one",
    "scenes/port_2.tif": b"port two",
    "models/net/forward/a.pb": b"graph",
    "models/net/forward/variables/b": b"weights",
    "models/net/backward/a.pb": b"another graph",
}
DATASETS = {"fields": "fields", "town": "scenes", "port": "scenes", "net": "models/net"}


def data_file(folder: str, path: str, **further) -> DataFile:
    content = CONTENT[f"{folder}/{path}"]
    return DataFile(path=path, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), **further)


def small_dataset(name: str, **further) -> Dataset:
    folder = DATASETS[name]
    paths = [path.removeprefix(f"{folder}/") for path in CONTENT if path.startswith(f"{folder}/")]
    paths = [path for path in paths if folder != "scenes" or path.startswith(name)]
    files = tuple(data_file(folder, path, **further) for path in paths)
    return Dataset(about=name, licence="CC0-1.0", source="these tests", folder=folder, files=files)


def write(folder: Path) -> None:
    for path, content in CONTENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def files_below(folder: Path) -> list[str]:
    """Paths of all files, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
