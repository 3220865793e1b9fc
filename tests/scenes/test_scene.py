import os
import unicodedata
from dataclasses import replace

import pyproj
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from pipeline.scenes.scene import Scene, safe_id, scene_name
from pipeline.storage.out_folder import BESIDE_SCENES

SCENE = Scene(
    "a", "a.tif", GeoBox.from_bbox((600000, 5790000, 601000, 5791000), "EPSG:32632", resolution=10), {}
)

KEPT = (
    "S2A_MSIL2A_20230613T102601_N0509_R108_T32UPD_20230613T161859",
    "S2B_32UPD_20230613_0_L2A",
    "SENTINEL2A_20160205-103556-931_L2A_T31TCJ_V1-0",
    "2017-04-14-00:00_2017-04-14-23:59_Sentinel-2_L1C_B02_(Raw)",
    "a #1?x=2%41 [b]&'ü",
    "東京 2023.v2",
    "console",
    "com10.x",
    "x" * 200,
)
HOSTILE = (
    "",
    ".",
    "..",
    "...",
    ". .",
    "../x",
    "..\\x",
    "/etc/x",
    "a/../../x",
    ".shards",
    ".roads",
    "-rf",
    "--out",
    " x",
    "x ",
    "x.",
    "a\nb",
    "a\x00b",
    "a\x1b[31mb",
    "a\x9bb",
    "a\u202eb",
    "a\u2028b",
    "cat\u200calog.json",
    "\ud800",
    os.fsdecode(b"M\xfcnchen"),
    "CON",
    "nul.tif_2023",
    "Aux .x",
    "com1",
    "LPT³",
    "NUL:",
    "CONIN$",
    "Catalog.JSON",
    "ledger.sqlite-wal",
    "ledger.sqlite-journal",
    *BESIDE_SCENES,
    "ü" * 101,
    "x" * 5000,
)


@pytest.mark.parametrize("name", KEPT)
def test_ids_that_a_folder_can_have_stay_as_they_are(name):
    assert safe_id(name) == replace(SCENE, id=name).id == name


@pytest.mark.parametrize("name", HOSTILE)
def test_no_id_leads_out_of_its_folder_or_takes_the_place_of_another_file(name, tmp_path):
    for made in (replace(SCENE, id=name).id, scene_name(name)):
        (tmp_path / made).mkdir()
        assert [path.name for path in tmp_path.iterdir()] == [made]
        (tmp_path / made).rmdir()
        assert made[0] not in ".- "
        assert made[-1] not in ". "
        assert made.isprintable()
        assert len(made.encode()) <= 200
        assert made.partition(".")[0].strip().upper() not in ("CON", "NUL", "AUX", "COM1", "LPT³", "CONIN$")
        assert not made.casefold().startswith(BESIDE_SCENES)
        assert safe_id(made) == made


def test_two_ids_give_two_names():
    names = {safe_id(name) for name in (*KEPT, *HOSTILE)}
    assert len(names) == len({*KEPT, *HOSTILE})


def test_texts_that_unicode_takes_for_equal_give_one_name():
    composed = "München Å"
    assert safe_id(unicodedata.normalize("NFD", composed)) == safe_id(composed) == composed


def test_ids_of_catalogues_are_plain_names():
    assert scene_name("COPERNICUS/S2_SR/20230613T102601 x") == "COPERNICUS_S2_SR_20230613T102601_x"
    assert scene_name("catalog.json") == "catalog_json"
    assert scene_name("..") == "item"


def test_the_crs_is_its_code_or_wkt():
    def crs(given):
        return Scene("a", "a.tif", GeoBox((4, 4), Affine(10, 0, 600000, 0, -10, 5800000), given), {}).crs

    assert crs("EPSG:32632") == crs(pyproj.CRS(32632).to_wkt()) == "EPSG:32632"
    local = "+proj=tmerc +lat_0=51 +lon_0=9.1 +k=0.9996 +x_0=500000 +ellps=GRS80 +units=m"
    assert pyproj.CRS(crs(local)) == pyproj.CRS(local)
    assert crs(None) == ""
