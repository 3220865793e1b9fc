"""Where a product lies: a step above or below the path, or in a zip that was packed in another way."""

import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rasterio.windows import Window

from pipeline.errors import MetadataError, NotAProductError
from pipeline.input_warnings import collected_warnings
from pipeline.operations.scene_list import list_scenes, scenes_in
from pipeline.scenes.open import open_scene, scenes_at
from pipeline.scenes.raster.read import read_pixels
from tests.scenes.products import GRANULE, PRODUCTS, STEM, numbers, write_raster, write_safe, zip_of

NAME = PRODUCTS["L1C"]
WINDOW = Window(10, 20, 30, 40)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_safe(tmp_path_factory.mktemp("original"), images={"B02": numbers("B02")})


@pytest.fixture
def safe(original, tmp_path):
    return shutil.copytree(original, tmp_path / original.name)


def packed(safe: Path, target: Path, renamed: Callable[[str], str]) -> Path:
    """A zip whose members have other names."""
    with zipfile.ZipFile(target, "w") as archive:
        for file in safe.rglob("*"):
            if file.is_file():
                info = zipfile.ZipInfo("x")
                info.filename = renamed(file.relative_to(safe.parent).as_posix())
                archive.writestr(info, file.read_bytes())
    return target


def is_the_product(path: Path, original: Path) -> bool:
    scene = open_scene(str(path))
    (product,) = scenes_at(path)
    assert open_scene(str(product)).id == scene.id == NAME
    expected = read_pixels(open_scene(str(original)), WINDOW, ["B02"]).reflectance
    return np.array_equal(read_pixels(scene, WINDOW, ["B02"]).reflectance, expected)


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: f"download/2024/06/{name}",
        lambda name: name.replace("/", "\\"),
        lambda name: f"download\\{name}",
        lambda name: f"./{name}",
    ],
)
def test_zips_that_were_packed_in_another_way(original, tmp_path, renamed):
    assert is_the_product(packed(original, tmp_path / "any.zip", renamed), original)


@pytest.mark.parametrize("name", [f"{NAME}.SAFE", NAME, f"{NAME}.SAFE.zip"])
def test_a_zip_whatever_its_name(original, tmp_path, name):
    assert is_the_product(zip_of(original, tmp_path / name), original)


@pytest.mark.parametrize("below", ["", NAME, f"{NAME}.SAFE", "a/b"])
def test_folders_around_a_product(original, tmp_path, below):
    shutil.copytree(original, tmp_path / "outer" / below / original.name)
    (tmp_path / "outer" / "__MACOSX").mkdir()
    assert is_the_product(tmp_path / "outer", original)


@pytest.mark.parametrize(
    "part", ["MTD_MSIL1C.xml", "GRANULE", GRANULE, f"{GRANULE}/MTD_TL.xml", f"{GRANULE}/IMG_DATA"]
)
def test_a_part_stands_for_its_product(safe, original, part, monkeypatch):
    assert is_the_product(safe / part, original)
    monkeypatch.chdir(safe)
    assert is_the_product(Path(part), original)


def refusal(path: Path) -> str:
    with pytest.raises((NotAProductError, MetadataError)) as refused:
        open_scene(str(path))
    return str(refused.value)


def test_two_products_are_for_a_batch(safe, tmp_path):
    other = safe.with_name(PRODUCTS["L2A"] + ".SAFE")
    shutil.copytree(safe, other)
    text = refusal(tmp_path)
    assert f"holds 2 products ({safe.name}, {other.name})" in text
    assert "`truckscape batch --folder`" in text
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in (safe.name, other.name):
            archive.writestr(f"{name}/MTD_MSIL1C.xml", "x")
    assert f"has 2 ({safe.name}, {other.name})" in refusal(tmp_path / "two.zip")


def test_archives_in_archives_and_folders_name_what_to_give(safe, tmp_path):
    inner = zip_of(safe, tmp_path / "in" / "product.zip") if (tmp_path / "in").mkdir() is None else None
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "product.zip")
    assert "has 0, and holds product.zip: unpack it" in refusal(tmp_path / "outer.zip")
    assert "holds product.zip; give that" in refusal(tmp_path / "in")
    with tarfile.open(tmp_path / "product.tar.gz", "w:gz") as archive:
        archive.add(safe, safe.name)
    assert "unpack it, and give the .SAFE folder" in refusal(tmp_path / "product.tar.gz")


@pytest.mark.parametrize("ending", ["incomplete", "part", "crdownload"])
def test_an_unfinished_download_is_not_run(safe, tmp_path, ending):
    assert "unfinished download" in refusal(safe.rename(tmp_path / f"{safe.name}.{ending}"))
    (tmp_path / f"{NAME}.zip.{ending}").write_bytes(b"PK\x03\x04")
    assert "unfinished download" in refusal(tmp_path / f"{NAME}.zip.{ending}")


def test_what_is_no_product_says_so(safe, tmp_path):
    (tmp_path / "cut.SAFE").write_bytes(b"PK\x03\x04 and no more")
    assert "incomplete download" in refusal(tmp_path / "cut.SAFE")
    (tmp_path / "text.SAFE").write_text("404: not found")
    assert "neither a folder nor a zip" in refusal(tmp_path / "text.SAFE")
    assert f"give the product: {safe}" in refusal(safe / GRANULE / "IMG_DATA" / f"{STEM}_B02.jp2")
    (safe / "MTD_MSIL1C.xml").unlink()
    assert "no folder above it is a product" in refusal(safe / GRANULE / "MTD_TL.xml")


def test_members_of_one_name_are_refused(safe, tmp_path):
    path = packed(safe, tmp_path / "a.zip", lambda name: name.replace("/", "\\"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{safe.name}/MTD_MSIL1C.xml", "<another/>")
    assert "have one name" in refusal(path)


def test_a_folder_of_bands_beside_a_product_stays_one(safe, tmp_path):
    """Its own bands are what the user means."""
    write_raster(tmp_path / "bands" / "T32UPD_20240615T102021_B02.tif", np.full((12, 12), 900, np.uint16))
    safe.rename(tmp_path / "bands" / safe.name)
    assert open_scene(str(tmp_path / "bands")).id == "T32UPD_20240615T102021"
    assert scenes_at(tmp_path / "bands") == [tmp_path / "bands"]


def test_a_batch_finds_products_in_folders_once(original, tmp_path):
    for folder in (f"eodag/{NAME}", "month/day", f"{NAME}"):
        shutil.copytree(original, tmp_path / folder / original.name)
    zip_of(original, tmp_path / "eodag" / f"{NAME}.zip")
    (found,) = scenes_in(tmp_path / "eodag")
    assert found == str(tmp_path / "eodag" / NAME / original.name)
    assert scenes_in(tmp_path / "month") == [str(tmp_path / "month" / "day" / original.name)]
    (listed,) = list_scenes([str(tmp_path / NAME)])
    assert listed.name == NAME
    (by_xml,) = list_scenes([str(tmp_path / NAME / original.name / "MTD_MSIL1C.xml")])
    assert (by_xml.name, by_xml.input_version) == (listed.name, listed.input_version)


def test_a_coarser_image_in_place_of_a_missing_one_is_said(tmp_path):
    safe = write_safe(tmp_path, "L2A", {"B02": numbers("B02")})
    half = np.full((120, 120), 3000, np.uint16)
    write_raster(safe / GRANULE / f"IMG_DATA/R20m/{STEM}_B03_20m.jp2", half, 20)
    with collected_warnings() as warnings:
        open_scene(str(safe))
    (warning,) = warnings
    assert warning.startswith("B03 has no image at 10 m, so that of 20 m is used")


def test_files_that_macos_and_windows_write_beside_others_are_no_images(tmp_path):
    safe = write_safe(tmp_path, images={"B02": numbers("B02", size=12)})
    for file in [file for file in safe.rglob("*") if file.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
        file.with_name(f"{file.name}:Zone.Identifier").write_text("[ZoneTransfer]")
    for path in (safe, zip_of(safe, tmp_path / "p.zip")):
        assert Path(open_scene(str(path)).bands["B02"].href).name == f"{STEM}_B02.jp2"
