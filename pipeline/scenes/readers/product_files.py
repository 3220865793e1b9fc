"""The files of an ESA product, in a folder or a zip, and where a product is below or above a path."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.errors import MetadataError, NotAProductError
from pipeline.scenes.readers.zip_members import check_readable, members_of, read_member

Level = Literal["L1C", "L2A"]
METADATA: dict[str, Level] = {"MTD_MSIL1C.xml": "L1C", "MTD_MSIL2A.xml": "L2A"}
"""Name of a product's metadata, by which its root is found, and its level."""

_MAX_XML_BYTES = 64 * 2**20
OF_MACOS = "._"
"""Beginning of the names of files with attributes that macOS writes beside others on foreign disks."""
_BELOW = 3
"""Levels of folders in which a product is searched: eodag, unzip and browsers put a folder around it."""
_ABOVE = 5
"""Levels from a band's folder, GRANULE/X/IMG_DATA/R10m, up to the product."""
_MOST_FOLDERS = 2000
_UNFINISHED = re.compile(
    r"(\.safe|\.zip|^S2[A-D]_MSIL[^.]*)\.(incomplete|part|partial|crdownload|download|tmp|aria2)$",
    re.IGNORECASE,
)
_ARCHIVE = re.compile(r"\.(tar|tar\.\w+|tgz|tbz2?|txz|7z|rar)$", re.IGNORECASE)
PARTS = {"manifest.safe", "INSPIRE.xml", "MTD_TL.xml", *METADATA}
"""Files that stand for the product."""
_FOLDERS = {"GRANULE", "DATASTRIP", "AUX_DATA", "HTML", "rep_info"}
"""Folders in the root of a product."""


@dataclass(frozen=True)
class Product:
    """The files of a product, in a folder or in a zip, by their path below the product's root."""

    root: Path
    """The `.SAFE` folder, or the zip."""
    prefix: str | None
    """Folder of the product in the zip ("" or "NAME.SAFE/"); None for a folder."""
    members: dict[str, zipfile.ZipInfo | None]
    """The files by path below the product's root, with `/`; None in a folder."""

    @property
    def names(self) -> tuple[str, ...]:
        """Paths below the product's root, sorted."""
        return tuple(self.members)

    @property
    def safe_name(self) -> str:
        """Name of the `.SAFE` folder; empty where a zip has none."""
        return self.root.resolve().name if self.prefix is None else PurePosixPath(self.prefix).name

    def read(self, name: str) -> bytes:
        """Read a file of metadata. Raises MetadataError if it is too large or damaged."""
        info, size = self.members[name], self.size(name)
        if size > _MAX_XML_BYTES:
            raise MetadataError(f"{name} has {size} bytes; metadata of a product are far smaller.")
        return (self.root / name).read_bytes() if info is None else read_member(self.root, info)

    def size(self, name: str) -> int:
        """Return the number of bytes of a file."""
        info = self.members[name]
        return (self.root / name).stat().st_size if info is None else info.file_size

    def href(self, name: str) -> str:
        """Return the address of a file for GDAL, which reads `\\` in the names of a zip as `/`.

        Raises MetadataError for a member of a zip that can't be read in place.
        """
        info = self.members[name]
        if info is None:
            return str(self.root / name)
        check_readable(self.root, info)
        return f"/vsizip/{{{self.root.resolve()}}}/{self.prefix}{name}"

    def matching(self, pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
        """Yield the names that match, with their match."""
        for name in self.names:
            match = pattern.search(name)
            if match:
                yield name, match


def product_files(path: Path) -> Product:
    """Return the files of the product at a path, below it, or above it; see `product_folders`.

    Raises
    ------
    NotAProductError
        If there is none, or more than one; it says what was found.
    MetadataError
        If the name of a member of a zip leads out of it, or is that of another one.
    """
    if is_refused(path):
        raise NotAProductError(_refusal(path))
    if is_zip(path):
        return _zip_files(path)
    folders = product_folders(path)
    if len(folders) > 1:
        raise NotAProductError(
            f"{path} holds {len(folders)} products ({_listed([folder.name for folder in folders])}); "
            "give one of them, or all as `truckscape batch --folder`."
        )
    if not folders:
        raise NotAProductError(_not_found(path))
    (root,) = folders
    files = (file for file in root.rglob("*") if not file.name.startswith(OF_MACOS) and file.is_file())
    names = sorted(file.relative_to(root).as_posix() for file in files)
    return Product(root, None, dict.fromkeys(names))


def product_folders(path: Path) -> list[Path]:
    """Return the products on disk that a path means: the one it is or is part of, else those below it.

    A product's XML, granule or folder of images is part of it. At most three levels below are searched.
    """
    root = root_of(path) if path.is_dir() or path.name in PARTS else None
    if root is not None:
        return [root]
    return _below(path) if path.is_dir() else []


def is_refused(path: Path) -> bool:
    """Return whether a path is an unfinished download, an archive, or one image of a product."""
    if _UNFINISHED.search(path.name):
        return True
    if not path.is_file():
        return False
    return bool(_ARCHIVE.search(path.name)) or (path.suffix == ".jp2" and root_of(path) is not None)


def is_product_folder(path: Path) -> bool:
    """Return whether a folder is the root of a product."""
    return any((path / name).is_file() for name in METADATA)


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip, by its content or its name: a download may be named `.SAFE`."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".zip":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def zips_in(folder: Path) -> list[str]:
    """Return the names of the complete zips in a folder."""
    return sorted(file.name for file in folder.iterdir() if file.is_file() and zipfile.is_zipfile(file))


def root_of(path: Path) -> Path | None:
    """Return the product that a folder or file is, or is part of."""
    inside = path if path.is_dir() else path.parent
    if is_product_folder(inside):
        return inside
    there = inside.absolute()
    root = next((folder for folder in there.parents[:_ABOVE] if is_product_folder(folder)), None)
    return root if root and there.relative_to(root).parts[0] in _FOLDERS else None


def _refusal(path: Path) -> str:
    if _UNFINISHED.search(path.name):
        return f"An unfinished download: {path}; finish it, or remove the ending if it is complete."
    if path.suffix == ".jp2":
        return f"{path.name} is one image of a product; give the product: {root_of(path)}"
    return f"An archive that is not read in place: {path}; unpack it, and give the .SAFE folder."


def _below(path: Path) -> list[Path]:
    """Return the products in a folder, by name; a folder of many thousands is not searched to its end."""
    found: list[Path] = []
    level, left = [path], _MOST_FOLDERS
    for _ in range(_BELOW):
        below = [child for folder in level for child in _folders_in(folder)][:left]
        left -= len(below)
        found += [folder for folder in below if is_product_folder(folder)]
        level = [folder for folder in below if folder not in found]
    return sorted(found)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
    except OSError:  # of another user
        return []


def _not_found(path: Path) -> str:
    if path.name in PARTS:
        return f"{path} is a part of a product, but no folder above it is a product; give the .SAFE folder."
    if not path.is_dir():
        return f"{path} is neither a folder nor a zip (an incomplete download?)."
    zips = zips_in(path)
    if zips:
        return f"{path} holds {_listed(zips)}; give {'that' if len(zips) == 1 else 'one of them'}."
    return f"{path} has neither MTD_MSIL1C.xml nor MTD_MSIL2A.xml; a Sentinel-2 product has one."


def _zip_files(path: Path) -> Product:
    members = members_of(path).items()
    by_name = {name: info for name, info in members if not PurePosixPath(name).name.startswith(OF_MACOS)}
    metadata = [name for name in by_name if PurePosixPath(name).name in METADATA]
    roots = sorted(name.removesuffix(PurePosixPath(name).name) for name in metadata)
    if len(roots) != 1:
        raise NotAProductError(_not_in_zip(path, roots, list(by_name)))
    (prefix,) = roots
    below: dict[str, zipfile.ZipInfo | None] = {
        name.removeprefix(prefix): by_name[name] for name in sorted(by_name) if name.startswith(prefix)
    }
    return Product(path, prefix, below)


def _not_in_zip(path: Path, roots: list[str], members: list[str]) -> str:
    expected = f"A zip with one .SAFE folder is expected; {path} has {len(roots)}"
    if roots:
        names = _listed([PurePosixPath(root).name or "one without a folder" for root in roots])
        return f"{expected} ({names}): unpack it."
    archives = [name for name in members if name.lower().endswith(".zip") or _ARCHIVE.search(name)]
    if archives:
        return f"{expected}, and holds {_listed(archives)}: unpack it, and give what it holds."
    return f"{expected}, and holds {_listed(members) or 'nothing'}."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
