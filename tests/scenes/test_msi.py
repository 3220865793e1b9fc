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
