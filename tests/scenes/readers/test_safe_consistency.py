"""Products whose parts belong to different tiles, times, satellites or levels."""

import numpy as np
import pytest

from pipeline.errors import GeoreferenceError, MetadataError
from pipeline.input_warnings import collected_warnings
from pipeline.scenes.readers.safe import open_safe
from tests.scenes.products import (
    GRANULE,
    ORIGIN,
    STEM,
    numbers,
    product_xml,
    tile_xml,
    write_raster,
    write_safe,
)
from tests.scenes.test_msi import gml

B02 = {"B02": numbers("B02", size=12)}
SIZE_10M = '<Size resolution="10"><NROWS>{}</NROWS><NCOLS>{}</NCOLS></Size><Geoposition resolution="10">'
LIST = (
    '</Product_Info><Granule datastripIdentifier="{strip}" granuleIdentifier="{granule}">'
    "<IMAGE_FILE>GRANULE/X/IMG_DATA/{image}</IMAGE_FILE></Granule>"
)
GOOD = {
    "strip": "S2B_OPER_MSI_L1C_DS_2BPS_20240615T123456_S20240615T102300_N05.10",
    "granule": "S2B_OPER_MSI_L1C_TL_2BPS_20240615T123456_A037000_T32UPD_N05.10",
    "image": f"{STEM}_B02",
}


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def with_list(**changes: str) -> str:
    return changed(product_xml(), "</Product_Info>", LIST.format(**GOOD | changes))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_T32UPD_", "_T33UUU_", "different tile: .* T?33UUU|different tile: TILE_ID"),
        (
            "S2B_OPER",
            "S2A_OPER",
            "different platform: SPACECRAFT_NAME has S2B, TILE_ID in MTD_TL.xml has S2A",
        ),
        ("2024-06-15T10:23", "2024-06-18T10:23", "different time of acquisition: .*2024-06-18"),
        ("_N05.10", "_N02.09", r"different baseline: TILE_ID in MTD_TL\.xml has 02\.09, .* 05\.10"),
        ("EPSG:32632", "EPSG:32633", "is in EPSG:32632, MTD_TL.xml says EPSG:32633"),
        ("EPSG:32632", "EPSG:9", "is no CRS: 'EPSG:9'"),
        ("EPSG:32632", "/etc/passwd", "is no CRS"),
        ("<ULX>600000<", "<ULX>600005<", "MTD_TL.xml says 10 m, inf x inf from 600005, 5800000"),
        ("<ULY>5800000<", "<ULY>5700000<", "from 600000, 5700000"),
        ("<ULX>600000<", "<ULX>nan<", "ULX in MTD_TL.xml is not a number"),
        ('<Geoposition resolution="10">', SIZE_10M.format(6, 12), "12 x 6 from 600000"),
        ('<Geoposition resolution="10">', SIZE_10M.format("x", 12), "NROWS in MTD_TL.xml is not a number"),
    ],
)
def test_the_metadata_of_another_tile_are_refused(tmp_path, old, new, message):
    with pytest.raises((MetadataError, GeoreferenceError), match=message):
        open_safe(write_safe(tmp_path, images=B02, tile=changed(tile_xml(), old, new)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_T32UPD_", "_T33UUU_", "different tile: .*PRODUCT_URI has 33UUU"),
        ("Sentinel-2B", "Sentinel-2A", "different platform"),
        ("MSIL1C_", "MSIL2A_", "different level: the name of the metadata has L1C, PRODUCT_URI has L2A"),
        ("10:20:21.024Z", "23:20:21.024Z", "different time of acquisition"),
        (">2024-06-15T10", ">2023-06-15T10", "different time of acquisition"),
        (">05.10<", ">02.06<", "different baseline"),
    ],
)
def test_the_metadata_of_another_product_are_refused(tmp_path, old, new, message):
    with pytest.raises(MetadataError, match=message):
        open_safe(write_safe(tmp_path, images=B02, product=changed(product_xml(), old, new)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "T33UUU_20240615T102021_B02"}, "different tile: .* IMAGE_FILE has 33UUU"),
        ({"image": "T32UPD_20240618T102021_B02"}, "different time of acquisition: .*IMAGE_FILE"),
        ({"granule": GOOD["granule"].replace("32UPD", "33UUU")}, "granuleIdentifier has 33UUU"),
        ({"strip": GOOD["strip"].replace("S20240615T1023", "S20240615T1024")}, "different datastrip"),
    ],
)
def test_the_list_of_another_granule_is_refused(tmp_path, changes, message):
    tile = changed(tile_xml(), "<SENSING", f"<DATASTRIP_ID>{GOOD['strip']}</DATASTRIP_ID><SENSING")
    assert open_safe(write_safe(tmp_path / "good", images=B02, product=with_list(), tile=tile)).bands
    with pytest.raises(MetadataError, match=message):
        open_safe(write_safe(tmp_path / "bad", images=B02, product=with_list(**changes), tile=tile))


@pytest.mark.parametrize("name", ["T33UUU_20240615T102021_B02", "T32UPD_20240618T102021_B02"])
def test_an_image_of_another_tile_or_date_is_refused(tmp_path, name):
    safe = write_safe(tmp_path, images=B02)
    images = safe / GRANULE / "IMG_DATA"
    (images / f"{STEM}_B02.jp2").rename(images / f"{name}.jp2")
    with pytest.raises(MetadataError, match="Parts of the product are of different"):
        open_safe(safe)
    write_raster(images / f"{STEM}_B02.jp2", B02["B02"])
    with pytest.raises(MetadataError, match="two images of B02 at 10 m"):
        open_safe(safe)


def test_a_folder_named_as_another_product_is_refused_and_any_other_name_is_not(tmp_path):
    safe = write_safe(tmp_path, images=B02)
    assert open_safe(safe.rename(tmp_path / "my copy")).tile == "32UPD"
    other = safe.name.replace("T32UPD", "T32UQD")
    with pytest.raises(MetadataError, match="the folder's name has 32UQD"):
        open_safe((tmp_path / "my copy").rename(tmp_path / other))


def test_a_product_that_was_cut_is_read_with_a_warning(tmp_path):
    tile = changed(tile_xml(), '<Geoposition resolution="10">', SIZE_10M.format(10980, 10980))
    with collected_warnings() as warnings:
        scene = open_safe(write_safe(tmp_path, images=B02, tile=tile))
    assert scene.shape == (12, 12)
    assert ["12 x 12 pixels, the tile has 10980 x 10980" in text for text in warnings] == [True]


def test_footprints_of_another_place_are_refused(tmp_path):
    x, y = ORIGIN
    near, far = gml(d05=(x, y - 900, x + 900, y)), gml(d05=(x + 2e5, y - 900, x + 3e5, y))
    assert open_safe(write_safe(tmp_path / "near", images=B02, footprint=near)).msi.polygons
    with pytest.raises(MetadataError, match=r"footprints in .*MSK_DETFOO_B02\.gml are not on the scene"):
        open_safe(write_safe(tmp_path / "far", images=B02, footprint=far))


def test_a_product_north_of_the_orbit_has_delays(tmp_path):
    """Sentinel-2 flies up to 81.4 degrees, and sees tiles up to 84."""
    origin, crs = (500000.0, 9200000.0), "EPSG:32632"
    tile = changed(tile_xml(origin=origin), "T32UPD", "T32XNR")
    product = product_xml().replace("T32UPD", "T32XNR")
    safe = write_safe(tmp_path, images=B02, product=product, tile=tile)
    images = safe / GRANULE / "IMG_DATA"
    (images / f"{STEM}_B02.jp2").unlink()
    write_raster(
        images / "T32XNR_20240615T102021_B02.jp2", np.ones((12, 12), np.uint16), origin=origin, crs=crs
    )
    (safe / GRANULE).rename(safe / GRANULE.replace("32UPD", "32XNR"))
    safe = safe.rename(tmp_path / safe.name.replace("32UPD", "32XNR"))
    assert open_safe(safe).msi.delay_s(5) == 1.005
