"""Items as the catalogues of Sentinel-2 write them, their rasters on this machine."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from pipeline.scenes.readers import stac_properties
from pipeline.scenes.readers.stac import open_stac_item
from tests.scenes.products import write_raster

TEN = ("B02", "B03", "B04", "B08")
TWENTY = ("B05", "B06", "B07", "B8A", "B11", "B12")
COMMON = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2",
    "B07": "rededge3", "B08": "nir", "B8A": "nir08", "B09": "nir09", "B11": "swir16", "B12": "swir22",
}  # fmt: skip
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
GEOMETRY = {
    "type": "Polygon",
    "coordinates": [[[9.0, 52.3], [10.6, 52.3], [10.5, 53.2], [9.0, 53.2], [9.0, 52.3]]],
}


@pytest.fixture(scope="module")
def rasters(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rasters")
    for band in TEN:
        write_raster(folder / f"{band}.tif", np.full((60, 60), 1500, np.uint16), 10)
    for band in TWENTY:
        write_raster(folder / f"{band}.tif", np.full((30, 30), 1500, np.uint16), 20)
    write_raster(folder / "SCL.tif", np.full((30, 30), 4, np.uint8), 20)
    return folder


def raster_bands(gsd: int, **fields) -> dict:
    return {"raster:bands": [{"nodata": 0, "data_type": "uint16", "spatial_resolution": gsd} | fields]}


def assets(keys: dict[str, str], fields, rasters: Path, scl: str = "SCL") -> dict:
    """Assets by key; `fields(band, gsd)` are the catalogue's own."""
    made = {}
    for band in (*TEN, *TWENTY):
        gsd = 10 if band in TEN else 20
        made[keys[band]] = {"href": str(rasters / f"{band}.tif"), "type": COG, "roles": ["data"]}
        made[keys[band]] |= fields(band, gsd)
    made[scl] = {"href": str(rasters / "SCL.tif"), "type": COG, "roles": ["data"]}
    made["thumbnail"] = {"href": "https://example.invalid/preview.jpg", "roles": ["thumbnail"]}
    return made


def item(name: str, collection: str, properties: dict, its_assets: dict, version: str = "1.0.0") -> dict:
    return {
        "type": "Feature",
        "stac_version": version,
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": GEOMETRY,
        "bbox": [9.0, 52.3, 10.6, 53.2],
        "links": [],
        "properties": {"constellation": "sentinel-2", "eo:cloud_cover": 3.1} | properties,
        "assets": its_assets,
    }


def earth_search(rasters: Path, offset: float | None = -0.1, **properties) -> dict:
    """Earth Search v1, sentinel-2-l2a: `offset` is stated whether or not the files still have it."""

    def fields(band: str, gsd: int) -> dict:
        stated = {} if offset is None else {"offset": offset}
        name = COMMON[band]
        common = {"eo:bands": [{"name": name, "common_name": name.rstrip("123"), "center_wavelength": 0.49}]}
        return {"gsd": gsd, "roles": ["data", "reflectance"], **common, **raster_bands(gsd, scale=1e-4)} | (
            raster_bands(gsd, scale=1e-4, **stated)
        )

    made = assets(COMMON, fields, rasters, scl="scl")
    made |= {f"{key}-jp2": made[key] | {"href": f"s3://sentinel-s2-l2a/{key}.jp2"} for key in ("red", "nir")}
    return item(
        "S2B_32UND_20230912_0_L2A",
        "sentinel-2-l2a",
        {
            "datetime": "2023-09-12T10:42:47.536000Z",
            "platform": "sentinel-2b",
            "proj:epsg": 32632,
            "mgrs:utm_zone": 32,
            "mgrs:latitude_band": "U",
            "mgrs:grid_square": "ND",
            "grid:code": "MGRS-32UND",
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": "05.09",
            "s2:product_uri": "S2B_MSIL2A_20230912T103629_N0509_R008_T32UND_20230912T144059.SAFE",
            "s2:generation_time": "2023-09-12T14:40:59.000000Z",
            "s2:datatake_id": "GS2B_20230912T103629_034039_N05.09",
            "s2:datastrip_id": "S2B_OPER_MSI_L2A_DS_2BPS_20230912T144059_S20230912T103624_N05.09",
            "s2:sequence": "0",
            "earthsearch:boa_offset_applied": True,
        }
        | properties,
        made,
    )


def collection_1(rasters: Path) -> dict:
    """Earth Search v1, sentinel-2-c1-l2a: STAC 1.1 with the fields of 1.0; no flag, files with the offset."""

    def fields(band: str, gsd: int) -> dict:
        name = COMMON[band].rstrip("123")
        described = {"eo:bands": [{"name": band, "common_name": name, "center_wavelength": 0.6}]}
        return {"gsd": gsd, **described, **raster_bands(gsd, scale=0.0001, offset=-0.1)}

    made = assets(COMMON, fields, rasters, scl="scl")
    for key in ("snow", "cloud"):
        made[key] = {"href": f"https://example.invalid/{key}.tif", "type": COG, "roles": ["data", key]}
        made[key] |= raster_bands(20)
    made["preview"] = {"href": "https://example.invalid/PVI.tif", "type": COG, "roles": ["overview"]}
    return item(
        "S2B_T32UND_20230912T103624_L2A",
        "sentinel-2-c1-l2a",
        {
            "datetime": "2023-09-12T10:42:47.536000Z",
            "platform": "sentinel-2b",
            "grid:code": "MGRS-32UND",
            "s2:tile_id": "S2B_OPER_MSI_L2A_TL_2BPS_20230912T144059_A034039_T32UND_N05.09",
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": "05.09",
            "s2:datastrip_id": "S2B_OPER_MSI_L2A_DS_2BPS_20230912T144059_S20230912T103624_N05.09",
        },
        made,
        "1.1.0",
    )


def level_1c(rasters: Path) -> dict:
    """Earth Search v1, sentinel-2-l1c: JPEG 2000, no scene classification."""

    def fields(band: str, gsd: int) -> dict:
        return {"eo:bands": [{"name": COMMON[band]}], **raster_bands(gsd, scale=1e-4, offset=-0.1)}

    made = assets(COMMON, fields, rasters, scl="scl")
    del made["scl"]
    properties = {
        "datetime": "2023-09-12T10:42:47.536Z",
        "platform": "sentinel-2b",
        "grid:code": "MGRS-32UND",
        "s2:product_type": "S2MSI1C",
        "s2:processing_baseline": "05.09",
        "earthsearch:boa_offset_applied": False,
    }
    return item("S2B_32UND_20230912_0_L1C", "sentinel-2-l1c", properties, made)


def earth_search_v0(rasters: Path, **properties) -> dict:
    """Earth Search v0, sentinel-s2-l2a-cogs: its own names of fields, no scale, no offset."""

    def fields(band: str, gsd: int) -> dict:
        return {"gsd": gsd, "eo:bands": [{"name": band, "common_name": COMMON[band].rstrip("123")}]}

    made = assets({band: band for band in COMMON}, fields, rasters)
    made["visual"] = {"href": "https://example.invalid/TCI.tif", "type": COG, "roles": ["overview"]}
    made["visual"] |= {"eo:bands": [{"name": "B04"}, {"name": "B03"}, {"name": "B02"}]}
    return item(
        "S2B_32UND_20220313_0_L2A",
        "sentinel-s2-l2a-cogs",
        {
            "datetime": "2022-03-13T10:46:26Z",
            "platform": "sentinel-2b",
            "gsd": 10,
            "proj:epsg": 32632,
            "sentinel:utm_zone": 32,
            "sentinel:latitude_band": "U",
            "sentinel:grid_square": "ND",
            "sentinel:sequence": "0",
            "sentinel:product_id": "S2B_MSIL2A_20220313T103729_N0400_R008_T32UND_20220313T140234",
            "sentinel:data_coverage": 48.71,
            "sentinel:processing_baseline": "04.00",
            "sentinel:boa_offset_applied": True,
        }
        | properties,
        made,
        "1.0.0-beta.2",
    )


def africa(rasters: Path) -> dict:
    """Digital Earth Africa, s2_l2a: a copy of Earth Search v0, with fields of the Open Data Cube."""
    made = earth_search_v0(rasters)
    made["collection"] = "s2_l2a"
    made["properties"] |= {
        "odc:file_format": "GeoTIFF",
        "odc:region_code": "32UND",
        "proj:shape": [10980, 10980],
    }
    return made


def planetary_computer(rasters: Path, **properties) -> dict:
    """Planetary Computer, sentinel-2-l2a: no scale, no offset, files as ESA's."""

    def fields(band: str, gsd: int) -> dict:
        name = COMMON[band].rstrip("123")
        return {"gsd": gsd, "eo:bands": [{"name": band, "common_name": name, "description": f"Band {band}"}]}

    made = assets({band: band for band in COMMON}, fields, rasters)
    for key in ("AOT", "WVP"):
        made[key] = {"href": f"https://example.invalid/{key}.tif", "type": COG, "roles": ["data"], "gsd": 10}
    return item(
        "S2B_MSIL2A_20230912T103629_R008_T32UND_20230912T190508",
        "sentinel-2-l2a",
        {
            "datetime": "2023-09-12T10:36:29.024000Z",
            "platform": "Sentinel-2B",
            "s2:mgrs_tile": "32UND",
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": "05.09",
            "s2:generation_time": "2023-09-12T19:05:08.000000Z",
            "s2:datastrip_id": "S2B_OPER_MSI_L2A_DS_2BPS_20230912T190508_S20230912T103624_N05.09",
        }
        | properties,
        made,
    )


def copernicus(rasters: Path, **fields_of_bands) -> dict:
    """Copernicus Data Space, sentinel-2-l2a: several resolutions, `bands`, fields of EOPF; STAC 1.1."""

    def fields(band: str, gsd: int) -> dict:
        return {"gsd": gsd, "bands": [{"name": band, "eo:common_name": COMMON[band]}], "nodata": 0} | (
            {"data_type": "uint16", "proj:code": "EPSG:32632", "auth:refs": ["s3"]} | fields_of_bands
        )

    keys = {band: f"{band}_{10 if band in TEN else 20}m" for band in COMMON}
    made = assets(keys, fields, rasters, scl="SCL_20m")
    for band in TEN:
        made[f"{band}_60m"] = made[keys[band]] | {"href": "https://example.invalid/60.jp2", "gsd": 60}
    made["Product"] = {"href": "https://example.invalid/$value", "type": "application/zip"}
    return item(
        "S2B_MSIL2A_20230912T103629_N0509_R008_T32UND_20230912T144059",
        "sentinel-2-l2a",
        {
            "datetime": "2023-09-12T10:36:29.024000Z",
            "platform": "sentinel-2b",
            "grid:code": "MGRS-32UND",
            "product:type": "S2MSI2A",
            "processing:level": "L2",
            "processing:version": "05.09",
            "processing:datetime": "2023-09-12T14:40:59.000000Z",
            "eopf:datatake_id": "GS2B_20230912T103629_034039_N05.09",
            "eopf:datastrip_id": "S2B_OPER_MSI_L2A_DS_2BPS_20230912T144059_S20230912T103624_N05.09",
        },
        made,
        "1.1.0",
    )


OLD = {"s2:processing_baseline": "02.14", "earthsearch:boa_offset_applied": False}


def opened(document: dict, folder: Path):
    path = folder / "item.json"
    path.write_text(json.dumps(document))
    return open_stac_item(str(path))


@pytest.mark.parametrize(
    ("catalogue", "offset", "other", "expected"),
    [
        (earth_search, 0.0, -0.1, ("L2A", "05.09", "20230912T103624")),
        (collection_1, -0.1, None, ("L2A", "05.09", "20230912T103624")),
        (level_1c, -0.1, None, ("L1C", "05.09", None)),
        (earth_search_v0, 0.0, None, ("L2A", "04.00", None)),
        (africa, 0.0, None, ("L2A", "04.00", None)),
        (planetary_computer, -0.1, None, ("L2A", "05.09", "20230912T103624")),
        (copernicus, -0.1, None, ("L2A", "05.09", "20230912T103624")),
    ],
)
def test_the_usual_item_of_a_catalogue_opens(rasters, tmp_path, catalogue, offset, other, expected):
    scene = opened(catalogue(rasters), tmp_path)
    assert {source.offset for source in scene.bands.values()} == {offset}
    assert {source.scale for source in scene.bands.values()} == {1e-4}
    assert (scene.other_offset, scene.radiometry) == (other, "item")
    assert list(scene.bands) == ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
    assert (scene.scl is None) == (scene.level == "L1C")
    assert (scene.level, scene.baseline, scene.datastrip) == expected
    assert (scene.platform, scene.tile) == ("sentinel-2b", "32UND")
    assert scene.footprint.bounds == (9.0, 52.3, 10.6, 53.2)


def test_the_time_of_processing_is_in_fields_or_in_names(rasters, tmp_path):
    when = datetime(2023, 9, 12, 14, 40, 59, tzinfo=UTC)
    assert opened(earth_search(rasters), tmp_path).processed == when
    assert opened(copernicus(rasters), tmp_path).processed == when
    first = datetime(2022, 3, 13, 14, 2, 34, tzinfo=UTC)
    assert opened(earth_search_v0(rasters), tmp_path).processed == first


@pytest.mark.parametrize(
    ("document", "offset", "other"),
    [
        # The flag says that the files are without the offset, or with it, and bands or baseline disagree.
        (lambda r: earth_search(r, offset=None), 0.0, None),
        (lambda r: earth_search(r, offset=0), 0.0, None),
        (lambda r: earth_search(r, **{"earthsearch:boa_offset_applied": False}), -0.1, 0.0),
        (lambda r: earth_search(r, offset=0, **{"earthsearch:boa_offset_applied": False}), -0.1, 0.0),
        (lambda r: earth_search(r, offset=0, **{"earthsearch:boa_offset_applied": None}), -0.1, 0.0),
        (lambda r: earth_search(r, **{"earthsearch:boa_offset_applied": "true"}), 0.0, -0.1),
        (lambda r: earth_search(r, **{"earthsearch:boa_offset_applied": "False"}), -0.1, 0.0),
        # Before baseline 04.00 there is no offset, whatever the template of the catalogue says.
        (lambda r: earth_search(r, **OLD), 0.0, -0.1),
        (lambda r: earth_search(r, offset=0, **OLD), 0.0, None),
        # Early in 2022 the first Earth Search had no flag; later it took the offset off, now and then.
        (lambda r: earth_search_v0(r, **{"sentinel:boa_offset_applied": None}), -0.1, 0.0),
        (lambda r: planetary_computer(r, **{"s2:processing_baseline": "02.12"}), 0.0, None),
        (lambda r: copernicus(r, **{"raster:offset": -0.1, "raster:scale": 0.0001}), -0.1, None),
        (lambda r: copernicus(r, **{"raster:offset": -1000, "raster:scale": 0.0001}), -0.1, None),
        (lambda r: copernicus(r, **{"raster:offset": 0}), -0.1, 0.0),
    ],
)  # fmt: skip
def test_two_statements_about_the_offset_are_two_candidates(rasters, tmp_path, document, offset, other):
    scene = opened(document(rasters), tmp_path)
    assert {source.offset for source in scene.bands.values()} == {offset}
    assert (scene.other_offset, scene.radiometry) == (other, "item")


def test_an_item_that_says_nothing_leaves_both_to_the_pixels(rasters, tmp_path):
    document = planetary_computer(rasters, **{"s2:processing_baseline": None, "s2:datastrip_id": None})
    scene = opened(document, tmp_path)
    assert {source.offset for source in scene.bands.values()} == {-0.1}
    assert (scene.other_offset, scene.radiometry, scene.baseline) == (0.0, "assumed", None)


def test_a_band_without_an_offset_has_that_of_the_others(rasters, tmp_path):
    document = copernicus(rasters, **{"raster:offset": -0.1})
    document["properties"] |= {"processing:version": None, "eopf:datatake_id": None}
    document["id"] = "chip"
    del document["assets"]["B03_10m"]["raster:offset"]
    scene = opened(document, tmp_path)
    assert (scene.bands["B03"].offset, scene.other_offset, scene.radiometry) == (-0.1, None, "item")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("05.09", "05.09"),
        ("2.14", "02.14"),
        ("N0509", "05.09"),
        ("0400", "04.00"),
        (5.09, "05.09"),
        (5.1, "05.10"),
        (4, "04.00"),
        ("5.11", "05.11"),
        (" 04.00 ", "04.00"),
        ("unknown", None),
        ("", None),
    ],
)
def test_baselines_however_they_are_written(given, expected):
    assert stac_properties.baseline({"s2:processing_baseline": given}, "x") == expected


def test_a_baseline_is_in_a_name_where_no_field_has_it():
    uri = {"s2:product_uri": "S2B_MSIL2A_20200401T174909_N0214_R141_T13SDV_20200401T220155.SAFE"}
    assert stac_properties.baseline(uri, "x") == "02.14"
    assert stac_properties.baseline({"s2:datatake_id": "GS2B_20200401T174909_016040_N05.00"}, "x") == "05.00"
    assert stac_properties.baseline({}, "S2A_MSIL2A_20230701T103631_N0509_R008_T31UFU_x") == "05.09"
    assert stac_properties.baseline({"processing:version": "2.11.0"}, "x") is None  # Sen2Cor's
    toolbox = stac_properties.offset_statements({"s2:processing_baseline": "99.99"}, "x", "L2A")
    assert toolbox.candidates(-0.1) == (-0.1, None)
    assert toolbox.candidates(None) == (-0.1, 0.0)


@pytest.mark.parametrize(
    ("properties", "name", "tile", "platform"),
    [
        ({"odc:region_code": "40KED", "platform": "S2A"}, "x", "40KED", "sentinel-2a"),
        ({"platform": "SENTINEL_2B"}, "S2A_5VMG_20230613_0_L2A", "05VMG", "sentinel-2b"),
        ({}, "S2C_MSIL2A_20250628T024141_N0511_R089_T51RTQ_20250628T074719", "51RTQ", "sentinel-2c"),
        ({"mgrs:utm_zone": 5, "mgrs:latitude_band": "V", "mgrs:grid_square": "MG"}, "x", "05VMG", None),
        ({"platform": "landsat-8"}, "chip", None, "landsat-8"),
    ],
)
def test_tiles_and_satellites_however_they_are_written(properties, name, tile, platform):
    assert stac_properties.tile(properties, name) == tile
    assert stac_properties.platform(properties, name) == platform


@pytest.mark.parametrize(
    "geometry", [None, {}, {"type": "Point", "coordinates": [1, 2]}, "here", {"type": "Polygon"}]
)
def test_a_place_without_an_area_is_no_footprint(geometry):
    assert stac_properties.footprint(geometry) is None
