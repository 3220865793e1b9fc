"""Opened networks, which the runs of a batch share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

from pipeline.config import Engine
from pipeline.errors import BundleError
from pipeline.inference.machine import half_precision
from pipeline.inference.run_models import Models
from pipeline.models.bundle import open_bundle

if TYPE_CHECKING:  # torch takes seconds, and a run that finds all its shards needs no networks
    from pipeline.inference.networks import Networks

_Key = tuple[tuple[tuple[Path, str] | None, ...], str, bool, int]
_MAX_HELD = 2


class NetworkPool:
    """Opened networks of a run, or of all runs of a batch.

        with NetworkPool(current_networks()) as pool:
            ...  # runs in this context, and in copies of it, open their networks here

    A pool within another one opens nothing that is open there. Networks are dropped when no pool holds them.
    Not for other processes: each has its own.
    """

    def __init__(self, outer: NetworkPool | None = None) -> None:
        self._outer = outer
        self._lock: threading.Lock = outer._lock if outer else threading.Lock()
        self._open: WeakValueDictionary[_Key, Networks] = outer._open if outer else WeakValueDictionary()
        self._held: OrderedDict[_Key, Networks] = OrderedDict()

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._token)
        self._held.clear()

    def open(self, models: Models, engine: Engine, threads: int) -> Networks:
        """Return the models ready to run, and keep them: the last two requested ones."""
        bundles = (models.detector, models.segmenter, models.screener)
        # By folder and hash: another threshold in a card reopens nothing.
        names = tuple((bundle.folder, bundle.card.weights_sha256) if bundle else None for bundle in bundles)
        key = names, engine.backend, half_precision(engine), threads
        with self._lock:  # otherwise two threads would both open them
            networks = self._open.get(key) or _opened(*key)
            self._open[key] = networks
            self._hold(key, networks)
        return networks

    def close(self) -> None:
        """Drop the networks, which are most of the memory of a run, unless another run holds them."""
        with self._lock:
            self._drop()

    def _hold(self, key: _Key, networks: Networks) -> None:
        self._held[key] = networks
        self._held.move_to_end(key)
        if len(self._held) > _MAX_HELD:
            self._held.popitem(last=False)
        if self._outer:
            self._outer._hold(key, networks)

    def _drop(self) -> None:
        self._held.clear()
        if self._outer:
            self._outer._drop()


_CURRENT = ContextVar("_CURRENT", default=NetworkPool())  # noqa: B039 (shared by all code outside of runs)


def current_networks() -> NetworkPool:
    """Return the pool of this context: that of its run, or of the process."""
    return _CURRENT.get()


def _opened(names: tuple[tuple[Path, str] | None, ...], backend: str, half: bool, threads: int) -> Networks:
    bundles = [open_bundle(str(name[0])) if name else None for name in names]
    for bundle, name in zip(bundles, names, strict=True):
        if (
            bundle and name and bundle.card.weights_sha256 != name[1]
        ):  # of another machine, or replaced meanwhile
            raise BundleError(f"Bundle {bundle.card.id} at {bundle.folder} is not what the run began with.")
    from pipeline.inference.networks import Networks

    precision = "bfloat16" if half else "float32"
    return Networks(Models(*bundles), Engine(backend=backend, precision=precision), threads)
