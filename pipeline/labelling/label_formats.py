"""The list of formats of labelling tools, and the one of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import LabelsError
from pipeline.labelling.formats import coco, cvat, label_studio, yolo
from pipeline.labelling.formats.label_format import LabelFormat
from pipeline.labelling.images import MOST_BYTES
from pipeline.safe_json import read_json

LABEL_FORMATS = (coco.FORMAT, yolo.FORMAT, label_studio.FORMAT, cvat.FORMAT)
"""Formats of labelled images; another one is a module of `formats` and an entry here."""


def format_named(name: str) -> LabelFormat:
    """Return the format of a name.

    Raises
    ------
    LabelsError
        If there is none.
    """
    for each in LABEL_FORMATS:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in LABEL_FORMATS)
    raise LabelsError(f"Unknown format of labels {name!r}; expected one of {known}.")


def find_labels(path: Path, name: str | None = None) -> tuple[LabelFormat, Path]:
    """Return the format and the file of labels at a path: a file, or the folder of an export.

    Raises
    ------
    LabelsError
        If nothing is there, it is of no known format, or a folder has files of several.
    """
    formats = LABEL_FORMATS if name is None else (format_named(name),)
    if not path.exists():
        raise LabelsError(f"{path} does not exist. Give a file of labels, or the folder of an export.")
    if path.is_dir():
        found = [(each, path / each.file) for each in formats if (path / each.file).is_file()]
    elif name is not None:
        found = [(each, path) for each in formats]
    else:
        document = _document(path)
        found = [(each, path) for each in formats if each.accepts(path, document)]
    if len(found) == 1:
        return found[0]
    titles = ", ".join(each.title for each in formats)
    if found:
        files = ", ".join(file.name for _, file in found)
        raise LabelsError(f"{path} has labels of several formats ({files}). Give one of the files.")
    raise LabelsError(f"{path} is not of a known format of labels; expected {titles}.")


def _document(path: Path) -> Any:
    """Return the document of a JSON file; None if it has another name, or can't be read as JSON."""
    if path.suffix.lower() != ".json":
        return None
    try:
        return read_json(path, MOST_BYTES)
    except (OSError, ValueError):
        return None
