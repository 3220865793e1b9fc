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
from tests.scenes.products import GRANULE, STEM, numbers, write_safe, zip_of

IMAGE = f"{GRANULE}/IMG_DATA/{STEM}_B02.jp2"
USED = ["MTD_MSIL1C.xml", f"{GRANULE}/MTD_TL.xml", IMAGE]


def with_manifest(folder: Path, algorithm: str = "SHA3-256", function: str = "sha3_256") -> Path:
    """A product with a manifest like ESA's."""
    safe = write_safe(folder, images={"B02": numbers("B02", size=12)})
    (safe / "preview.jpg").write_bytes(b"picture")
    streams = "".join(
        f'<dataObject ID="D{i}"><byteStream mimeType="text/xml" size="1"><fileLocation locatorType="URL" '
        f'href="./{file.relative_to(safe).as_posix()}"/><checksum checksumName="{algorithm}">'
        f"{hashlib.new(function, file.read_bytes()).hexdigest().upper()}</checksum></byteStream></dataObject>"
        for i, file in enumerate(file for file in safe.rglob("*") if file.is_file())
    )
    (safe / "manifest.safe").write_text(
        '<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" version="esa/safe/sentinel/1.1"><metadataSection/>'
        f"<dataObjectSection>{streams}</dataObjectSection></xfdu:XFDU>"
    )
    return safe


def hashes(path: Path) -> dict[Path, str]:
    scene = open_safe(path)
    with ThreadPoolExecutor(2) as pool:
        return sha256_of_files(scene.files, scene.checksums, pool)


def damage(file: Path) -> None:
    """Change a byte that no parser notices: the last one of an image, a blank in XML."""
    raw = file.read_bytes()
    file.write_bytes(raw.replace(b"><", b"> <", 1) if file.suffix == ".xml" else raw[:-1] + b"\xff")


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


def test_the_manifest_of_a_real_product(shared_data, tmp_path):
    """Its metadata of the tile are as ESA made them."""
    metadata = shared_data / "metadata" / "n0509"
    safe = write_safe(tmp_path, images={"B02": numbers("B02", size=12)})
    granule = "GRANULE/L1C_T51MUP_A042385_20230804T021840"
    text = (metadata / "manifest.safe").read_text()
    (safe / "manifest.safe").write_text(text.replace(granule, GRANULE))
    (safe / GRANULE / "MTD_TL.xml").write_bytes((metadata / "MTD_TL.xml").read_bytes())
    name = f"{GRANULE}/MTD_TL.xml"
    checksums = listed_checksums(product_files(safe), [name])
    assert checksums == {
        str(safe / name): ("sha3_256", "839babee3bafc48aad699b6afe1e4bd41ae3d15121f305859be5ab5ce7827d9a")
    }
    with ThreadPoolExecutor(1) as pool:
        assert sha256_of_files([safe / name], checksums, pool)
