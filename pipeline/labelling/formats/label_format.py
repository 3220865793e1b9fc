"""Interface of a format of labelled images."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import LabelsError
from pipeline.labelling.images import Bounds, Box, ImageIndex, ImagePlace
from pipeline.safe_yaml import YamlError


@dataclass
class ReadLabels:
    """Boxes of a file of labels, the images that somebody has labelled, and a count of the rest."""

    boxes: list[Box] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    """Names of the labelled images, with or without boxes."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Numbers of boxes or images by the reason why they can't be used."""


@dataclass(frozen=True)
class LabelFormat:
    """Format of labelled images."""

    name: str
    """Name in options."""
    title: str
    """Name in messages."""
    file: str
    """Name of the file that `read` takes, in the folder of an export."""
    accepts: Callable[[Path, Any], bool]
    """Return whether a file is of this format, by its path and its JSON document, None if it has none."""
    write: Callable[[Path, str, Sequence[ImagePlace], Sequence[Box]], None]
    """Write files into a folder; the text is the name that the folder will have."""
    read: Callable[[Path, ImageIndex], ReadLabels]
    """Read boxes; raises LabelsError if the file is not of this format."""


@contextmanager
def reading(path: Path, title: str) -> Iterator[None]:
    """Turn the errors that a malformed document causes into LabelsError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, YamlError) as error:
        why = getattr(error, "strerror", None) or (
            f"no {error}" if isinstance(error, KeyError) else str(error)[:200]
        )
        raise LabelsError(f"{path} can't be read as {title}: {why}.") from error


def write_document(document: Any, path: Path) -> None:
    """Write a JSON file into the folder of an export. Raises OSError."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def finite(*values: Any) -> Bounds:
    """Return four numbers as bounds; ValueError if one is no finite number."""
    a, b, c, d = (float(value) for value in values)
    if not all(map(math.isfinite, (a, b, c, d))):
        raise ValueError(f"a box has the numbers {values}; expected finite ones")
    return a, b, c, d
