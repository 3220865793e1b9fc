"""QGIS styles (QML, of QGIS 3.22 and later) of the layers, as they are stored in GeoPackages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from pipeline.models.bundle import LegendClass

_SCORE_STEPS = (
    (0.0, 0.5, "#FED976"),
    (0.5, 0.7, "#FD8D3C"),
    (0.7, 0.85, "#F03B20"),
    (0.85, 1.0, "#BD0026"),
)
_FLOW_STEPS = (
    (-1.0, -0.5, "#969696", 0.3, "not seen"),
    (-0.5, 0.0, "#6BAED6", 0.5, "no truck found"),
    (0.0, 50.0, "#FECC5C", 0.7, "up to 50 trucks per hour"),
    (50.0, 150.0, "#FD8D3C", 0.9, "50 - 150"),
    (150.0, 300.0, "#F03B20", 1.2, "150 - 300"),
    (300.0, 600.0, "#BD0026", 1.5, "300 - 600"),
    (600.0, 1e9, "#67001F", 1.9, "more than 600"),
)
"""Trucks per hour from and to, colour, width in mm, and what the legend says."""
_HAS_HEADING = '"heading_deg" IS NOT NULL'
_HAS_AXIS_ONLY = '"heading_deg" IS NULL AND "axis_deg" IS NOT NULL'
_REASONS = {"nodata": "#6E6E6E", "cloud": "#9ECAE1", "shadow": "#54708A", "no_road": "#C7B299"}


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0-255, of `#RRGGBB`."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def truck_style() -> str:
    """Boxes outlined by score; an arrow shows the heading, a bar the axis where only that is known."""
    style, renderer = _style("graduatedSymbol", attr="score", graduatedMethod="GraduatedColor")
    ranges, symbols = SubElement(renderer, "ranges"), SubElement(renderer, "symbols")
    for number, (lower, upper, colour) in enumerate(_SCORE_STEPS):
        limits = {"lower": f"{lower:.15f}", "upper": f"{upper:.15f}", "label": f"score {lower:g} - {upper:g}"}
        SubElement(ranges, "range", {**limits, "symbol": str(number), "render": "true"})
        symbol = _symbol(symbols, "fill", str(number))
        _fill(symbol, colour, opacity=0, outline=colour, outline_mm=0.5)
        centroid = _layer(symbol, "CentroidFill", {"point_on_surface": "0", "clip_points": "0"})
        marker = _symbol(centroid, "marker", f"@{number}@1")
        _pointer(marker, "arrow", colour, "heading_deg", _HAS_HEADING)
        _pointer(marker, "line", colour, "axis_deg", _HAS_AXIS_ONLY)
    return _text(style)


def landcover_style(legend: Sequence[LegendClass]) -> str:
    """Areas filled in their class's colour, without outlines, which would hide small ones."""
    return _categorised("class", [(str(entry.value), entry.name, entry.colour, 255) for entry in legend])


def seen_style() -> str:
    """A faint green over what was looked at, fainter where only the screener did."""
    return _categorised(
        "status",
        [("seen", "looked at", "#74C476", 40), ("screened", "looked at by the screener", "#C7E9C0", 40)],
    )


def not_seen_style() -> str:
    """Faint fills over what was not looked at, by reason."""
    return _categorised(
        "reason", [(reason, reason.replace("_", " "), colour, 110) for reason, colour in _REASONS.items()]
    )


def road_segment_style() -> str:
    """Lines by flow, wider and darker the more trucks an hour; thin and grey where nothing was seen."""
    attribute = 'coalesce("flow_per_hour", -1)'
    style, renderer = _style("graduatedSymbol", attr=attribute, graduatedMethod="GraduatedColor")
    ranges, symbols = SubElement(renderer, "ranges"), SubElement(renderer, "symbols")
    for number, (lower, upper, colour, width_mm, label) in enumerate(_FLOW_STEPS):
        limits = {"lower": f"{lower:.15f}", "upper": f"{upper:.15f}", "label": label}
        SubElement(ranges, "range", {**limits, "symbol": str(number), "render": "true"})
        properties = {
            "line_color": _rgba(colour),
            "line_style": "solid",
            "line_width": f"{width_mm:g}",
            "line_width_unit": "MM",
            "capstyle": "round",
            "joinstyle": "round",
        }
        _layer(_symbol(symbols, "line", str(number)), "SimpleLine", properties)
    return _text(style)


def _categorised(attribute: str, categories: Iterable[tuple[str, str, str, int]]) -> str:
    """Fills by the value of an attribute: (value, label, colour, opacity 0-255)."""
    style, renderer = _style("categorizedSymbol", attr=attribute)
    listed, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for number, (value, label, colour, opacity) in enumerate(categories):
        SubElement(listed, "category", value=value, symbol=str(number), label=label, render="true")
        _fill(_symbol(symbols, "fill", str(number)), colour, opacity)
    return _text(style)


def _style(renderer: str, **attributes: str) -> tuple[Element, Element]:
    style = Element("qgis", version="3.22.0", styleCategories="Symbology")
    fixed = {"symbollevels": "0", "enableorderby": "0", "forceraster": "0"}
    return style, SubElement(style, "renderer-v2", {"type": renderer, **fixed, **attributes})


def _symbol(parent: Element, kind: str, name: str) -> Element:
    fixed = {"alpha": "1", "clip_to_extent": "1", "force_rhr": "0"}
    return SubElement(parent, "symbol", {"type": kind, "name": name, **fixed})


def _layer(symbol: Element, kind: str, properties: Mapping[str, str]) -> Element:
    """A symbol layer; its properties are written twice, as QGIS 3.22 does for its elders' sake."""
    fixed = {"enabled": "1", "pass": "0", "locked": "0"}
    layer = SubElement(symbol, "layer", {"class": kind, **fixed})
    options = SubElement(layer, "Option", type="Map")
    for name, value in properties.items():
        SubElement(options, "Option", type="QString", name=name, value=value)
    for name, value in properties.items():
        SubElement(layer, "prop", k=name, v=value)
    return layer


def _fill(
    symbol: Element, colour: str, opacity: int, outline: str | None = None, outline_mm: float = 0.0
) -> None:
    _layer(
        symbol,
        "SimpleFill",
        {
            "color": _rgba(colour, opacity),
            "style": "solid" if opacity else "no",
            "outline_color": _rgba(outline or colour),
            "outline_style": "solid" if outline else "no",
            "outline_width": f"{outline_mm:g}",
            "outline_width_unit": "MM",
            "joinstyle": "miter",
        },
    )


def _pointer(marker: Element, shape: str, colour: str, angle_field: str, shown_if: str) -> None:
    """A marker that is turned by a field, clockwise from north, and shown under a condition."""
    layer = _layer(
        marker,
        "SimpleMarker",
        {
            "name": shape,
            "color": _rgba(colour),
            "outline_color": _rgba(colour),
            "outline_width": "0.4",
            "size": "4",
            "size_unit": "MM",
        },
    )
    collection = SubElement(SubElement(layer, "data_defined_properties"), "Option", type="Map")
    SubElement(collection, "Option", type="QString", name="name", value="")
    properties = SubElement(collection, "Option", type="Map", name="properties")
    _data_defined(properties, "angle", "field", angle_field, kind=2)
    _data_defined(properties, "enabled", "expression", shown_if, kind=3)
    SubElement(collection, "Option", type="QString", name="type", value="collection")


def _data_defined(properties: Element, name: str, source: str, value: str, kind: int) -> None:
    """`kind` is QgsProperty's: 2 takes a field, 3 an expression."""
    entry = SubElement(properties, "Option", type="Map", name=name)
    SubElement(entry, "Option", type="bool", name="active", value="true")
    SubElement(entry, "Option", type="QString", name=source, value=value)
    SubElement(entry, "Option", type="int", name="type", value=str(kind))


def _rgba(colour: str, opacity: int = 255) -> str:
    return ",".join(str(part) for part in (*rgb(colour), opacity))


def _text(style: Element) -> str:
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return doctype + tostring(style, encoding="unicode")
