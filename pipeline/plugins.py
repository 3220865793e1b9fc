"""Registries that other packages and users extend: scene formats, network families, output products."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Generic, TypeVar

from pipeline.errors import PluginError
from pipeline.input_warnings import warn

READER_PLUGINS, FAMILY_PLUGINS, PRODUCT_PLUGINS = (
    "truckscape.readers",
    "truckscape.families",
    "truckscape.products",
)
"""Groups of entry points of other packages."""

T = TypeVar("T")


class Registry(Generic[T]):
    """Entries of one kind in order: those of truckscape, of other packages (entry points), and of users.

    Other packages are imported at the first use of the registry, not before. An entry of theirs that can't be
    loaded, is of another type, or has a name that is taken is left out; each use of the registry warns of
    it, and so does the record of each run. Threads may read and extend a registry at the same time: readers
    get the entries of that moment.
    """

    def __init__(self, group: str, kind: type[T], name: str, entries: list[T]) -> None:
        self.group = group
        """Group of the entry points."""
        self._kind = kind
        self._name = name
        self._entries = entries
        self._fixed = list(entries)
        """Entries that no user may replace."""
        self._faults: list[str] = []
        self._is_loaded = False
        self._loading = threading.RLock()
        self._changing = threading.Lock()
        """Not held while packages are imported: these may add entries."""

    def __iter__(self) -> Iterator[T]:
        self._load()
        for fault in self._faults:
            warn(fault)
        return iter(list(self._entries))

    def append(self, entry: T) -> None:
        """Add an entry of a user, in place of an earlier one of a user with this name, as notebooks do.

        Raises
        ------
        PluginError
            If the name is one of truckscape or of a package.
        """
        self._load()
        with self._changing:
            if any(self._same_name(entry, other) for other in self._fixed):
                raise PluginError(f"{self._named(entry)} is taken; choose another name.")
            self._entries = [*(each for each in self._entries if not self._same_name(entry, each)), entry]

    def remove(self, entry: T) -> None:
        """Remove an entry of a user."""
        with self._changing:
            self._entries = [each for each in self._entries if each is not entry]

    def _load(self) -> None:
        """Import the entry points of the group, once."""
        with self._loading:
            if self._is_loaded:
                return
            self._is_loaded = True  # a package that uses the registry while it is imported gets what is there
            for point in sorted(entry_points(group=self.group), key=lambda each: (each.name, each.value)):
                self._add(point)

    def _add(self, point: EntryPoint) -> None:
        plugin = f"Plug-in {point.name} of {_package(point.dist)} ({self.group})"
        try:
            entry = point.load()
        except Exception as error:  # noqa: BLE001 (code of others)
            self._faults.append(
                f"{plugin} can't be loaded: {type(error).__name__}: {error}. Repair or uninstall it."
            )
            return
        if not isinstance(entry, self._kind):
            self._faults.append(
                f"{plugin} is left out: {point.value} is a {type(entry).__name__}, and a "
                f"{self._kind.__module__}.{self._kind.__name__} is expected."
            )
            return
        with self._changing:
            if any(self._same_name(entry, other) for other in self._entries):
                self._faults.append(f"{plugin} is left out: {self._named(entry)} is taken.")
                return
            self._fixed.append(entry)
            self._entries = [*self._entries, entry]

    def _same_name(self, one: T, other: T) -> bool:
        return bool(getattr(one, self._name) == getattr(other, self._name))

    def _named(self, entry: T) -> str:
        return f"the name {getattr(entry, self._name)!r}"


def plugin_versions() -> dict[str, str]:
    """Return the versions of packages with plug-ins, by their names: a part of what computes a shard."""
    groups = (READER_PLUGINS, FAMILY_PLUGINS, PRODUCT_PLUGINS)
    points = entry_points()  # each call reads the metadata of all packages
    found = [point.dist for group in groups for point in points.select(group=group)]
    return {each.name: each.version for each in found if each is not None}


def _package(distribution: Distribution | None) -> str:
    return "an unknown package" if distribution is None else f"{distribution.name} {distribution.version}"
