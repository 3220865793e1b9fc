import re
from itertools import pairwise

from defusedxml.ElementTree import fromstring

from pipeline.inference.predictions import LOOKED_AT, STATUS_NAMES
from pipeline.layers.styles import (
    landcover_style,
    not_seen_style,
    road_segment_style,
    seen_style,
    truck_style,
    vehicle_style,
)
from pipeline.models.legend import LegendClass


def test_land_cover_style_has_every_class_in_its_colour():
    legend = [
        LegendClass(value=0, name="water", colour="#419BDF"),
        LegendClass(value=5, name="shrub & scrub", colour="#DFC35A"),
    ]
    style = fromstring(landcover_style(legend).split("\n", 1)[1])
    (renderer,) = style.iter("renderer-v2")
    assert renderer.attrib["attr"] == "class"
    assert [(c.attrib["value"], c.attrib["label"]) for c in style.iter("category")] == [
        ("0", "water"),
        ("5", "shrub & scrub"),
    ]
    colours = [p.attrib["v"] for p in style.iter("prop") if p.attrib["k"] == "color"]
    assert colours == ["65,155,223,255", "223,195,90,255"]
    assert [
        (e.attrib["value"], e.attrib["label"], e.attrib["color"]) for e in style.iter("paletteEntry")
    ] == [
        ("0", "water", "#419bdf"),
        ("5", "shrub & scrub", "#dfc35a"),
    ]


def test_what_was_looked_at_and_what_not_hides_nothing():
    for qml in (seen_style(), not_seen_style()):
        style = fromstring(qml.split("\n", 1)[1])
        fills = [e for e in style.iter("layer") if e.attrib["class"] == "SimpleFill"]
        assert {p.attrib["v"] for e in fills for p in e.iter("prop") if p.attrib["k"] == "style"} <= {"no"}


def test_truck_style_turns_an_arrow_by_the_heading():
    style = fromstring(truck_style().split("\n", 1)[1])
    ranges = [(float(r.attrib["lower"]), float(r.attrib["upper"])) for r in style.iter("range")]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 1
    assert all(low[1] == high[0] for low, high in pairwise(ranges))
    fields = {o.attrib["value"] for o in style.iter("Option") if o.attrib.get("name") == "field"}
    assert fields == {"heading_deg", "axis_deg"}


def test_vehicles_of_any_kind_are_arrows_of_other_colours_than_trucks():
    colours = {}
    for text in (truck_style(), vehicle_style()):
        renderer = fromstring(text.split("\n", 1)[1]).find("renderer-v2")
        colours[renderer.get("attr")] = set(re.findall(r"\d+,\d+,\d+,255", text))
    assert "0,200,255,255" in colours["vehicle_score"] - colours["score"]
    assert list(colours) == ["score", "vehicle_score"]


def test_every_reason_has_a_style():
    style = fromstring(not_seen_style().split("\n", 1)[1])
    values = {category.attrib["value"] for category in style.iter("category")}
    assert values == {name for code, name in STATUS_NAMES.items() if code not in LOOKED_AT}


def test_everything_that_was_looked_at_has_a_style():
    style = fromstring(seen_style().split("\n", 1)[1])
    values = {category.attrib["value"] for category in style.iter("category")}
    assert values == {STATUS_NAMES[code] for code in LOOKED_AT}


def test_every_flow_has_a_line():
    """From the -1 that stands for null on, without gaps; the more trucks, the wider."""
    style = fromstring(road_segment_style().split("\n", 1)[1])
    ranges = [(float(r.attrib["lower"]), float(r.attrib["upper"])) for r in style.iter("range")]
    assert ranges[0][0] == -1
    assert ranges[-1][1] > 1e6
    assert all(low[1] == high[0] for low, high in pairwise(ranges))
    widths = [float(p.attrib["v"]) for p in style.iter("prop") if p.attrib["k"] == "line_width"]
    assert len(widths) == len(ranges)
    assert widths == sorted(widths)
