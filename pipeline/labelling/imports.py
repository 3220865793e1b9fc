"""Labels that people corrected in other tools, as truck labels on the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from pipeline.errors import LabelsError
from pipeline.evaluation.columns import LIGHT
from pipeline.evaluation.labels import CONFIDENCES
from pipeline.labelling.formats.label_format import ReadLabels
from pipeline.labelling.images import (
    CATEGORIES,
    LIGHT_VEHICLE,
    NO_TRUCK,
    SIDECAR,
    UNCERTAIN,
    Box,
    ImagePlace,
    read_sidecar,
)
from pipeline.labelling.label_formats import find_labels
from pipeline.layers.formats.geopackage import write_gpkg

LABELS_LAYER, AREA_LAYER = "trucks", "labelled_area"
"""Layers of the written file: boxes, and the ground that the labelled images show."""


@dataclass(frozen=True)
class Imported:
    """Truck labels from a file of another tool."""

    title: str
    """Name of the format in messages."""
    labels: gpd.GeoDataFrame
    """`id`, `vehicle`, `confidence`, `scene_id`, and boxes in the CRS of the first scene."""
    area: gpd.GeoDataFrame
    """`image`, `scene_id`, and the core of each labelled image."""
    left_out: Mapping[str, int]
    """Numbers by reason."""

    def lines(self) -> list[str]:
        """Return the numbers as lines for people."""
        first = f"{len(self.labels)} boxes on {len(self.area)} labelled images ({self.title})"
        return [first, *(f"left out: {count} {reason}" for reason, count in sorted(self.left_out.items()))]


def import_labels(
    path: Path,
    sidecar: Path | None = None,
    format_name: str | None = None,
    categories: Mapping[str, str] | None = None,
) -> Imported:
    """Read labels of images that `export_labels` wrote, and place them on the map.

    `path` is a file or the folder of an export. `sidecar` is its `images.json`, by default that in the folder
    of the file or the one above. `categories` gives `CATEGORIES` for other names of classes.

    A place belongs to the image that has it in its core: boxes in the margin count only if the image of their
    place is not labelled. Boxes of `no truck` are left out, those of `uncertain` have the confidence
    `ignore`.

    Raises
    ------
    LabelsError
        If a file can't be read, has an unknown category, or none of its images is in the sidecar.
    """
    form, file = find_labels(path, format_name)
    index = read_sidecar(sidecar or _sidecar_of(file))
    read = form.read(file, index)
    if not read.images:
        why = ", ".join(f"{count} {reason}" for reason, count in read.left_out.items() if count) or "none"
        raise LabelsError(f"{file} has no labelled image that {SIDECAR} lists ({why}). Is it of this export?")
    places = {place.name: place for place in index}
    _check_categories(read.boxes, categories or {}, file)
    left_out = Counter(read.left_out)
    kept = list(_deciding(read, places, left_out))
    return Imported(
        form.title,
        _labels(kept, places, categories or {}, left_out),
        _area([places[name] for name in sorted(read.images)]),
        {reason: count for reason, count in left_out.items() if count},
    )


def write_labels(path: Path, imported: Imported) -> None:
    """Write a GeoPackage with the layers `LABELS_LAYER` and `AREA_LAYER`.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    write_gpkg(path, {LABELS_LAYER: imported.labels, AREA_LAYER: imported.area}, {})


def _sidecar_of(file: Path) -> Path:
    for folder in (file.parent, file.parent.parent):
        if (folder / SIDECAR).is_file():
            return folder / SIDECAR
    raise LabelsError(
        f"No {SIDECAR} beside {file}. It says where the images are; `truckscape labels export` wrote it. "
        "Give it with --images."
    )


def _check_categories(boxes: Sequence[Box], given: Mapping[str, str], file: Path) -> None:
    wrong = sorted(set(given.values()) - set(CATEGORIES))
    if wrong:
        raise LabelsError(f"Unknown category {wrong[0]!r}; expected one of {', '.join(CATEGORIES)}.")
    unknown = sorted({box.category for box in boxes} - set(CATEGORIES) - given.keys())
    if unknown:
        raise LabelsError(
            f"{file} has the class {', '.join(map(repr, unknown[:5]))}; expected {', '.join(CATEGORIES)}. "
            f"Say what it is: --category {unknown[0]}=truck."
        )


def _deciding(read: ReadLabels, places: Mapping[str, ImagePlace], left_out: Counter[str]) -> list[Box]:
    """Return the boxes on the image that decides about their place, each once."""
    cores: dict[str, list[ImagePlace]] = {}
    for name in sorted(read.images):
        cores.setdefault(places[name].scene_id, []).append(places[name])
    trees = {
        scene: shapely.STRtree([_on_map(place, place.core) for place in own]) for scene, own in cores.items()
    }
    kept, orphans = list[Box](), list[Box]()
    for box in read.boxes:
        place, (x, y) = places[box.image], box.centre
        if box.bounds[0] >= box.bounds[2] or box.bounds[1] >= box.bounds[3]:
            left_out["boxes without an extent"] += 1
        elif not (0 <= x <= place.width and 0 <= y <= place.height):
            left_out["boxes with their centre outside of their image"] += 1
        elif place.has_in_core(x, y):
            kept.append(box)
        elif len(trees[place.scene_id].query(shapely.Point(place.transform * (x, y)), "within")):
            left_out["boxes in the margin of an image, where a neighbouring image decides"] += 1
        else:
            orphans.append(box)
    return kept + _once(orphans, kept, places, left_out)


def _once(
    orphans: Sequence[Box], kept: Sequence[Box], places: Mapping[str, ImagePlace], left_out: Counter[str]
) -> list[Box]:
    """Return the boxes in margins that no labelled core has, without those whose place has a box already."""
    known = [(places[box.image].scene_id, _on_map(places[box.image], box.bounds)) for box in kept]
    found = list[Box]()
    for box in orphans:
        place = places[box.image]
        point = shapely.Point(place.transform * box.centre)
        if any(scene == place.scene_id and other.contains(point) for scene, other in known):
            left_out["boxes in margins that another image has, too"] += 1
            continue
        known.append((place.scene_id, _on_map(place, box.bounds)))
        found.append(box)
    return found


def _on_map(place: ImagePlace, bounds: Sequence[float]) -> shapely.Polygon:
    left, top, right, bottom = bounds
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return shapely.Polygon([place.transform * corner for corner in corners])


def _labels(
    boxes: Sequence[Box],
    places: Mapping[str, ImagePlace],
    given: Mapping[str, str],
    left_out: Counter[str],
) -> gpd.GeoDataFrame:
    rows = []
    for number, box in enumerate(boxes, 1):
        category, place = given.get(box.category, box.category), places[box.image]
        if category == NO_TRUCK:
            left_out[f"boxes of the class {NO_TRUCK!r}"] += 1
            continue
        own = str(box.attributes.get("confidence") or "high")
        row = {
            "id": str(box.attributes.get("id") or f"label-{number:05d}"),
            "vehicle": LIGHT if category == LIGHT_VEHICLE else "heavy",
            "confidence": "ignore" if category == UNCERTAIN else own if own in CONFIDENCES else "high",
            "scene_id": place.scene_id,
        }
        rows.append((row, place.crs, _on_map(place, box.bounds)))
    return _on_one_map(rows, ("id", "vehicle", "confidence", "scene_id"), next(iter(places.values())).crs)


def _area(places: Sequence[ImagePlace]) -> gpd.GeoDataFrame:
    rows = [
        ({"image": place.name, "scene_id": place.scene_id}, place.crs, _on_map(place, place.core))
        for place in places
    ]
    return _on_one_map(rows, ("image", "scene_id"), places[0].crs)


def _on_one_map(
    rows: Sequence[tuple[dict[str, str], str, shapely.Polygon]], columns: Sequence[str], crs: str
) -> gpd.GeoDataFrame:
    """Return rows in one CRS. Only corners are converted, so that the way back is exact."""
    crses = np.array([row[1] for row in rows], dtype=object)
    geometry = np.array([row[2] for row in rows], dtype=object)
    for other in sorted(set(crses.tolist()) - {crs}):
        here = crses == other
        geometry[here] = gpd.GeoSeries(geometry[here], crs=other or None).to_crs(crs).to_numpy()
    table = pd.DataFrame([row[0] for row in rows], columns=list(columns))
    return gpd.GeoDataFrame(table, geometry=geometry, crs=crs or None)
