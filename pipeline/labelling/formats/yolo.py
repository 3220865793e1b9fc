"""YOLO's text files: https://docs.ultralytics.com/datasets/detect/.

A file for each image has a line for each box: number of the class, then centre, width and height as shares
of the image. `data.yaml` has the names of the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import LabelsError
from pipeline.labelling.formats.label_format import LabelFormat, ReadLabels, finite, reading
from pipeline.labelling.images import CATEGORIES, IMAGES, Box, ImageIndex, ImagePlace
from pipeline.safe_json import read_limited
from pipeline.safe_yaml import read_yaml_file

_FILE = "data.yaml"
_FOLDER = "labels"
_TITLE = "YOLO"


def _accepts(path: Path, _: Any) -> bool:
    return path.suffix.lower() in {".yaml", ".yml"}


def _write(folder: Path, name: str, images: Sequence[ImagePlace], boxes: Sequence[Box]) -> None:
    lines: dict[str, list[str]] = {image.name: [] for image in images}
    sizes = {image.name: (image.width, image.height) for image in images}
    for box in boxes:
        (width, height), (left, top, right, bottom) = sizes[box.image], box.bounds
        x, y = box.centre
        shares = x / width, y / height, (right - left) / width, (bottom - top) / height
        lines[box.image].append(
            " ".join([str(CATEGORIES.index(box.category)), *(f"{share:.9f}" for share in shares)])
        )
    (folder / _FOLDER).mkdir()
    for image, texts in lines.items():
        path = folder / _FOLDER / f"{Path(image).stem}.txt"
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    data = {"train": IMAGES, "val": IMAGES, "names": dict(enumerate(CATEGORIES))}
    (folder / _FILE).write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


def _read(path: Path, images: ImageIndex) -> ReadLabels:
    names = _names(path)
    folders = [folder for folder in sorted(path.parent.rglob(_FOLDER)) if folder.is_dir()]
    files = [file for folder in folders for file in sorted(folder.rglob("*.txt"))]
    if not files:
        raise LabelsError(f"{path}: no text file in a folder {_FOLDER!r} beside it; expected one an image.")
    read = ReadLabels()
    for file in files:
        place = images.find(file.name)
        with reading(file, _TITLE):
            rows = [line.split() for line in read_limited(file).decode("utf-8").splitlines() if line.strip()]
            if place is None:
                read.left_out["on images that the sidecar does not list"] += len(rows)
                continue
            read.images.add(place.name)
            for row in rows:
                if len(row) not in {5, 6} or int(row[0]) not in names:
                    raise ValueError(
                        f"line {' '.join(row)[:80]!r}; expected a class of {_FILE}, x, y, width and height"
                    )
                x, y, width, height = finite(*row[1:5])
                shares = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                read.boxes.append(Box(place.name, names[int(row[0])], place.from_size(shares, 1, 1), {}))
    return read


def _names(path: Path) -> dict[int, str]:
    """Return the classes of `data.yaml`, whose `names` are a list or a mapping."""
    with reading(path, _TITLE):
        names = read_yaml_file(path)["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}


FORMAT = LabelFormat("yolo", _TITLE, _FILE, _accepts, _write, _read)
