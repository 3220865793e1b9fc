"""Names of open data in settings: `data:NAME` and `data:NAME/file` become paths in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline.errors import OpenDataError
from pipeline.open_data.catalogue import Catalogue, DataFile, Dataset, catalogue
from pipeline.settings import read_tree

PREFIX = "data:"
CACHE_VARIABLE = "TRUCKSCAPE_DATA"
"""Environment variable with the cache folder."""

Address = TypeVar("Address", bound=str | Path)
Model = TypeVar("Model", bound=BaseModel)


def cache_folder() -> Path:
    """Return the folder of fetched data: `$TRUCKSCAPE_DATA`, or the user's cache."""
    import pooch

    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path(pooch.os_cache("truckscape")) / "data"


def resolved(address: Address) -> Address:
    """Return the cached file or folder of `data:NAME` or `data:NAME/file`; anything else as it is.

    `data:NAME` is the folder of a dataset, or its only file.

    Raises
    ------
    OpenDataError
        If there is no such dataset or file, or it is not in the cache; the message says how to fetch it.
    """
    text = address if isinstance(address, str) else address.as_posix()
    if not text.startswith(PREFIX):
        return address
    return type(address)(_found(text, catalogue(), cache_folder()))


def located(settings: Model) -> Model:
    """Return a copy of a group of settings in which texts and paths are `resolved`.

    Settings keep names, so that a training can be resumed with another cache.
    """
    addresses = {name: value for name, value in settings if isinstance(value, str | Path)}
    return settings.model_copy(update={name: resolved(value) for name, value in addresses.items()})


def names_in(tree: Any) -> Iterator[str]:
    """Yield every `data:...` in nested settings, lists and mappings."""
    if isinstance(tree, BaseModel):
        tree = dict(tree)
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for part in tree:
            yield from names_in(part)
    elif isinstance(tree, str | Path) and str(tree).startswith(PREFIX):
        yield str(tree)


def check_fetched(settings: BaseModel) -> None:
    """Raise OpenDataError if data that settings name is unknown or not in the cache."""
    for name in names_in(settings):
        resolved(name)


def names_in_recipe(path: Path) -> list[str]:
    """Return every `data:...` in a file of settings; ConfigError if it can't be read."""
    return list(names_in(read_tree(path)))


def split(address: str) -> tuple[str, str]:
    """Return dataset and path of `data:NAME/path`, with or without `data:`; the path may be empty."""
    name, _, path = address.removeprefix(PREFIX).partition("/")
    return name, path


def missing_files(dataset: Dataset, files: Iterable[DataFile], cache: Path) -> tuple[DataFile, ...]:
    """Return those files of a dataset that the cache does not have."""
    return tuple(file for file in files if not (cache / dataset.place(file)).is_file())


def _found(text: str, known: Catalogue, cache: Path) -> Path:
    name, path = split(text)
    dataset, wanted = known.dataset(name), known.select(name, path)
    missing = missing_files(dataset, wanted, cache)
    if missing:
        raise OpenDataError(
            f"{text} is not in {cache}: {len(missing)} of {len(wanted)} files are missing. "
            f"Run: truckscape data fetch {text.removeprefix(PREFIX)}"
        )
    if path:
        return cache / dataset.folder / path
    if len(dataset.files) == 1:
        return cache / dataset.place(dataset.files[0])
    if not known.has_own_folder(dataset):
        files = ", ".join(f"{PREFIX}{name}/{file.path}" for file in dataset.files)
        raise OpenDataError(f"{text}: {name} has {len(dataset.files)} files. Choose one: {files}")
    return cache / dataset.folder
