"""Metadata of another kind, and numbers that no product has."""

import pytest

from pipeline.errors import MetadataError, NotAProductError
from pipeline.scenes.readers.safe import open_safe
from pipeline.scenes.scene import BAND_NAMES
from tests.scenes.products import ALL_MINUS_1000, GRANULE, numbers, product_xml, tile_xml, write_safe

B02 = {"B02": numbers("B02", size=12)}
HTML = "<html><body>503 Service Unavailable</body></html>"


@pytest.mark.parametrize(
    ("which", "other", "is_not"),
    [
        ("tile", HTML, "'html', not Level-1C_Tile_ID"),
        ("tile", product_xml(), "'Level-1C_User_Product', not Level-1C_Tile_ID"),
        ("tile", tile_xml(level="L2A"), "'Level-2A_Tile_ID', not Level-1C_Tile_ID"),
        ("product", HTML, "'html', not Level-1C_User_Product"),
        ("product", product_xml("L2A"), "'Level-2A_User_Product', not Level-1C_User_Product"),
        ("product", tile_xml(), "'Level-1C_Tile_ID', not Level-1C_User_Product"),
        ("product", '<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1"/>', "'XFDU', not Level-1C_User_Product"),
        ("product", "<a>" * 500 + "</a>" * 500, "'a', not Level-1C_User_Product"),
    ],
)
def test_metadata_of_another_kind_are_refused(tmp_path, which, other, is_not):
    with pytest.raises(MetadataError, match=f"is {is_not}: that of something else"):
        open_safe(write_safe(tmp_path, images=B02, **{which: other}))


@pytest.mark.parametrize(
    ("key", "which"),
    [
        ("TILE_ID", "tile"),
        ("SENSING_TIME", "tile"),
        ("HORIZONTAL_CS_CODE", "tile"),
        ("Geoposition", "tile"),
        ("PRODUCT_START_TIME", "product"),
        ("PROCESSING_BASELINE", "product"),
        ("SPACECRAFT_NAME", "product"),
        ("QUANTIFICATION_VALUE", "product"),
    ],
)
def test_metadata_that_lack_what_all_products_have_are_refused(tmp_path, key, which):
    text = (tile_xml() if which == "tile" else product_xml()).replace(key, "OTHER")
    with pytest.raises(MetadataError, match=f"{key}.* is missing"):
        open_safe(write_safe(tmp_path, images=B02, **{which: text}))


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "inf",
        "-inf",
        "1e308",
        "1e-320",
        "-10000",
        "20000",
        "1000",
        "9" * 5000,
        "1_0000",
        "10,000",
        "0x1",
    ],
)
@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_quantification_is_that_of_products(tmp_path, level, value):
    product = product_xml(level).replace(">10000<", f">{value}<")
    with pytest.raises(MetadataError, match="QUANTIFICATION_VALUE"):
        open_safe(write_safe(tmp_path, level, B02, product=product))


def test_two_values_of_one_element_are_refused_and_the_same_value_twice_is_not(tmp_path):
    element = "<QUANTIFICATION_VALUE>10000</QUANTIFICATION_VALUE>"
    for other in ("1", "10000"):
        product = product_xml().replace(element, element + element.replace("10000", other))
        safe = write_safe(tmp_path / other, images=B02, product=product)
        if other == "10000":
            assert open_safe(safe).bands
            continue
        with pytest.raises(MetadataError, match="VALUE has different values in one file: '1', '10000'"):
            open_safe(safe)


@pytest.mark.parametrize("level", ["L1C", "L2A"])
@pytest.mark.parametrize(
    "value", ["NaN", "inf", "1e39", "1e308", "-100", "1000", "0", "-1000.5", "", "-1 000"]
)
def test_offsets_are_those_of_products(tmp_path, level, value):
    product = product_xml(level).replace('id="1">-1000<', f'id="1">{value}<')
    with pytest.raises(MetadataError, match=r"ADD_OFFSET of .*B02"):
        open_safe(write_safe(tmp_path, level, B02, product=product))


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_an_offset_is_given_once_for_a_known_band(tmp_path, level):
    good = product_xml(level)
    for new, message in (
        ('id="0">-1000<', "given twice for band_id 0"),
        ('id="13">-1000<', "must be 0 to 12"),
        ('id="B02">-1000<', "must be 0 to 12"),
        ('other="1">-1000<', "must be 0 to 12"),
    ):
        product = good.replace('id="1">-1000<', new).replace("band_other", "other")
        with pytest.raises(MetadataError, match=message):
            open_safe(write_safe(tmp_path, level, B02, product=product))


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_offsets_are_where_the_baseline_has_them(tmp_path, level):
    for number, (baseline, offsets, message) in enumerate(
        (
            ("04.00", {}, "missing, which all products since baseline 04.00 have; this one is 04.00"),
            ("05.10", {}, "this one is 05.10"),
            ("02.06", ALL_MINUS_1000, "is 0 in products of baseline 02.06. Received: -1000"),
            ("03.01", {"B02": -1000}, "is 0 in products of baseline 03.01"),
        )
    ):
        product = product_xml(level, baseline, offsets)
        with pytest.raises(MetadataError, match=message):
            open_safe(write_safe(tmp_path / f"{number}", level, B02, product=product, baseline=baseline))
    for baseline, offsets in (
        ("99.99", {}),
        ("99.99", ALL_MINUS_1000),
        ("03.01", dict.fromkeys(BAND_NAMES, 0)),
    ):
        folder = tmp_path / f"{baseline}-{len(offsets)}"
        product = product_xml(level, baseline, offsets)
        scene = open_safe(write_safe(folder, level, B02, product=product, baseline=baseline))
        assert scene.bands["B02"].offset == (-0.1 if offsets == ALL_MINUS_1000 else 0)


@pytest.mark.parametrize("baseline", ["5.9", "N0509", "05.1x", "\u0660\u0665.\u0661\u0660"])
def test_a_baseline_is_four_digits(tmp_path, baseline):
    product = product_xml().replace(">05.10<", f">{baseline}<")
    with pytest.raises(MetadataError, match=r"PROCESSING_BASELINE must be like 05\.09"):
        open_safe(write_safe(tmp_path, images=B02, product=product))


def test_a_platform_is_a_sentinel_2(tmp_path):
    product = product_xml().replace("Sentinel-2B", "Landsat-9")
    with pytest.raises(
        MetadataError, match=r"SPACECRAFT_NAME must be like Sentinel-2A\. Received: 'Landsat-9'"
    ):
        open_safe(write_safe(tmp_path, images=B02, product=product))


def test_metadata_of_two_levels_are_refused(tmp_path):
    safe = write_safe(tmp_path, images=B02)
    (safe / "MTD_MSIL2A.xml").write_text(product_xml("L2A"))
    with pytest.raises(NotAProductError, match="both L1C and L2A"):
        open_safe(safe)


@pytest.mark.parametrize(
    "time", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2024-06-15", "noon"]
)
def test_a_sensing_time_is_a_time_near_that_of_the_product(tmp_path, time):
    safe = write_safe(tmp_path, images=B02)
    tile = safe / GRANULE / "MTD_TL.xml"
    tile.write_text(tile.read_text().replace("2024-06-15T10:23:45.678Z", time))
    with pytest.raises(MetadataError, match="time"):
        open_safe(safe)


UNTIL_2018 = {
    "Product_Info>": "L2A_Product_Info>",
    "Product_Image_Characteristics>": "L2A_Product_Image_Characteristics>",
    "QUANTIFICATION_VALUES_LIST>": "L1C_L2A_Quantification_Values_List>",
    "BOA_QUANTIFICATION_VALUE>": "L2A_BOA_QUANTIFICATION_VALUE>",
    "PRODUCT_URI>": "PRODUCT_URI_2A>",
    "TILE_ID>": "TILE_ID_2A>",
}


def test_l2a_before_october_2018_has_other_names_of_elements(tmp_path):
    product, tile = product_xml("L2A", "02.07"), tile_xml(level="L2A", baseline="02.07")
    tile = tile.replace("<SENSING_TIME>", "<L1C_TILE_ID>X</L1C_TILE_ID><SENSING_TIME>")
    for new, old in UNTIL_2018.items():
        product, tile = (
            product.replace(new, old),
            tile.replace(f"<{new}", f"<{old}").replace(f"</{new}", f"</{old}"),
        )
    safe = write_safe(tmp_path, "L2A", B02, baseline="02.07", product=product, tile=tile)
    (image,) = safe.rglob("*_B02_10m.jp2")
    image.rename(image.with_name(f"L2A_{image.name}"))
    scene = open_safe(safe)
    assert (scene.tile, scene.baseline, scene.bands["B02"].scale) == ("32UPD", "02.07", 1e-4)
    changed = (safe / "MTD_MSIL2A.xml").read_text().replace(">10000<", ">1000<")
    (safe / "MTD_MSIL2A.xml").write_text(changed)
    with pytest.raises(MetadataError, match="BOA_QUANTIFICATION_VALUE is 10000 in products"):
        open_safe(safe)
