"""One damaged input: its folders, the command, and which differences the damage explains."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.fuzz.corpus import Corpus
from tests.fuzz.sandbox import Sandbox

ENGINE = (
    "--no-prefect",
    "--set=engine.backend=torch",
    "--set=engine.precision=float32",
    "--set=engine.threads=1",
    "--set=tiling.shards=1",
    "--set=tiling.tile_px=64",
)
"""Settings that take the least time for one small scene."""
BATCH = (*ENGINE, "--set=batch.backoff_s=0.1")
"""The same for batches, which pause before they try a scene again."""
TRUCKS_ONLY = "--set=landcover.enabled=false"


@dataclass
class Trial:
    """An input that is prepared, then damaged."""

    corpus: Corpus
    box: Sandbox
    rng: random.Random
    server_url: str
    """Address of the server that no command may ask."""
    argv: list[str] = field(default_factory=list)
    baseline: str | None = None
    """Undamaged run whose layers are the right ones; None if the command makes none."""
    may_differ: set[str] = field(default_factory=set)
    """Layers that the damage changes although nothing shows that it is damage: another valid number, say."""
    may_ask: bool = False
    """True if the input names a server that the command is to ask."""
    may_read: set[str] = field(default_factory=set)
    """Files of `beside` that the user names."""
    stops_at_error: bool = True
    """False for batches: a scene that fails does not end them with an error line."""
    must_do: int = 0
    """Number of scenes that must be done however the rest is damaged."""
    foreign: set[str] = field(default_factory=set)
    """Folders in `--out` that are of others, whatever they hold."""
    note: str = ""
    """What was damaged, for people."""


Mutation = Callable[[Trial], None]


@dataclass(frozen=True)
class Kind:
    """A kind of input: how it is prepared, and the ways to damage it."""

    name: str
    prepare: Callable[[Trial, str], None]
    """Copies the seed of a variant into `trial.box.inputs`, and sets `argv` and `baseline`."""
    mutations: Mapping[str, Mutation]
    variants: tuple[str, ...] = ("",)


ANY = {"trucks", "landcover"}
