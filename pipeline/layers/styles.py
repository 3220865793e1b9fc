"""QGIS styles (QML, for QGIS 3.22 and later) of the layers, for GeoPackages or as files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from pipeline.models.legend import LegendClass
from pipeline.printable import storable

_SCORE_STEPS = (
    (0.0, 0.5, "#FED976"),
    (0.5, 0.7, "#FD8D3C"),
    (0.7, 0.85, "#F03B20"),
    (0.85, 1.0, "#BD0026"),
)
_VEHICLE_SCORE_STEPS = (
    (0.0, 0.5, "#B3F0FF"),
    (0.5, 0.7, "#66DFFF"),
    (0.7, 0.85, "#00C8FF"),
    (0.85, 1.0, "#0086AD"),
)
"""Scores from and to, and colour: blue, as trucks are red."""
_FLOW_STEPS = (
    (-1.0, -0.5, "#969696", 0.3, "not seen"),
    (-0.5, 0.0, "#74A9CF", 0.35, "no truck found"),
    (0.0, 50.0, "#8C96C6", 0.5, "up to 50 trucks per hour"),
    (50.0, 150.0, "#8C6BB1", 0.7, "50 - 150 trucks per hour"),
    (150.0, 300.0, "#88419D", 0.9, "150 - 300 trucks per hour"),
    (300.0, 600.0, "#6E016B", 1.1, "300 - 600 trucks per hour"),
    (600.0, 1e9, "#4D004B", 1.4, "more than 600 trucks per hour"),
)
"""Trucks per hour from and to, colour, width in mm, and legend text; violet, as trucks are red."""
_REASONS = {
    "nodata": ("no data", "#6E6E6E", 135, 1.5, 0.25),
    "cloud": ("cloud", "#4292C6", 45, 1.5, 0.25),
    "shadow": ("cloud shadow", "#54708A", 0, 1.5, 0.25),
    "no_road": ("no road near", "#8C7B6B", 45, 4.0, 0.1),
}
"""Legend text, colour, and hatching: angle in degrees, distance and width of lines in mm."""
_NO_TRUCKS = {"water": ("on water", "#2171B5"), "no_motion": ("without motion, alone", "#737373")}
_SEARCHED = {"seen": ("searched", "solid"), "screened": ("searched by the screener", "dash")}
_SEARCHED_COLOUR = "#41AB5D"
_HEADING, _AXIS = 'try("heading_deg", 0)', 'try("axis_deg", 0)'  # a legend has no fields; it shows arrows
_POINTERS = (
    ("triangle", "heading_deg", f"{_HEADING} IS NOT NULL", 1.0, 0.45),
    ("rectangle", "axis_deg", f"{_HEADING} IS NULL AND {_AXIS} IS NOT NULL", 1.0, 0.2),
    ("circle", "", f"{_HEADING} IS NULL AND {_AXIS} IS NULL", 0.45, 0.45),
)
"""Shape, field of the angle, condition, and length and width as parts of the size."""
_POINTER_MM = "clamp(2.5, 90000 / coalesce(@map_scale, 25000), 8)"
"""90 m, but visible on small scales and no longer than a truck's box on large ones."""
_BOXES_FROM = "coalesce(@map_scale, 1) < 15000"
_SPEEDS_FROM_SCALE = 12_000
_INSTANT = "1"  # QgsVectorLayerTemporalProperties::ModeFeatureDateTimeInstantFromField
_PROPERTY_KINDS = {"field": "2", "expression": "3"}  # QgsProperty's


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0-255, of `#RRGGBB`."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def truck_style(time_field: str = "") -> str:
    """Style trucks: pointers along the heading, coloured by score; a bar for an axis, a dot without either.

    From 1 : 15,000 on with the box, from 1 : 12,000 on with the speed. With `time_field`, QGIS's temporal
    controller shows each truck at its time.
    """
    return _pointer_style("score", _SCORE_STEPS, time_field)


def vehicle_style() -> str:
    """Style vehicles of any kind as trucks, in blue, by the score of any vehicle."""
    return _pointer_style("vehicle_score", _VEHICLE_SCORE_STEPS)


def _pointer_style(score: str, steps: Sequence[tuple[float, float, str]], time_field: str = "") -> str:
    style, renderer = _style("graduatedSymbol", attr=score, graduatedMethod="GraduatedColor")
    ranges, symbols = SubElement(renderer, "ranges"), SubElement(renderer, "symbols")
    for number, (lower, upper, colour) in enumerate(steps):
        limits = {"lower": f"{lower:.15f}", "upper": f"{upper:.15f}", "label": f"score {lower:g} - {upper:g}"}
        SubElement(ranges, "range", {**limits, "symbol": str(number), "render": "true"})
        symbol = _symbol(symbols, "fill", str(number))
        box = _outline(symbol, colour, "solid", 0.3)
        _data_defined(box, {"enabled": ("expression", _BOXES_FROM)})
        centroid = _layer(symbol, "CentroidFill", {"point_on_surface": "0", "clip_points": "0"})
        marker = _symbol(centroid, "marker", f"@{number}@1")
        for shape, angle_field, shown_if, length, width in _POINTERS:
            _pointer(marker, shape, colour, angle_field, shown_if, {"height": length, "width": width})
    _labels(style, """round("speed_kmh") || ' km/h'""", _SPEEDS_FROM_SCALE)
    return _text(style, time_field)


def look_alike_style() -> str:
    """Style detections that are no trucks: a dotted outline, coloured by the reason."""
    style, symbols = _categorised("reason", [(reason, label) for reason, (label, _) in _NO_TRUCKS.items()])
    for number, (_, colour) in enumerate(_NO_TRUCKS.values()):
        _outline(_symbol(symbols, "fill", str(number)), colour, "dot", 0.3)
    return _text(style)


def landcover_style(legend: Sequence[LegendClass]) -> str:
    """Style areas in the colour of their class, with a thin outline to close the gaps between edges.

    The raster of classes uses the same style, from a `.qml` file beside it.
    """
    style, symbols = _categorised("class", [(str(entry.value), entry.name) for entry in legend])
    for number, entry in enumerate(legend):
        _layer(
            _symbol(symbols, "fill", str(number)),
            "SimpleFill",
            {
                "color": _rgba(entry.colour),
                "style": "solid",
                "outline_color": _rgba(entry.colour),
                "outline_style": "solid",
                "outline_width": "0.1",
                "outline_width_unit": "MM",
                "joinstyle": "miter",
            },
        )
    palette = SubElement(
        SubElement(
            SubElement(style, "pipe"),
            "rasterrenderer",
            type="paletted",
            band="1",
            opacity="1",
            alphaBand="-1",
        ),
        "colorPalette",
    )
    for entry in legend:
        colour = {"color": entry.colour.lower(), "alpha": "255"}
        SubElement(
            palette, "paletteEntry", {"value": str(entry.value), "label": _label(entry.name), **colour}
        )
    return _text(style)


def seen_style(time_field: str = "") -> str:
    """Style the search area: a thin outline without fill, dashed where only the screener ran.

    `time_field` as of `truck_style`.
    """
    style, symbols = _categorised("status", [(status, label) for status, (label, _) in _SEARCHED.items()])
    for number, (_, line) in enumerate(_SEARCHED.values()):
        _outline(_symbol(symbols, "fill", str(number)), _SEARCHED_COLOUR, line, 0.15)
    return _text(style, time_field)


def recurring_style() -> str:
    """Style places of recurring detections: a dark dashed circle, with the number of dates near by."""
    style, renderer = _style("singleSymbol")
    _outline(_symbol(SubElement(renderer, "symbols"), "fill", "0"), "#525252", "dash", 0.5)
    _labels(style, """"dates_here" || ' of ' || "dates_searched" || ' dates'""", _SPEEDS_FROM_SCALE)
    return _text(style)


def not_seen_style() -> str:
    """Style the rest: hatched by reason, transparent for what is below."""
    style, symbols = _categorised("reason", [(reason, label) for reason, (label, *_) in _REASONS.items()])
    for number, (_, colour, angle, distance_mm, width_mm) in enumerate(_REASONS.values()):
        hatching = {"angle": str(angle), "distance": f"{distance_mm:g}", "distance_unit": "MM"}
        pattern = _layer(_symbol(symbols, "fill", str(number)), "LinePatternFill", hatching)
        _line(_symbol(pattern, "line", f"@{number}@0"), colour, width_mm)
    return _text(style)


def road_segment_style() -> str:
    """Style segments by flow: wider and darker with more trucks an hour; thin and grey if not searched."""
    attribute = 'coalesce("flow_per_hour", -1)'
    style, renderer = _style("graduatedSymbol", attr=attribute, graduatedMethod="GraduatedColor")
    ranges, symbols = SubElement(renderer, "ranges"), SubElement(renderer, "symbols")
    for number, (lower, upper, colour, width_mm, label) in enumerate(_FLOW_STEPS):
        limits = {"lower": f"{lower:.15f}", "upper": f"{upper:.15f}", "label": label}
        SubElement(ranges, "range", {**limits, "symbol": str(number), "render": "true"})
        _line(_symbol(symbols, "line", str(number)), colour, width_mm)
    return _text(style)


def interpretation_style(legend: Sequence[LegendClass], cannot_tell: tuple[int, str]) -> str:
    """Style points whose field `reference` is to be filled in from a list of classes: a ring if it is empty.

    `cannot_tell` is the value, and its name, of the answer without a class. The form has the fields `id`
    (read-only), `reference` and `comment`.
    """
    answers = [(str(item.value), item.name, item.colour) for item in legend]
    answers.append((str(cannot_tell[0]), cannot_tell[1], "#808080"))
    todo = ("", "to be interpreted", "#E000E0")
    style, symbols = _categorised("reference", [(value, label) for value, label, _ in (todo, *answers)])
    for number, (value, _, colour) in enumerate((todo, *answers)):
        _layer(
            _symbol(symbols, "marker", str(number)),
            "SimpleMarker",
            {
                "name": "circle",
                "color": _rgba(colour, 255 if value else 0),
                "outline_color": _rgba("#FFFFFF" if value else colour),
                "outline_width": "0.3" if value else "0.6",
                "outline_width_unit": "MM",
                "size": "3.2",
                "size_unit": "MM",
            },
        )
    style.set("styleCategories", "Symbology|Labeling|Fields|Forms")
    fields = SubElement(style, "fieldConfiguration")
    _widget(fields, "id", "TextEdit")
    choices = SubElement(_widget(fields, "reference", "ValueMap"), "Option", type="List", name="map")
    for value, label, _ in answers:
        choice = SubElement(choices, "Option", type="Map")
        SubElement(choice, "Option", type="QString", name=_label(label), value=value)
    multiline = _widget(fields, "comment", "TextEdit")
    SubElement(multiline, "Option", type="bool", name="IsMultiline", value="true")
    SubElement(SubElement(style, "editable"), "field", name="id", editable="0")
    return _text(style)


def agreement_style() -> str:
    """Style points by outcome: map and interpreters agree, disagree, or could not decide."""
    reported = (
        ("1", "map and interpreter agree", "circle", "#1B7837", "2"),
        ("0", "they differ", "diamond", "#D6604D", "3.4"),
        ("", "cannot tell", "cross2", "#808080", "2"),
    )
    style, symbols = _categorised("agrees", [(value, label) for value, label, *_ in reported])
    for number, (_, _, shape, colour, size) in enumerate(reported):
        look = {"name": shape, "color": _rgba(colour), "size": size, "size_unit": "MM"}
        _layer(
            _symbol(symbols, "marker", str(number)),
            "SimpleMarker",
            {**look, "outline_color": _rgba("#404040")},
        )
    return _text(style)


def pixel_style() -> str:
    """Style a pixel as a thin bright outline without fill."""
    style, renderer = _style("singleSymbol")
    _outline(_symbol(SubElement(renderer, "symbols"), "fill", "0"), "#FFD400", "solid", 0.3)
    return _text(style)


def _widget(fields: Element, name: str, kind: str) -> Element:
    """Return the editor widget of a field, and the element for its options."""
    widget = SubElement(SubElement(fields, "field", name=name), "editWidget", type=kind)
    return SubElement(SubElement(widget, "config"), "Option", type="Map")


def _label(text: str) -> str:
    """Return a text for legends, in which QGIS evaluates what is between `[%` and `%]`."""
    return storable(text).replace("[%", "[ %")


def _categorised(attribute: str, categories: Iterable[tuple[str, str]]) -> tuple[Element, Element]:
    """Return a style by attribute value, (value, label), and the elements for its symbols."""
    style, renderer = _style("categorizedSymbol", attr=attribute)
    listed, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for number, (value, label) in enumerate(categories):
        SubElement(listed, "category", value=value, symbol=str(number), label=_label(label), render="true")
    return style, symbols


def _style(renderer: str, **attributes: str) -> tuple[Element, Element]:
    style = Element("qgis", version="3.22.0", styleCategories="Symbology|Labeling")
    fixed = {"symbollevels": "0", "enableorderby": "0", "forceraster": "0"}
    return style, SubElement(style, "renderer-v2", {"type": renderer, **fixed, **attributes})


def _symbol(parent: Element, kind: str, name: str) -> Element:
    fixed = {"alpha": "1", "clip_to_extent": "1", "force_rhr": "0"}
    return SubElement(parent, "symbol", {"type": kind, "name": name, **fixed})


def _layer(symbol: Element, kind: str, properties: Mapping[str, str]) -> Element:
    """Return a symbol layer; its properties appear twice, as QGIS 3.22 writes them for older versions."""
    fixed = {"enabled": "1", "pass": "0", "locked": "0"}
    layer = SubElement(symbol, "layer", {"class": kind, **fixed})
    options = SubElement(layer, "Option", type="Map")
    for name, value in properties.items():
        SubElement(options, "Option", type="QString", name=name, value=value)
    for name, value in properties.items():
        SubElement(layer, "prop", k=name, v=value)
    return layer


def _outline(symbol: Element, colour: str, line: str, width_mm: float) -> Element:
    return _layer(
        symbol,
        "SimpleFill",
        {
            "style": "no",
            "outline_color": _rgba(colour),
            "outline_style": line,
            "outline_width": f"{width_mm:g}",
            "outline_width_unit": "MM",
            "joinstyle": "miter",
        },
    )


def _line(symbol: Element, colour: str, width_mm: float) -> None:
    _layer(
        symbol,
        "SimpleLine",
        {
            "line_color": _rgba(colour),
            "line_style": "solid",
            "line_width": f"{width_mm:g}",
            "line_width_unit": "MM",
            "capstyle": "round",
            "joinstyle": "round",
        },
    )


def _pointer(
    marker: Element,
    shape: str,
    colour: str,
    angle_field: str,
    shown_if: str,
    size: Mapping[str, float],
) -> None:
    """Return a marker of a part of `_POINTER_MM`, rotated by a field clockwise from north, under a condition.

    Its size is an expression, since QGIS 3.22 applies the limits of the height, in mm, to the width as well.
    """
    white_edge = {"outline_color": _rgba("#FFFFFF"), "outline_width": "0.15", "outline_width_unit": "MM"}
    units = {"symbol_width_unit": "MM", "symbol_height_unit": "MM"}
    shaped = {"symbol_name": shape, "color": _rgba(colour), **white_edge, **units}
    layer = _layer(marker, "EllipseMarker", shaped)
    turned = {"angle": ("field", angle_field)} if angle_field else {}
    sized = {side: ("expression", f"{part:g} * {_POINTER_MM}") for side, part in size.items()}
    _data_defined(layer, {**sized, **turned, "enabled": ("expression", shown_if)})


def _data_defined(layer: Element, by_name: Mapping[str, tuple[str, str]]) -> None:
    """Set properties of a symbol layer from a feature: name to ("field" or "expression", its text)."""
    collection = SubElement(SubElement(layer, "data_defined_properties"), "Option", type="Map")
    SubElement(collection, "Option", type="QString", name="name", value="")
    properties = SubElement(collection, "Option", type="Map", name="properties")
    for name, (source, value) in by_name.items():
        entry = SubElement(properties, "Option", type="Map", name=name)
        SubElement(entry, "Option", type="bool", name="active", value="true")
        SubElement(entry, "Option", type="QString", name=source, value=value)
        SubElement(entry, "Option", type="int", name="type", value=_PROPERTY_KINDS[source])
    SubElement(collection, "Option", type="QString", name="type", value="collection")


def _labels(style: Element, expression: str, from_scale: int) -> None:
    """Return small dark labels with a white edge beside each polygon, from 1 : `from_scale` on."""
    style.set("labelsEnabled", "1")
    settings = SubElement(SubElement(style, "labeling", type="simple"), "settings")
    dark, white = {"textColor": _rgba("#262626")}, {"bufferColor": _rgba("#FFFFFF")}
    text = SubElement(
        settings,
        "text-style",
        {"fieldName": expression, "isExpression": "1", "fontSize": "8", "fontWeight": "75", **dark},
    )
    SubElement(
        text, "text-buffer", {"bufferDraw": "1", "bufferSize": "0.7", "bufferSizeUnits": "MM", **white}
    )
    SubElement(settings, "placement", placement="8", dist="1", distUnits="MM")  # 8: outside of the polygon
    SubElement(settings, "rendering", scaleVisibility="1", scaleMin="0", scaleMax=str(from_scale))


def _rgba(colour: str, opacity: int = 255) -> str:
    return ",".join(str(part) for part in (*rgb(colour), opacity))


def _text(style: Element, time_field: str = "") -> str:
    if time_field:
        style.set("styleCategories", f"{style.get('styleCategories')}|Temporal")
        limits = {"enabled": "1", "mode": _INSTANT, "limitMode": "0", "accumulate": "0"}
        lasting = {"durationUnit": "min", "durationField": "", "fixedDuration": "0", "endField": ""}
        SubElement(style, "temporal", {**limits, "startField": time_field, **lasting})
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return doctype + tostring(style, encoding="unicode")
