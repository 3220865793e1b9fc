"""Inputs that failed once, as small changes with names; each must be refused or change nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.fuzz.kinds import documents, folders, products
from tests.fuzz.trial import Kind, Mutation, Trial


@dataclass(frozen=True)
class Case:
    """One change of a seed."""

    name: str
    kind: Kind
    change: Mutation
    variant: str = ""


def _row(column: str, value: str) -> Mutation:
    """Set a column of every scene in the ledger, in SQL."""

    def change(trial: Trial) -> None:
        with closing(sqlite3.connect(trial.box.out / "ledger.sqlite", isolation_level=None)) as base:
            base.execute(f"UPDATE truckscape_scenes SET {column} = {value}")  # noqa: S608 constants below

    return change


def _beside(name: str, content: bytes) -> Mutation:
    """Put a file beside the good scene of a folder."""

    def change(trial: Trial) -> None:
        (trial.box.inputs / name).write_bytes(content)

    return change


def _listed(*lines: str) -> Mutation:
    """Name these in a list, before the good scene."""

    def change(trial: Trial) -> None:
        text = "\n".join([*lines, "20230824T102031.tif"])
        (trial.box.inputs / "list.txt").write_text(text, encoding="utf-8")
        trial.argv[1:3] = ["--list", "in/list.txt"]

    return change


def _stack_named(name: str) -> Mutation:
    def change(trial: Trial) -> None:
        source = trial.corpus.root / "tif" / "deflate" / "20230824T102031.tif"
        shutil.copy(source, trial.box.inputs / name)
        trial.argv[1] = f"in/{name}"

    return change


def _bands_named(name: str) -> Mutation:
    def change(trial: Trial) -> None:
        folder = trial.box.inputs / "bands"
        folder.mkdir()
        for file in (trial.corpus.root / "bands" / "T32UPD_20230824T102031").iterdir():
            shutil.copy(file, folder / f"{name}_{file.name[-7:]}")
        trial.argv[1] = "in/bands"

    return change


def _image_twice(pattern: str) -> Mutation:
    """Put a second image beside one, whose name ends in the same way, with the content of another."""

    def change(trial: Trial) -> None:
        (safe,) = trial.box.inputs.glob("*.SAFE")
        first, other = sorted(safe.glob(pattern))[:2]
        shutil.copy(other, first.with_name("X" + first.name))

    return change


def _weights(value: float) -> Mutation:
    """Give the weights one value that is not finite, and the card their hash."""

    def change(trial: Trial) -> None:
        (bundle,) = (path.parent for path in trial.box.inputs.glob("*/card.yaml"))
        file = bundle / "weights.safetensors"
        tensors = load_file(file)
        name = next(name for name in sorted(tensors) if name.endswith("bias"))
        tensors[name] = np.full_like(tensors[name], value)
        save_file(tensors, file)
        documents.sign(bundle)

    return change


def _text(path: Callable[[Trial], Path], old: str, new: str) -> Mutation:
    """Replace text in a document."""

    def change(trial: Trial) -> None:
        file = path(trial)
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


CASES: tuple[Case, ...] = (
    Case("bytes in a column of JSON", folders.LEDGER, _row("acquisition", "x'ff00'"), "batch"),
    Case("bytes in a column of numbers", folders.LEDGER, _row("trucks", "x'ff00'"), "status"),
    Case("a name that is no UTF-8", folders.NEIGHBOURS, _beside("M\udcfcnchen.tif", b"")),
    Case("a line too long for a path", folders.NEIGHBOURS, _listed("x" * 5000)),
    Case("a name with the start of a colour", folders.NAMES, _stack_named("\x1b[31m.tif"), "batch"),
    Case("bands whose scene is named .", folders.NAMES, _bands_named("."), "run"),
    Case(
        "a second mask of a detector",
        products.SAFE,
        _image_twice("GRANULE/*/QI_DATA/*DETFOO*"),
        "without checksums",
    ),
    Case("a weight of minus infinity", documents.MODELS, _weights(-np.inf), "landcover"),
    Case("a weight that is no number", documents.MODELS, _weights(np.nan), "trucks"),
)
