"""Fetch datasets into the cache: from a mirror, or made of the files that their authors publish."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from pipeline.errors import OpenDataError, OutputError
from pipeline.open_data.archive import extract
from pipeline.open_data.catalogue import Catalogue, DataFile, Member, Original
from pipeline.open_data.convert import CONVERTERS
from pipeline.open_data.download import NotThereError, local_path, retrieve
from pipeline.redaction import is_url
from pipeline.storage.atomic import make_folder, remove_abandoned, temporary

MIRROR_VARIABLE = "TRUCKSCAPE_DATA_MIRROR"
"""Environment variable with the mirror: a folder, or a URL (file, http, https)."""

Report = Callable[[str, int, int], None]
"""Called with what is downloaded, the bytes so far and those of the complete file."""


def bytes_to_download(known: Catalogue, files: Sequence[DataFile], mirror: str | None) -> int:
    """Return the size of what is fetched for files, of archives the complete one."""
    if mirror:
        return sum(file.bytes for file in files)
    parts = [part for file in files for part in file.parts]
    return sum({original.url: original.bytes for original in map(known.original, parts)}.values())


def fetch(
    known: Catalogue, name: str, files: Sequence[DataFile], cache: Path, mirror: str | None, report: Report
) -> None:
    """Fetch files of a dataset into the cache.

    A mirror, if there is one, is asked first. A file that it does not have is made of published files. Files
    appear in the cache one by one, complete and checked.

    Raises
    ------
    OpenDataError
        If a file is nowhere to be had, or is not what the catalogue says, or the mirror is no folder.
    OpenDataUnreachableError
        If a server fails.
    OutputError
        If the cache can't be written, or its disk is too small.
    """
    dataset = known.dataset(name)
    if not mirror and (elsewhere := [str(dataset.place(file)) for file in files if not file.parts]):
        raise OpenDataError(
            f"{elsewhere[0]} is not published as such. Set a mirror that has it: --mirror, or "
            f"{MIRROR_VARIABLE}."
        )
    if mirror and (folder := local_path(mirror)) and not folder.is_dir():
        raise OpenDataError(f"The mirror {mirror} is no folder. Correct --mirror, or {MIRROR_VARIABLE}.")
    make_folder(cache)
    remove_abandoned(cache)
    _check_room(bytes_to_download(known, files, mirror), cache, name)
    with _scratch(cache) as scratch:
        work = _Work(known, scratch, report)
        for file in files:
            place = dataset.place(file)
            try:
                part = work.made(file, str(place), mirror)
                make_folder((cache / place).parent)
                part.replace(cache / place)
            except OSError as error:
                raise OutputError(f"{cache / place} cannot be written: {error.strerror or error}.") from error


@dataclass(frozen=True)
class _Work:
    """Fetching of one dataset."""

    known: Catalogue
    scratch: Path
    report: Report
    originals: dict[str, Path] = field(default_factory=dict)
    """Published files that are downloaded, by URL."""

    def made(self, file: DataFile, place: str, mirror: str | None) -> Path:
        """Return a file in the scratch folder: from the mirror, or of its parts."""
        target = self.scratch / Path(place).name
        try:
            if mirror:
                self._retrieve(_in_mirror(mirror, place), target, file, place)
                return target
        except NotThereError as error:
            if not file.parts:
                raise NotThereError(f"{error}. {place} is published nowhere else.") from error
        parts = [self._part(part, index) for index, part in enumerate(file.parts)]
        CONVERTERS[file.convert](parts, target, **file.arguments)
        return target

    def _part(self, part: Original | Member, index: int) -> Path:
        """Return a published file, or a copy of a member of it; each is downloaded once."""
        original = self.known.original(part)
        name = original.url.rpartition("/")[2]
        if original.url not in self.originals:
            target = self.scratch / f"{len(self.originals)}_{name}"
            self.originals[original.url] = self._retrieve(original.url, target, original, name)
        whole = self.originals[original.url]
        if isinstance(part, Original):
            return whole
        return extract(whole, part.member, self.scratch / f"{index}_{part.member.rpartition('/')[2]}")

    def _retrieve(self, address: str, target: Path, file: DataFile | Original, name: str) -> Path:
        retrieve(address, target, file.sha256, file.bytes, lambda came: self.report(name, came, file.bytes))
        return target


def _in_mirror(mirror: str, place: str) -> str:
    if is_url(mirror) or mirror.lower().startswith("file:"):
        return f"{mirror.rstrip('/')}/{quote(place)}"
    return str(Path(mirror) / place)


def _check_room(size: int, cache: Path, name: str) -> None:
    """Raise OutputError if the disk of the cache can't hold a dataset."""
    free = shutil.disk_usage(cache).free
    if size > free:
        raise OutputError(
            f"{name} takes {size / 1e6:.1f} MB, and {cache} has {free / 1e6:.1f} MB free. Choose another "
            "folder with --cache, or TRUCKSCAPE_DATA."
        )


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """Yield a folder for temporary files on the disk of the cache; the next fetch removes abandoned ones."""
    folder = temporary(cache / "fetch")
    make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
