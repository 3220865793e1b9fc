"""COCO's JSON of boxes: https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.labelling.formats.label_format import LabelFormat, ReadLabels, finite, reading, write_document
from pipeline.labelling.images import CATEGORIES, MOST_BYTES, Box, ImageIndex, ImagePlace
from pipeline.safe_json import read_json_object
from pipeline.storage.atomic import make_folder

_FILE = "annotations/instances_default.json"
"""Folder and prefix as those of COCO's own files: Datumaro and CVAT find no others."""
_TITLE = "COCO JSON"


def _accepts(_: Path, document: Any) -> bool:
    return isinstance(document, dict) and {"images", "annotations", "categories"} <= document.keys()


def _write(folder: Path, name: str, images: Sequence[ImagePlace], boxes: Sequence[Box]) -> None:
    numbers = {image.name: number for number, image in enumerate(images, 1)}
    content = {
        "info": {"description": f"Truck boxes of Sentinel-2 scenes, {name}", "version": "1"},
        "licenses": [],
        "images": [
            {
                "id": numbers[image.name],
                "file_name": image.name,
                "width": image.width,
                "height": image.height,
                "scene_id": image.scene_id,
                "padded_px": image.padded_px,
            }
            for image in images
        ],
        "categories": [{"id": number, "name": each} for number, each in enumerate(CATEGORIES, 1)],
        "annotations": [_annotation(number, numbers[box.image], box) for number, box in enumerate(boxes, 1)],
    }
    make_folder((folder / _FILE).parent)
    write_document(content, folder / _FILE)


def _annotation(number: int, image: int, box: Box) -> dict[str, Any]:
    left, top, right, bottom = box.bounds
    return {
        "id": number,
        "image_id": image,
        "category_id": CATEGORIES.index(box.category) + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "iscrowd": 0,
        "segmentation": [],
        "attributes": dict(box.attributes),
    }


def _read(path: Path, images: ImageIndex) -> ReadLabels:
    read = ReadLabels()
    with reading(path, _TITLE):
        document = read_json_object(path, MOST_BYTES)
        categories = {one["id"]: str(one["name"]) for one in document["categories"]}
        listed = {one["id"]: one for one in document["images"]}
        places = {key: images.find(str(one["file_name"])) for key, one in listed.items()}
        read.images = {place.name for place in places.values() if place}
        for one in document["annotations"]:
            place, image = places[one["image_id"]], listed[one["image_id"]]
            if place is None:
                read.left_out["on images that the sidecar does not list"] += 1
                continue
            left, top, width, height = finite(*one["bbox"])
            size = float(image.get("width") or place.width), float(image.get("height") or place.height)
            bounds = place.from_size((left, top, left + width, top + height), *size)
            attributes = dict(one.get("attributes") or {})
            read.boxes.append(Box(place.name, categories[one["category_id"]], bounds, attributes))
    return read


FORMAT = LabelFormat("coco", _TITLE, _FILE, _accepts, _write, _read)
