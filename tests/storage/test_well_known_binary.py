import struct

import pytest
import shapely

from pipeline.storage.well_known_binary import is_nested

POINT = struct.pack("<BIdd", 1, 1, 0.0, 0.0)


def nested(levels, code=7, order="<"):
    return struct.pack(f"{order}BII", order == "<", code, 1) * levels + POINT


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", [4, 7, 1007, 0x80000007, 9, 12])
def test_levels_are_limited_in_any_dialect(code, order):
    assert is_nested(nested(50_000, code, order))


def test_nesting_after_other_parts_is_found():
    parts = [shapely.to_wkb(shapely.LineString([(0, 0)] * 700)), nested(100)]
    assert is_nested(struct.pack("<BII", 1, 7, 2) + b"".join(parts))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("flavor", ["iso", "extended"])
def test_large_geometries_of_maps_are_not_nested(dimension, flavor):
    line = shapely.LineString([(nth, nth, 0)[:dimension] for nth in range(1000)])
    area = line.buffer(1) if dimension == 2 else shapely.force_3d(line.buffer(1))
    several = shapely.MultiPolygon([area] * 3)
    mixed = shapely.GeometryCollection([shapely.MultiPoint(line.coords), several, line, area])
    for shape in (line, area, several, mixed):
        wkb = shapely.to_wkb(
            shape, output_dimension=dimension, flavor=flavor, include_srid=flavor == "extended"
        )
        assert not is_nested(wkb)
        assert not is_nested(wkb + b"more")


def test_a_count_beyond_the_end_is_damage():
    assert is_nested(struct.pack("<BII", 1, 7, 2**32 - 1) + POINT * 500)


def test_short_values_are_left_to_geos():
    assert not is_nested(nested(100))
    shapely.from_wkb(nested(900))
