from xml.etree.ElementTree import Element

import numpy as np
import pytest
from defusedxml.ElementTree import fromstring, parse
from shapely.geometry import box

from pipeline.errors import MetadataError
from pipeline.scenes.msi import (
    BAND_DELAYS_S,
    MsiGeometry,
    angle_nodes,
    footprint_polygons,
    viewing_delays,
)
from tests.scenes.products import angle_grid, tile_xml

GML = """<?xml version="1.0" encoding="UTF-8"?>
<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2">
<eop:maskMembers>{features}</eop:maskMembers></eop:Mask>"""


FEATURE = """<eop:MaskFeature gml:id="detector_footprint-B02-{detector}-0">
<eop:maskType codeSpace="urn:gs2:S2PDGS:maskType:detectorFootprint">DETECTOR_FOOTPRINT</eop:maskType>
<eop:extentOf><gml:Polygon gml:id="p{detector}"><gml:exterior><gml:LinearRing>
<gml:posList srsDimension="3">{ring}</gml:posList></gml:LinearRing></gml:exterior></gml:Polygon>
</eop:extentOf></eop:MaskFeature>"""


def gml(**boxes: tuple[float, float, float, float]) -> str:
    features = ""
    for detector, bounds in boxes.items():
        ring = " ".join(f"{x} {y} 0" for x, y in box(*bounds).exterior.coords)
        features += FEATURE.format(detector=detector.lstrip("d"), ring=ring)
    return GML.format(features=features)


def tile(detectors: dict[int, float], seen=None) -> Element:
    """MTD_TL.xml in which the satellite moves so many metres north between B02 and B04, by detector."""
    seen = np.ones((2, 2), bool) if seen is None else seen
    grids = "".join(
        angle_grid(1, detector, 20e3, seen) + angle_grid(3, detector, 20e3 + moved, seen)
        for detector, moved in detectors.items()
    )
    return fromstring(tile_xml(grids))


@pytest.mark.parametrize(
    ("product", "latitude", "detectors"),
    [("n0206", 42.85, range(9, 13)), ("n0509", -5.92, range(3, 10))],
)
def test_in_real_products_odd_detectors_see_blue_first_a_second_before_red(
    shared_data, product, latitude, detectors
):
    xml = parse(shared_data / "metadata" / product / "MTD_TL.xml").getroot()
    geometry = MsiGeometry(delays_s=viewing_delays(xml, latitude), nodes=angle_nodes(xml))
    assert sorted(geometry.delays_s) == list(detectors)
    for detector in detectors:
        assert geometry.band_order(detector) == ("blue_first" if detector % 2 else "red_first")
        assert abs(geometry.delay_s(detector)) == pytest.approx(BAND_DELAYS_S["B04"], rel=0.03)


def test_the_delay_is_the_way_north_over_the_speed_north():
    """At the equator an orbit inclined by 98.62 degrees goes south at 7.463 km/s x sin(98.62)."""
    assert viewing_delays(tile({5: -7379.0}), 0.0)[5] == pytest.approx(1.0, abs=2e-3)
    assert viewing_delays(tile({6: 7379.0}), 0.0)[6] == pytest.approx(-1.0, abs=2e-3)
    assert viewing_delays(tile({5: 7379.0}), 0.0, descending=False)[5] == pytest.approx(1.0, abs=2e-3)


def test_where_the_angles_lack_a_detector_its_parity_tells():
    geometry = MsiGeometry(viewing_delays(tile({5: -7300.0}), 50.0))
    assert (geometry.band_order(7), geometry.delay_s(7)) == ("blue_first", 1.005)
    assert (geometry.band_order(8), geometry.delay_s(8)) == ("red_first", -1.005)
    assert geometry.band_order(0) is geometry.band_order(13) is None


def test_angles_that_make_no_sense_tell_nothing():
    geometry = MsiGeometry(viewing_delays(tile({5: -200.0, 6: 30e3}), 50.0))
    assert geometry.band_order(5) is None
    assert geometry.delay_s(6) is None


@pytest.mark.parametrize(
    "broken",
    [gml(d05=(0, 0, 1, 1)).replace("-05-", "-"), gml(d05=(0, 0, 1, 1)).replace("1.0 0.0 0", "1.0 x")],
)
def test_broken_footprints_are_refused(broken):
    with pytest.raises(MetadataError):
        footprint_polygons(fromstring(broken))


def test_broken_angles_are_refused():
    xml = tile({5: -7300.0})
    xml.find(".//VALUES").text = "1.0 oops"
    with pytest.raises(MetadataError, match="viewing angles of detector 5"):
        viewing_delays(xml, 50.0)


def along_track(latitude: float, seconds: float) -> tuple[float, float]:
    """Metres east and north that a descending satellite flies over the turning Earth, by vectors in space."""
    inclination, speed = np.radians(98.62), 7463.0
    # Rotate a circular orbit about the line of nodes; the argument of latitude gives the latitude.
    argument = np.pi - np.arcsin(np.sin(np.radians(latitude)) / np.sin(inclination))
    here = np.array(
        [np.cos(argument), np.sin(argument) * np.cos(inclination), np.sin(argument) * np.sin(inclination)]
    )
    ahead = np.array(
        [-np.sin(argument), np.cos(argument) * np.cos(inclination), np.cos(argument) * np.sin(inclination)]
    )
    turning = np.cross([0, 0, 7.292e-5], here * 6371e3)
    velocity = ahead * speed - turning
    east = np.cross([0, 0, 1], here)
    east /= np.linalg.norm(east)
    return float(velocity @ east) * seconds, float(velocity @ np.cross(here, east)) * seconds


def flown(detector: int, latitude: float, seconds: float) -> Element:
    """MTD_TL.xml of a detector whose line of sight moves as the satellite flies in so many seconds."""
    east, north = along_track(latitude, seconds)
    zenith = np.degrees(np.arctan(np.hypot(east, north) / 786e3))
    azimuth = np.degrees(np.arctan2(east, north)) % 360
    seen = np.ones((2, 2), bool)
    blue = angle_grid(1, detector, 0.0, seen)
    red = angle_grid(3, detector, 0.0, seen)
    red = red.replace(">0.000000000 0.000000000<", f">{zenith:.9f} {zenith:.9f}<", 2)
    red = red.replace(">180.000000000 180.000000000<", f">{azimuth:.9f} {azimuth:.9f}<", 2)
    return fromstring(tile_xml(blue + red))


@pytest.mark.parametrize("latitude", [-81.3, 0.0, 60.0, 71.0, 78.0, 81.0, 81.37])
@pytest.mark.parametrize("seconds", [1.005, -1.005])
def test_delays_up_to_the_turning_points_of_the_orbit(latitude, seconds):
    assert viewing_delays(flown(5, latitude, seconds), latitude)[5] == pytest.approx(seconds, rel=2e-3)


@pytest.mark.parametrize("latitude", [81.39, 82.5, 83.7, -83.0, 90.0])
def test_beyond_the_turning_points_the_satellite_flies_west(latitude):
    """Up to 84 degrees a tile lies beside the track; no division by zero there."""
    at_the_turn = flown(5, np.copysign(81.37, latitude), 1.005)
    assert viewing_delays(at_the_turn, latitude)[5] == pytest.approx(1.005, rel=0.02)


def grids_with(old: str, new: str) -> Element:
    text = tile_xml("".join(angle_grid(band, 5, 20e3, np.ones((2, 2), bool)) for band in (1, 3)))
    assert old in text
    return fromstring(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<VALUES>", "<VALUES>1 ", "detector 5 .* are no grid of numbers"),
        (
            "</Zenith>",
            "<Values_List><VALUES>1 1</VALUES></Values_List></Zenith>",
            "pairs of zenith and azimuth",
        ),
        ("<VALUES>1.", "<VALUES>inf 1.", "no grid of"),
        ("1.457593351 1.457593351", "inf 1", "degrees: zenith 0 to 90"),
        ("1.457593351 1.457593351", "1e308 1", "degrees: zenith 0 to 90"),
        ("1.457593351 1.457593351", "-3 1", "degrees: zenith 0 to 90"),
        (">0.000000000 0.000000000<", ">-1000 0<", "azimuth 0 to 360"),
        ('detectorId="5"', 'detectorId="9999999999999999999999999999999999999999"', "detector .1 to 12"),
        ('detectorId="5"', 'detectorId="13"', "detector .1 to 12"),
        ('detectorId="5"', 'detectorId="0"', "detector .1 to 12"),
        ('detectorId="5"', 'detectorId="+5"', "detector .1 to 12"),
        ('detectorId="5"', "", "detector .1 to 12"),
        ('bandId="1"', 'bandId="B02"', "lacks its band"),
        ('bandId="1"', 'bandId="3"', "two grids of viewing angles of band 3, detector 5"),
        (">5000</COL_STEP>", ">500</COL_STEP>", "nodes 5000 m apart"),
        (">5000</ROW_STEP>", ">nan</ROW_STEP>", "ROW_STEP .* is not a number: 'nan'"),
        (">5000</ROW_STEP>", f">{'9' * 400}</ROW_STEP>", "ROW_STEP .* is not a number"),
    ],
)
def test_viewing_angles_that_no_product_has_are_refused(old, new, message):
    with pytest.raises(MetadataError, match=message):
        viewing_delays(grids_with(old, new), 50.0)


def test_viewing_angles_of_different_sizes_are_refused():
    small, large = (angle_grid(band, 5, 20e3, np.ones((n, n), bool)) for band, n in ((1, 2), (3, 3)))
    for read in (lambda xml: viewing_delays(xml, 50.0), angle_nodes):
        with pytest.raises(MetadataError, match="different sizes"):
            read(fromstring(tile_xml(small + large)))


@pytest.mark.parametrize("value", ["NaN", "inf", "1e999", "0x10", "1_000", "\u0661", ""])
def test_the_corner_of_angle_grids_is_a_number(value):
    text = tile_xml(angle_grid(1, 5, 20e3, np.ones((2, 2), bool))).replace("<ULX>600000<", f"<ULX>{value}<")
    with pytest.raises(MetadataError, match=r"ULX in MTD_TL\.xml is not a number"):
        angle_nodes(fromstring(text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('srsDimension="3"', 'srsDimension="x"', "srsDimension of .* must be 2 or 3. Received: 'x'"),
        ('srsDimension="3"', 'srsDimension="0"', "must be 2 or 3"),
        ('srsDimension="3"', f'srsDimension="{"9" * 5000}"', "must be 2 or 3"),
        ('srsDimension="3"', 'srsDimension="-1"', "must be 2 or 3"),
        ('srsDimension="3"', 'srsDimension="2"', "not a list of coordinates|no place"),
        ("1.0 0.0 0", "NaN 0.0 0", "no place in UTM"),
        ("1.0 0.0 0", "inf 0.0 0", "no place in UTM"),
        ("1.0 0.0 0", "1e308 0.0 0", "no place in UTM"),
        ("B02-05-0", "B02-00-0", "lacks its number"),
        ("B02-05-0", "B02-99-0", "lacks its number"),
    ],
)
def test_footprints_that_no_product_has_are_refused(old, new, message):
    text = gml(d05=(0, 0, 1, 1))
    assert old in text
    with pytest.raises(MetadataError, match=message):
        footprint_polygons(fromstring(text.replace(old, new, 1)))
