"""Files that are not those of which a product's manifest has the checksums."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import MetadataError
from pipeline.input_warnings import collected_warnings
from pipeline.scenes.readers.checksums import listed_checksums, sha256_of_files
from pipeline.scenes.readers.product_files import product_files
from pipeline.scenes.readers.safe import open_safe
from tests.scenes.products import GRANULE, STEM, numbers, write_manifest, write_safe, zip_of

IMAGE = f"{GRANULE}/IMG_DATA/{STEM}_B02.jp2"
USED = ["MTD_MSIL1C.xml", f"{GRANULE}/MTD_TL.xml", IMAGE]


def with_manifest(folder: Path, algorithm: str = "SHA3-256", function: str = "sha3_256") -> Path:
    """A product with a manifest like ESA's."""
    safe = write_safe(folder, images={"B02": numbers("B02", size=12)})
    (safe / "preview.jpg").write_bytes(b"picture")
    write_manifest(safe, algorithm, function)
    return safe


def hashes(path: Path) -> dict[Path, str]:
    scene = open_safe(path)
    with ThreadPoolExecutor(2) as pool:
        return sha256_of_files(scene.files, scene.checksums, pool)


def damage(file: Path) -> None:
    """Change a byte that no parser notices: the last one of an image, a blank in XML."""
    raw = file.read_bytes()
    file.write_bytes(raw.replace(b">\n<", b"> <", 1) if file.suffix == ".xml" else raw[:-1] + b"\xff")


@pytest.mark.parametrize(
    ("algorithm", "function"),
    [("SHA3-256", "sha3_256"), ("MD5", "md5"), ("SHA-256", "sha256")],
)
def test_a_changed_file_is_named(tmp_path, algorithm, function):
    safe = with_manifest(tmp_path, algorithm, function)
    expected = {safe / name: hashlib.sha256((safe / name).read_bytes()).hexdigest() for name in USED}
    assert hashes(safe) == expected
    (safe / "preview.jpg").write_bytes(b"not used")
    assert hashes(safe) == expected
    for name in USED:
        original = (safe / name).read_bytes()
        damage(safe / name)
        message = (
            rf"{Path(name).name} is damaged, or was changed: manifest\.safe lists another {algorithm[:3]}"
        )
        with pytest.raises(MetadataError, match=message):
            hashes(safe)
        (safe / name).write_bytes(original)


def test_the_product_s_metadata_may_be_longer_than_the_manifest_says_as_in_products_of_esa(tmp_path):
    safe = with_manifest(tmp_path)
    for name in USED[:2]:
        xml = (safe / name).read_text()
        (safe / name).write_text(xml + "<!-- completed by the quality control -->")
        if name == "MTD_MSIL1C.xml":
            assert set(hashes(safe)) == {safe / each for each in USED}
            assert set(hashes(zip_of(safe, tmp_path / "good.zip"))) == {tmp_path / "good.zip"}
            continue
        with pytest.raises(MetadataError, match=r"MTD_TL\.xml is damaged, or was changed"):
            hashes(safe)


def test_the_manifest_of_a_real_product(shared_data, tmp_path):
    metadata = shared_data / "metadata" / "n0509"
    for name in (metadata / "files.txt").read_text().split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copied = metadata / Path(name).name
        (tmp_path / name).write_bytes(copied.read_bytes() if copied.is_file() else b"")
    (safe,) = tmp_path.glob("*.SAFE")
    names = [name for name in product_files(safe).names if name.endswith(("MTD_MSIL1C.xml", "MTD_TL.xml"))]
    listed = listed_checksums(product_files(safe), names)
    assert [Path(name).name for name in listed] == ["MTD_TL.xml"]
    with ThreadPoolExecutor(1) as pool:
        assert len(sha256_of_files([safe / name for name in names], listed, pool)) == 2


@pytest.mark.parametrize("name", USED)
def test_a_file_that_was_changed_before_it_was_zipped_is_named(tmp_path, name):
    safe = with_manifest(tmp_path)
    path = zip_of(safe, tmp_path / "good.zip")
    assert hashes(path) == {path: hashlib.sha256(path.read_bytes()).hexdigest()}
    damage(safe / name)
    with pytest.raises(MetadataError, match=rf"bad\.zip/.*{Path(name).name} is damaged, or was changed"):
        hashes(zip_of(safe, tmp_path / "bad.zip"))


def test_files_that_are_not_listed_and_unknown_algorithms_are_not_compared(tmp_path):
    safe = with_manifest(tmp_path)
    manifest = safe / "manifest.safe"
    text = manifest.read_text()
    for changed in (text.replace("SHA3-256", "CRC-24"), text.replace("IMG_DATA", "OTHER"), "<checksum/>"):
        manifest.write_text(changed if "XFDU" in changed else f"<x:XFDU xmlns:x='x'>{changed}</x:XFDU>")
        with collected_warnings() as warnings:
            assert safe / IMAGE in hashes(safe)
        assert warnings == []
    manifest.unlink()
    assert safe / IMAGE in hashes(safe)


@pytest.mark.parametrize("text", ["", "<html/>", '<!DOCTYPE a [<!ENTITY x "y">]><XFDU>&x;</XFDU>'])
def test_a_manifest_that_is_none_is_a_warning(tmp_path, text):
    safe = with_manifest(tmp_path)
    (safe / "manifest.safe").write_text(text)
    with collected_warnings() as warnings:
        assert open_safe(safe).checksums == {}
    assert [
        "Checksums of the product's files are not compared. manifest.safe" in each for each in warnings
    ] == [True]
