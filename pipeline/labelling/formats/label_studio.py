"""Label Studio's JSON of tasks: https://labelstud.io/guide/tasks and https://labelstud.io/guide/export.

Boxes of a run are predictions, which people accept or correct; what they submit are annotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from pipeline.labelling.formats.label_format import LabelFormat, ReadLabels, finite, reading, write_document
from pipeline.labelling.formats.rotation import envelope
from pipeline.labelling.images import CATEGORIES, IMAGES, MOST_BYTES, Box, ImageIndex, ImagePlace
from pipeline.safe_json import read_json

_FILE = "label-studio.json"
_CONFIG = "label-studio-config.xml"
_TITLE = "Label Studio JSON"
_COLOURS = ("#009e73", "#56b4e9", "#d55e00", "#9aa4b2")
_BOXES = "rectanglelabels"


def _accepts(_: Path, document: Any) -> bool:
    return isinstance(document, list) and all(isinstance(one, dict) and "data" in one for one in document)


def _write(folder: Path, name: str, images: Sequence[ImagePlace], boxes: Sequence[Box]) -> None:
    results: dict[str, list[dict[str, Any]]] = {image.name: [] for image in images}
    places = {image.name: image for image in images}
    for box in boxes:
        results[box.image].append(_region(box, places[box.image]))
    tasks = [
        {
            "data": {
                "image": "/data/local-files/?d=" + quote(f"{name}/{IMAGES}/{image.name}"),
                "scene_id": image.scene_id,
            },
            "predictions": [{"model_version": "truckscape", "result": results[image.name]}],
        }
        for image in images
    ]
    write_document(tasks, folder / _FILE)
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image", zoom="true")
    labels = ET.SubElement(view, "RectangleLabels", name="label", toName="image")
    for category, colour in zip(CATEGORIES, _COLOURS, strict=True):
        ET.SubElement(labels, "Label", value=category, background=colour)
    ET.indent(view)
    (folder / _CONFIG).write_text(ET.tostring(view, encoding="unicode") + "\n", encoding="utf-8")


def _region(box: Box, place: ImagePlace) -> dict[str, Any]:
    left, top, right, bottom = box.bounds
    return {
        "id": str(box.attributes["id"]),
        "type": _BOXES,
        "from_name": "label",
        "to_name": "image",
        "original_width": place.width,
        "original_height": place.height,
        "image_rotation": 0,
        "value": {
            "x": 100 * left / place.width,
            "y": 100 * top / place.height,
            "width": 100 * (right - left) / place.width,
            "height": 100 * (bottom - top) / place.height,
            "rotation": 0,
            _BOXES: [box.category],
        },
        "meta": {"text": [f"{key}: {value}" for key, value in box.attributes.items()]},
    }


def _read(path: Path, images: ImageIndex) -> ReadLabels:
    read = ReadLabels()
    with reading(path, _TITLE):
        for task in read_json(path, MOST_BYTES):
            data = task["data"]
            place = images.find(str(data.get("image") or next(iter(data.values()))))
            done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
            if place is None:
                read.left_out["images that the sidecar does not list"] += 1
            elif not done:
                read.left_out["images that nobody has annotated"] += 1
            else:
                read.left_out["earlier annotations of an image, of which the last counts"] += len(done) - 1
                read.images.add(place.name)
                last = max(done, key=lambda one: (str(one.get("updated_at") or ""), int(one.get("id") or 0)))
                _add(read, place, last["result"])
    return read


def _add(read: ReadLabels, place: ImagePlace, regions: Sequence[dict[str, Any]]) -> None:
    for region in regions:
        value = region["value"]
        if region.get("type") != _BOXES or not value.get(_BOXES):
            read.left_out["shapes that are no labelled rectangles"] += 1
            continue
        left, top, width, height = finite(value["x"], value["y"], value["width"], value["height"])
        shares = (left / 100, top / 100, (left + width) / 100, (top + height) / 100)
        bounds = place.from_size(shares, 1, 1)
        turned = envelope(bounds, float(value.get("rotation") or 0), (bounds[0], bounds[1]))
        read.boxes.append(Box(place.name, str(value[_BOXES][0]), turned, {"id": str(region.get("id", ""))}))


FORMAT = LabelFormat("label-studio", _TITLE, _FILE, _accepts, _write, _read)
