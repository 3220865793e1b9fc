"""Checksums of a product's files, as its `manifest.safe` lists them: MD5 in old products, now SHA3-256."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

from pipeline.errors import MetadataError
from pipeline.input_warnings import warn
from pipeline.scenes.raster.datasets import local_file
from pipeline.scenes.readers.product_files import METADATA, Product
from pipeline.scenes.readers.safe_metadata import parse
from pipeline.scenes.readers.zip_members import UNREADABLE, members_of

MANIFEST = "manifest.safe"
_ALGORITHMS = {
    "MD5": "md5",
    "SHA1": "sha1",
    "SHA256": "sha256",
    "SHA512": "sha512",
    "SHA3256": "sha3_256",
    "SHA3512": "sha3_512",
}
"""hashlib's names of the algorithms that manifests name, without dashes."""
_CHUNK = 2**20

Checksum = tuple[str, str]
"""Name of the algorithm in hashlib, and digest in hexadecimal digits."""


def listed_checksums(product: Product, names: Iterable[str]) -> dict[str, Checksum]:
    """Return the checksums that a product's manifest lists for some of its files, by their address for GDAL.

    Left out are files that are not listed, algorithms that are not known, and the product's own metadata if
    the manifest lists another size: in products of ESA they were completed after the manifest was written.
    Warns if the manifest can't be read.
    """
    if MANIFEST not in product.members:
        return {}
    try:
        manifest = parse(product, MANIFEST, "XFDU")
    except MetadataError as error:
        warn(f"Checksums of the product's files are not compared. {error}")
        return {}
    listed: dict[str, Checksum] = {}
    for stream in manifest.iter("byteStream"):
        location, checksum = stream.find("fileLocation"), stream.find("checksum")
        if location is None or checksum is None:
            continue
        algorithm = checksum.get("checksumName", "").upper().replace("-", "").replace("_", "")
        if algorithm in _ALGORITHMS:
            name = location.get("href", "").replace("\\", "/").removeprefix("./")
            if name in METADATA and stream.get("size") != str(product.size(name)):
                continue
            listed[name] = _ALGORITHMS[algorithm], (checksum.text or "").strip().lower()
    return {product.href(name): listed[name] for name in names if name in listed}


def sha256_of_files(
    files: Iterable[Path], checksums: Mapping[str, Checksum], pool: Executor
) -> dict[Path, str]:
    """Return the SHA-256 of files, each read once; compare those for which a manifest lists a checksum.

    Members of zips with a checksum are read besides. `pool` reads several files at a time, in pieces of 1 MB.
    Raises MetadataError for a file with another checksum.
    """
    packed = {href: checksum for href, checksum in checksums.items() if href.startswith("/vsizip/")}
    members = [pool.submit(_compare_member, href, checksum) for href, checksum in packed.items()]
    files = list(files)
    hashed = pool.map(partial(_sha256, checksums), files)
    found = dict(zip(files, hashed, strict=True))
    for member in members:
        member.result()
    return found


def _sha256(checksums: Mapping[str, Checksum], path: Path) -> str:
    expected = checksums.get(str(path))
    with path.open("rb") as file:
        return _digests(file, ("sha256", expected[0]) if expected else ("sha256",), str(path), expected)


def _compare_member(href: str, expected: Checksum) -> None:
    with _member(href) as file:
        _digests(file, (expected[0],), href.removeprefix("/vsizip/{").replace("}", ""), expected)


def _digests(file: IO[bytes], algorithms: Iterable[str], name: str, expected: Checksum | None) -> str:
    """Return the digest of the first algorithm. Raises MetadataError if that of the last is another one."""
    hashes = [hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms]
    while chunk := file.read(_CHUNK):
        for each in hashes:
            each.update(chunk)
    if expected and hashes[-1].hexdigest() != expected[1]:
        algorithm = expected[0].upper().replace("_", "-")
        raise MetadataError(
            f"{name} is damaged, or was changed: {MANIFEST} lists another {algorithm} checksum. "
            f"Download the product again; if you changed the file on purpose, remove {MANIFEST}."
        )
    return hashes[0].hexdigest()


@contextmanager
def _member(href: str) -> Iterator[IO[bytes]]:
    archive, name = cast(Path, local_file(href)), href.partition("}/")[2]
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(members_of(archive)[name]) as file:
            yield file
    except UNREADABLE as error:
        raise MetadataError(f"{name} in {archive} is damaged ({error}); download it again.") from error
