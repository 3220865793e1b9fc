"""Images of a scene that know their place on the map, and the boxes on them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from affine import Affine

from pipeline.errors import LabelsError
from pipeline.safe_json import read_json_object
from pipeline.storage.atomic import replacing

TRUCK, LIGHT_VEHICLE, NO_TRUCK, UNCERTAIN = "truck", "light vehicle", "no truck", "uncertain"
CATEGORIES = (TRUCK, LIGHT_VEHICLE, NO_TRUCK, UNCERTAIN)
IMAGES = "images"
"""Folder of the images in that of an export."""
SIDECAR = "images.json"
MOST_BYTES = 2**28
"""Limit of a file of labels: a million boxes."""
_KIND, _VERSION = "truckscape images", 1
_OF_UPLOADS = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio's prefix of the names of uploaded files."""

Bounds = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of an image, from its upper left corner."""


@dataclass(frozen=True)
class ImagePlace:
    """Image of a part of a scene, and its place."""

    name: str
    """Name of its file."""
    scene_id: str
    crs: str
    transform: Affine
    """Transform from pixels of the image to the CRS."""
    width: int
    height: int
    core: Bounds
    """The part that no other image of the scene has in its core; the rest is margin."""
    padded_px: int = 0
    """Pixels of the image that are outside of the scene, and black."""

    def has_in_core(self, x: float, y: float) -> bool:
        """Return whether a point in pixels is in the core without its right and lower edges."""
        left, top, right, bottom = self.core
        return left <= x < right and top <= y < bottom

    def from_size(self, bounds: Bounds, width: float, height: float) -> Bounds:
        """Convert bounds in an image that a tool has scaled to another size; 1, 1 for shares."""
        a, b = self.width / width, self.height / height
        return bounds[0] * a, bounds[1] * b, bounds[2] * a, bounds[3] * b

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for the sidecar."""
        return {**vars(self), "transform": list(self.transform[:6]), "core": list(self.core)}


@dataclass(frozen=True)
class Box:
    """Box on an image."""

    image: str
    category: str
    bounds: Bounds
    attributes: Mapping[str, str | float | bool]

    @property
    def centre(self) -> tuple[float, float]:
        """Return x, y of its centre, in pixels."""
        return (self.bounds[0] + self.bounds[2]) / 2, (self.bounds[1] + self.bounds[3]) / 2


class ImageIndex:
    """Images of a sidecar by the names that tools give them."""

    def __init__(self, images: Iterable[ImagePlace]) -> None:
        self._by_stem = {Path(image.name).stem: image for image in images}

    def find(self, address: str) -> ImagePlace | None:
        """Return the image of a name, path or URL, with any suffix; None if the sidecar has none."""
        for name in (address, unquote(address)):
            stem = re.sub(r"\.\w{3,4}$", "", re.split(r"[\\/]", name)[-1])
            for each in (stem, _OF_UPLOADS.sub("", stem)):
                if each in self._by_stem:
                    return self._by_stem[each]
        return None

    def __iter__(self) -> Iterator[ImagePlace]:
        """Iterate over the images."""
        return iter(self._by_stem.values())


def write_sidecar(path: Path, images: Iterable[ImagePlace]) -> None:
    """Write the places of images as JSON.

    Raises
    ------
    OutputError
        If the file can't be written.
    """
    content = {"kind": _KIND, "version": _VERSION, "images": [image.as_json() for image in images]}
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_sidecar(path: Path) -> ImageIndex:
    """Read the places of images that `write_sidecar` wrote.

    Raises
    ------
    LabelsError
        If the file is missing or no such file.
    """
    try:
        content = read_json_object(path, MOST_BYTES)
        if (content.get("kind"), content.get("version")) != (_KIND, _VERSION):
            raise ValueError(f"is not of kind {_KIND!r}, version {_VERSION}")
        return ImageIndex([_image(one) for one in content["images"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = getattr(error, "strerror", None) or error
        raise LabelsError(
            f"{path} can't be used ({why}). Expected the {SIDECAR} that `truckscape labels export` wrote "
            "beside the images; give it with --images."
        ) from error


def _image(one: Mapping[str, Any]) -> ImagePlace:
    numbers = [float(value) for value in (*one["transform"], *one["core"])]
    size = int(one["width"]), int(one["height"])
    if len(numbers) != 10 or not all(map(math.isfinite, numbers)) or min(size) < 1:
        raise ValueError(f"has no usable place of {one['name']!r}")
    left, top, right, bottom = numbers[6:]
    core, transform = (left, top, right, bottom), Affine(*numbers[:6])
    name, scene_id, crs = str(one["name"]), str(one["scene_id"]), str(one["crs"])
    return ImagePlace(name, scene_id, crs, transform, *size, core, int(one["padded_px"]))
