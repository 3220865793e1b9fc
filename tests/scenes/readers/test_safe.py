import pickle
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from rasterio.windows import Window

from pipeline.errors import CorruptImageError, MetadataError, MissingBandError, NotAProductError
from pipeline.scenes.detectors import detector_at, detectors_at
from pipeline.scenes.raster.read import read_classes, read_pixels
from pipeline.scenes.readers.safe import SIMULATED_DOI, open_safe
from pipeline.scenes.scene import BAND_NAMES
from tests.scenes.products import (
    ALL_MINUS_1000,
    GRANULE,
    PRODUCTS,
    SIZE,
    STEM,
    angle_grid,
    gsd_of,
    numbers,
    product_xml,
    tile_xml,
    write_raster,
    write_safe,
    zip_of,
)
from tests.scenes.test_msi import gml

WHOLE = Window(0, 0, SIZE, SIZE)
B02 = {"B02": numbers("B02")}


@pytest.fixture(scope="module")
def l1c(tmp_path_factory):
    return write_safe(tmp_path_factory.mktemp("l1c"))


@pytest.fixture(scope="module")
def l2a(tmp_path_factory):
    images = {band: numbers(band) for band in BAND_NAMES if band != "B10"}
    images["SCL"] = np.random.default_rng(3).integers(0, 12, (SIZE // 2, SIZE // 2)).astype(np.uint8)
    return write_safe(tmp_path_factory.mktemp("l2a"), "L2A", images)


def test_l1c_folder(l1c):
    scene = open_safe(l1c)
    assert scene.id == PRODUCTS["L1C"]
    assert scene.acquired == datetime(2024, 6, 15, 10, 23, 45, 678000, tzinfo=UTC)
    assert (scene.platform, scene.level, scene.baseline, scene.tile) == (
        "sentinel-2b",
        "L1C",
        "05.10",
        "32UPD",
    )
    assert tuple(scene.bands) == BAND_NAMES
    assert {source.gsd for source in scene.bands.values()} == {10, 20, 60}
    assert scene.shape == (SIZE, SIZE)
    assert not scene.simulated
    assert scene.scl is None
    assert {file.name for file in scene.files} == {f"{STEM}_{b}.jp2" for b in BAND_NAMES} | {
        "MTD_MSIL1C.xml",
        "MTD_TL.xml",
    }
    pixels = read_pixels(scene, WHOLE, ["B08", "B02"])
    np.testing.assert_allclose(pixels.reflectance[0], (numbers("B08") - 1000.0) / 10000, atol=1e-6)
    assert pixels.valid.all()


def test_l2a_takes_every_band_at_its_own_resolution(l2a):
    for gsd in (20, 60):
        side = SIZE * 10 // gsd
        write_raster(
            l2a / GRANULE / f"IMG_DATA/R{gsd}m/{STEM}_B02_{gsd}m.jp2", np.ones((side, side), np.uint16), gsd
        )
    scene = open_safe(l2a)
    assert (scene.level, scene.id) == ("L2A", PRODUCTS["L2A"])
    assert {band: source.gsd for band, source in scene.bands.items()} == {
        band: gsd_of(band) for band in BAND_NAMES if band != "B10"
    }
    np.testing.assert_allclose(
        read_pixels(scene, WHOLE, ["B02"]).reflectance[0], (numbers("B02") - 1000.0) / 10000, atol=1e-6
    )
    classes = read_classes(scene, scene.scl, Window(10, 20, 30, 40))
    expected = np.random.default_rng(3).integers(0, 12, (SIZE // 2, SIZE // 2)).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(classes, expected[20:60, 10:40])


def test_a_zip_is_read_in_place(l1c, tmp_path):
    path = zip_of(l1c, tmp_path / "product.zip")
    before = sorted(tmp_path.iterdir())
    scene, folder = open_safe(path), open_safe(l1c)
    assert (scene.id, scene.files) == (PRODUCTS["L1C"], (path,))
    for window in (WHOLE, Window(50, 60, 70, 80)):
        a, b = (
            read_pixels(scene, window, ["B02", "B05", "B01"]),
            read_pixels(folder, window, ["B02", "B05", "B01"]),
        )
        np.testing.assert_array_equal(a.reflectance, b.reflectance)
    assert sorted(tmp_path.iterdir()) == before
    assert read_pixels(pickle.loads(pickle.dumps(scene)), WHOLE, ["B02"]).valid.all()  # noqa: S301


def test_a_zip_without_the_safe_folder_gets_its_name_from_the_metadata(tmp_path):
    safe = write_safe(tmp_path, images=B02)
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        for file in safe.rglob("*"):
            archive.write(file, file.relative_to(safe))
    scene = open_safe(tmp_path / "flat.zip")
    assert scene.id == PRODUCTS["L1C"]
    assert read_pixels(scene, WHOLE, ["B02"]).valid.all()


# ---------------------------------------------------------------- radiometry


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_nodata_before_offset(tmp_path, level):
    array = np.full((6, 6), 3000, np.uint16)
    array[0, :4] = [0, 1, 1000, 65535]
    scene = open_safe(write_safe(tmp_path, level, {"B02": array}))
    pixels = read_pixels(scene, Window(0, 0, 6, 6), ["B02"])
    assert pixels.valid[0].tolist() == [False, True, True, True, True, True]
    np.testing.assert_allclose(pixels.reflectance[0, 0, :5], [0, -0.0999, 0, 6.4535, 0.2], atol=1e-6)


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_before_baseline_04_there_is_no_offset_whatever_the_date(tmp_path, level):
    images = {"B02": np.full((6, 6), 3000, np.uint16)}
    scene = open_safe(write_safe(tmp_path, level, images, baseline="02.06"))
    assert (scene.bands["B02"].offset, scene.baseline) == (0.0, "02.06")
    assert read_pixels(scene, Window(0, 0, 6, 6), ["B02"]).reflectance.max() == pytest.approx(0.3)


def test_offsets_are_taken_band_by_band(tmp_path):
    images = {band: np.full((60 // gsd_of(band),) * 2, 3000, np.uint16) for band in ("B02", "B8A", "B12")}
    offsets = ALL_MINUS_1000 | {"B8A": -500, "B12": 250}
    product = product_xml(baseline="06.00", offsets=offsets)
    scene = open_safe(write_safe(tmp_path, images=images, product=product))
    pixels = read_pixels(scene, Window(0, 0, 6, 6), ["B02", "B8A", "B12"])
    np.testing.assert_allclose(pixels.reflectance[:, 2, 2], [0.2, 0.25, 0.325], atol=1e-6)


def test_an_offset_list_with_a_gap_is_refused(tmp_path):
    offsets = {band: -1000 for band in BAND_NAMES if band != "B02"}
    with pytest.raises(MetadataError, match="The offset of B02 is missing"):
        open_safe(write_safe(tmp_path, images=B02, product=product_xml(offsets=offsets)))


def test_our_own_products_say_that_they_are_simulated(tmp_path):
    assert open_safe(write_safe(tmp_path, images=B02, product=product_xml(doi=SIMULATED_DOI))).simulated


# ---------------------------------------------------------------- instrument


def test_footprint_mask_and_angles(tmp_path):
    mask = np.repeat(np.array([[5] * 100 + [6] * 140], np.uint8), SIZE, axis=0)
    seen = np.ones((2, 2), bool)
    angles = "".join(
        angle_grid(1, d, 0.0, seen) + angle_grid(3, d, moved, seen)
        for d, moved in {5: -7300, 6: 7300}.items()
    )
    safe = write_safe(tmp_path, images=B02, footprint=mask, tile=tile_xml(angles))
    for path in (safe, zip_of(safe, tmp_path / "p.zip")):
        msi = open_safe(path).msi
        assert detectors_at(msi, np.array([600995.0, 601005.0]), np.array([5799000.0] * 2)).tolist() == [5, 6]
        assert (msi.band_order(5), msi.band_order(6)) == ("blue_first", "red_first")


def test_footprint_gml_of_old_products(tmp_path):
    footprint = gml(d05=(600000, 5797600, 601000, 5800000), d06=(601000, 5797600, 602400, 5800000))
    msi = open_safe(write_safe(tmp_path, images=B02, footprint=footprint)).msi
    assert (detector_at(msi, 600500, 5799000), detector_at(msi, 601500, 5799000)) == (5, 6)


# ---------------------------------------------------------------- real metadata


@pytest.mark.parametrize(
    ("folder", "name", "acquired", "tile", "offset"),
    [
        ("n0206", "S2A_MSIL1C_20180101T105441_N0206_R051_T31TDH_20180101T124911",
         datetime(2018, 1, 1, 10, 54, 35, 457000, tzinfo=UTC), "31TDH", 0.0),
        ("n0509", "S2A_MSIL1C_20230804T021351_N0509_R060_T51MUP_20230804T052642",
         datetime(2023, 8, 4, 2, 19, 22, 751281, tzinfo=UTC), "51MUP", -0.1),
    ],
)  # fmt: skip
def test_metadata_of_real_products(shared_data, tmp_path, folder, name, acquired, tile, offset):
    metadata = shared_data / "metadata" / folder
    granule = tmp_path / f"{name}.SAFE" / "GRANULE" / f"L1C_T{tile}"
    write_raster(
        granule / "IMG_DATA" / f"T{tile}_B02.jp2",
        np.full((12, 12), 3000, np.uint16),
        origin=(399960, 4800000) if folder == "n0206" else (300000, 9400000),
        crs="EPSG:32631" if folder == "n0206" else "EPSG:32751",
    )
    (tmp_path / f"{name}.SAFE" / "MTD_MSIL1C.xml").write_bytes((metadata / "MTD_MSIL1C.xml").read_bytes())
    (granule / "MTD_TL.xml").write_bytes((metadata / "MTD_TL.xml").read_bytes())
    scene = open_safe(tmp_path / f"{name}.SAFE")
    assert (scene.id, scene.acquired, scene.tile, scene.platform) == (name, acquired, tile, "sentinel-2a")
    assert scene.baseline == ("02.06" if folder == "n0206" else "05.09")
    assert scene.bands["B02"].offset == pytest.approx(offset)
    assert read_pixels(scene, Window(0, 0, 12, 12), ["B02"]).reflectance.max() == pytest.approx(0.3 + offset)
    assert {d for d in range(1, 13) if scene.msi.band_order(d) == "blue_first"} == {1, 3, 5, 7, 9, 11}


def test_the_layout_of_a_real_product(shared_data, tmp_path):
    """Every file that a real product has, empty but for one band and the metadata."""
    metadata = shared_data / "metadata" / "n0509"
    for name in (metadata / "files.txt").read_text().split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        if name.endswith("T51MUP_20230804T021351_B02.jp2"):
            write_raster(
                tmp_path / name, np.full((12, 12), 3000, np.uint16), origin=(3e5, 9.4e6), crs="EPSG:32751"
            )
        if name.endswith(("MTD_TL.xml", "MTD_MSIL1C.xml")):
            (tmp_path / name).write_bytes((metadata / name.rsplit("/", 1)[1]).read_bytes())
    scene = open_safe(next(tmp_path.glob("*.SAFE")))
    assert tuple(scene.bands) == BAND_NAMES
    assert scene.msi.footprint.endswith("MSK_DETFOO_B02.jp2")


# ---------------------------------------------------------------- bad input


def test_a_truncated_band_is_reported_when_it_is_read(tmp_path):
    safe = write_safe(tmp_path, images={"B02": numbers("B02"), "B03": numbers("B03")})
    path = safe / GRANULE / "IMG_DATA" / f"{STEM}_B03.jp2"
    path.write_bytes(path.read_bytes()[:5000])
    for href in (safe, zip_of(safe, tmp_path / "p.zip")):
        scene = open_safe(href)
        assert read_pixels(scene, WHOLE, ["B02"]).valid.all()
        with pytest.raises(CorruptImageError, match=r"Band B03 .*_B03\.jp2"):
            read_pixels(scene, WHOLE, ["B02", "B03"])


def test_a_truncated_zip_is_refused(l1c, tmp_path):
    path = zip_of(l1c, tmp_path / "product.zip")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(NotAProductError, match="incomplete download"):
        open_safe(path)


@pytest.mark.parametrize(
    "name", ["../evil.xml", "/etc/evil.xml", "a/../../evil.xml", "..\\evil.xml", "../dir/"]
)
def test_zip_members_cannot_leave_their_folder(tmp_path, name):
    path = zip_of(write_safe(tmp_path, images=B02), tmp_path / "product.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(MetadataError, match="points outside of the zip"):
        open_safe(path)


def test_members_that_cannot_be_unpacked_are_told_in_a_line(tmp_path):
    """Encrypted, packed in a way nobody knows, or other than the directory of the zip has it."""
    whole = zip_of(write_safe(tmp_path, images=B02), tmp_path / "product.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "product.zip") as archive:
        names = archive.namelist()
        member = archive.getinfo(next(name for name in names if name.endswith("MTD_MSIL1C.xml")))
    in_directory = whole.index(b"PK\x01\x02", member.header_offset + member.compress_size)
    while whole[in_directory + 46 : in_directory + 46 + len(member.filename)] != member.filename.encode():
        in_directory = whole.index(b"PK\x01\x02", in_directory + 1)
    method_of = {"packed": (8, 99), "flags": (6, 1)}
    data = member.header_offset + 30 + len(member.filename)
    for offset, value in method_of.values():
        changed = bytearray(whole)
        changed[member.header_offset + offset] = changed[in_directory + 2 + offset] = value
        (tmp_path / "bad.zip").write_bytes(changed)
        with pytest.raises(
            MetadataError, match=r"MTD_MSIL1C\.xml in .* is (encrypted|compressed with method 99)"
        ):
            open_safe(tmp_path / "bad.zip")
    changed = bytearray(whole)
    changed[data : data + 8] = b"\xff" * 8
    (tmp_path / "bad.zip").write_bytes(changed)
    with pytest.raises(MetadataError, match=r"MTD_MSIL1C\.xml in .* can't be decompressed"):
        open_safe(tmp_path / "bad.zip")


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>'
)
EXTERNAL = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'


@pytest.mark.parametrize("xml", [BOMB, EXTERNAL])
@pytest.mark.parametrize("which", ["product", "tile", "footprint"])
def test_xml_with_entities_is_refused(tmp_path, xml, which):
    with pytest.raises(MetadataError, match="entities"):
        open_safe(write_safe(tmp_path, images=B02, **{which: xml}))


@pytest.mark.parametrize(
    ("product", "message"),
    [
        ("<a><b></a>", "not well-formed"),
        ("", "not well-formed"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "not well-formed"),
        (
            product_xml().replace("<QUANTIFICATION_VALUE>10000</QUANTIFICATION_VALUE>", ""),
            "QUANTIFICATION_VALUE",
        ),
        (product_xml().replace(">10000<", ">0<"), "must be positive"),
        (product_xml().replace("Sentinel-2B", ""), "SPACECRAFT_NAME is missing"),
        (product_xml(offsets=ALL_MINUS_1000).replace(">-1000<", ">much<", 1), "not a number"),
    ],
)
def test_broken_metadata_are_refused(tmp_path, product, message):
    with pytest.raises(MetadataError, match=message):
        open_safe(write_safe(tmp_path, images=B02, product=product))


def test_a_product_name_cannot_lead_elsewhere(tmp_path):
    product = product_xml().replace(f"{PRODUCTS['L1C']}.SAFE", "../../elsewhere.SAFE")
    safe = write_safe(tmp_path, images=B02, product=product).rename(tmp_path / "renamed")
    with pytest.raises(MetadataError, match="PRODUCT_URI may have letters"):
        open_safe(safe)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("A8 im Juni", "A8_im_Juni"), ("S2B_X (1)", "S2B_X__1_"), ("Übung", "Übung"), ("..", "item")],
)
def test_a_product_may_be_renamed(tmp_path, name, expected):
    safe = write_safe(tmp_path, images=B02)
    assert open_safe(safe.rename(tmp_path / f"{name}.SAFE")).id == expected


def test_incomplete_products_are_refused(tmp_path):
    safe = write_safe(tmp_path, images={"B05": numbers("B05")})
    with pytest.raises(MissingBandError, match="has: B05"):
        open_safe(safe)
    tile = safe / GRANULE / "MTD_TL.xml"
    other = safe / "GRANULE" / "L1C_T32UQD_A037000_20240615T102345"
    other.mkdir()
    (other / "MTD_TL.xml").write_bytes(tile.read_bytes())
    with pytest.raises(NotAProductError, match="one tile"):
        open_safe(safe)
    tile.unlink()
    (other / "MTD_TL.xml").unlink()
    with pytest.raises(MetadataError, match="MTD_TL"):
        open_safe(safe)
    (safe / "MTD_MSIL1C.xml").unlink()
    with pytest.raises(NotAProductError, match=r"MTD_MSIL1C\.xml"):
        open_safe(safe)


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(NotAProductError, match=r"one \.SAFE folder"):
        open_safe(tmp_path / "other.zip")
    (tmp_path / "no.zip").write_text("hello")
    with pytest.raises(NotAProductError, match="Not a readable zip"):
        open_safe(tmp_path / "no.zip")
