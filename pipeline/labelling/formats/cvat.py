"""CVAT's XML of annotated images, 1.1: https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.labelling.formats.label_format import LabelFormat, ReadLabels, finite, reading, write_document
from pipeline.labelling.formats.rotation import envelope
from pipeline.labelling.images import CATEGORIES, MOST_BYTES, Box, ImageIndex, ImagePlace
from pipeline.safe_json import read_limited

_FILE = "annotations.xml"
_LABELS = "cvat-labels.json"
_TITLE = "CVAT XML"
_SHAPES = {"polygon", "polyline", "points", "cuboid", "skeleton", "ellipse", "mask", "tag"}
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML can't hold."""


def _accepts(path: Path, _: Any) -> bool:
    return path.suffix.lower() == ".xml"


def _write(folder: Path, name: str, images: Sequence[ImagePlace], boxes: Sequence[Box]) -> None:
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    names = sorted({key for box in boxes for key in box.attributes})
    labels = _labels(names)
    _add_labels(root, labels)
    on_image: dict[str, list[Box]] = {image.name: [] for image in images}
    for box in boxes:
        on_image[box.image].append(box)
    for number, image in enumerate(images):
        size = {"width": str(image.width), "height": str(image.height)}
        element = ET.SubElement(root, "image", {"id": str(number), "name": image.name, **size})
        for box in on_image[image.name]:
            _add_box(element, box)
    ET.indent(root)
    ET.ElementTree(root).write(folder / _FILE, encoding="utf-8", xml_declaration=True)
    write_document(labels, folder / _LABELS)


def _labels(attributes: Sequence[str]) -> list[dict[str, Any]]:
    """Return CVAT's labels: the categories, each with texts of these names."""
    text = {"input_type": "text", "mutable": False, "values": [""], "default_value": ""}
    own = [{"name": name, **text} for name in attributes]
    return [{"name": category, "attributes": own} for category in CATEGORIES]


def _add_labels(root: ET.Element, labels: Sequence[Mapping[str, Any]]) -> None:
    """Add the labels as CVAT's own exports have them: Datumaro reads no file without."""
    listed = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for each in labels:
        label = ET.SubElement(listed, "label")
        ET.SubElement(label, "name").text = each["name"]
        attributes = ET.SubElement(label, "attributes")
        for about in each["attributes"]:
            attribute = ET.SubElement(attributes, "attribute")
            for key in ("name", "input_type"):
                ET.SubElement(attribute, key).text = about[key]
            ET.SubElement(attribute, "mutable").text = str(about["mutable"])
            ET.SubElement(attribute, "default_value").text = about["default_value"]
            ET.SubElement(attribute, "values").text = "\n".join(about["values"])


def _add_box(element: ET.Element, box: Box) -> None:
    corners = {
        key: f"{value:.4f}" for key, value in zip(("xtl", "ytl", "xbr", "ybr"), box.bounds, strict=True)
    }
    about = {"label": box.category, "source": "auto", "occluded": "0", "z_order": "0"}
    shape = ET.SubElement(element, "box", about | corners)
    for key, value in box.attributes.items():
        ET.SubElement(shape, "attribute", name=key).text = _FORBIDDEN.sub(" ", str(value))


def _read(path: Path, images: ImageIndex) -> ReadLabels:
    read = ReadLabels()
    with reading(path, _TITLE):
        try:
            root = fromstring(read_limited(path, MOST_BYTES))
        except (ET.ParseError, DefusedXmlException) as error:
            raise ValueError(f"no XML that can be used ({error})") from error
        if root.tag != "annotations" or root.find("track") is not None:
            raise ValueError("expected annotations of images; export the task as 'CVAT for images 1.1'")
        for image in root.iter("image"):
            place = images.find(image.attrib["name"])
            if place is None:
                read.left_out["images that the sidecar does not list"] += 1
                continue
            read.images.add(place.name)
            size = float(image.get("width", place.width)), float(image.get("height", place.height))
            for shape in image:
                if shape.tag == "box":
                    read.boxes.append(_box(shape, place, size))
                elif shape.tag in _SHAPES:
                    read.left_out["shapes that are no boxes"] += 1
    return read


def _box(shape: ET.Element, place: ImagePlace, size: tuple[float, float]) -> Box:
    left, top, right, bottom = finite(*(shape.attrib[key] for key in ("xtl", "ytl", "xbr", "ybr")))
    bounds = place.from_size((left, top, right, bottom), *size)
    middle = ((bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)
    bounds = envelope(bounds, float(shape.get("rotation", 0)), middle)
    attributes = {one.attrib["name"]: one.text or "" for one in shape.iter("attribute")}
    return Box(place.name, shape.attrib["label"], bounds, attributes)


FORMAT = LabelFormat("cvat", _TITLE, _FILE, _accepts, _write, _read)
