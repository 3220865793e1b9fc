"""Catalogue of open data: what it is, under which licence, and where its files come from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from pipeline.errors import OpenDataError
from pipeline.redaction import shown
from pipeline.safe_yaml import read_yaml
from pipeline.settings import Settings, validated

_MOST_BYTES = 10**12
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=1, le=_MOST_BYTES)]


class Original(Settings):
    """File as its author publishes it."""

    url: str
    sha256: Sha256
    bytes: Size


class Member(Settings):
    """File in a published archive."""

    archive: str = Field(description="its name in `archives`")
    member: str = Field(description="path in the archive")


class DataFile(Settings):
    """File of a dataset; a mirror has it at `folder/path`, with these bytes."""

    path: str = Field(description="below the dataset's folder")
    sha256: Sha256
    bytes: Size
    about: str = Field("", description="what it shows, where the files of a dataset differ")
    parts: tuple[Original | Member, ...] = Field(
        (), description="published files that it is made of; without them only a mirror has it"
    )
    convert: str = Field("copy", description="name of the converter, see `convert.CONVERTERS`")
    arguments: Mapping[str, Any] = Field({}, description="of the converter")


class Dataset(Settings):
    """Files that belong together, under one licence."""

    about: str
    level: str = Field("", description="of imagery: L1C, L2A, or both")
    licence: str
    source: str = Field(description="who published it, where")
    folder: str = Field(description="in the cache, and in a mirror")
    files: tuple[DataFile, ...]

    @property
    def bytes(self) -> int:
        """Return the size of all files."""
        return sum(file.bytes for file in self.files)

    def place(self, file: DataFile) -> PurePosixPath:
        """Return the path of a file in the cache, and in a mirror."""
        return PurePosixPath(self.folder, file.path)


class Catalogue(Settings):
    """All datasets by name, and the archives in which some are published."""

    archives: Mapping[str, Original]
    datasets: Mapping[str, Dataset]

    def dataset(self, name: str) -> Dataset:
        """Return a dataset; OpenDataError, with the most similar name, if there is no such one."""
        if name in self.datasets:
            return self.datasets[name]
        near = difflib.get_close_matches(name, self.datasets, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise OpenDataError(f"No dataset is called {shown(name)}.{hint} List all: truckscape data list")

    def select(self, name: str, path: str = "") -> tuple[DataFile, ...]:
        """Return the file of a dataset with a path, or the files in the folder with this path; all if empty.

        Raises OpenDataError if there is no such dataset or file.
        """
        files = self.dataset(name).files
        found = tuple(file for file in files if PurePosixPath(file.path).is_relative_to(path))
        if not found:
            others = ", ".join(file.path for file in files)
            raise OpenDataError(f"{name} has no file {shown(path)}. It has: {others}")
        return found

    def original(self, part: Original | Member) -> Original:
        """Return what is downloaded for a part: the file, or its archive."""
        return part if isinstance(part, Original) else self.archives[part.archive]

    def has_own_folder(self, dataset: Dataset) -> bool:
        """Return True if nothing but the dataset is in its folder."""
        return [one.folder for one in self.datasets.values()].count(dataset.folder) == 1


def catalogue() -> Catalogue:
    """Return the catalogue of this package."""
    return _shipped()


@cache
def _shipped() -> Catalogue:
    text = (files("pipeline.open_data") / "catalogue.yaml").read_text(encoding="utf-8")
    return validated(Catalogue, read_yaml(text), " (in catalogue.yaml)")
