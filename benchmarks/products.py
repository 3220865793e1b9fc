"""Simulated products for the benchmarks: made once, kept in `runs/bench`."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, truckscape

KEPT = ROOT / "runs" / "bench"
SEED = 11
GRANULE_PX = 10980


@dataclass(frozen=True)
class Product:
    """A simulated product and its truth."""

    safe: Path
    folder: Path

    @property
    def trucks(self) -> Path:
        """Boxes of all trucks."""
        return self.folder / "truth" / "trucks.gpkg"

    @property
    def roads(self) -> Path:
        """Lines of all roads."""
        return self.folder / "truth" / "roads.gpkg"


def product_in(folder: Path) -> Product:
    """Return the product in a folder that `truckscape simulate` wrote."""
    (safe,) = folder.glob("*.SAFE")
    return Product(safe, folder)


def product(size: int) -> Product:
    """Return a product of `size` x `size` pixels; simulate it if missing."""
    folder = KEPT / f"simulated-{size}"
    if not (folder / "truth").is_dir():
        say(f"simulating {size} x {size} px (a whole granule takes a quarter of an hour)")
        shutil.rmtree(folder, ignore_errors=True)
        truckscape("simulate", "--out", str(folder), "--size", str(size), "--seed", str(SEED))
    return product_in(folder)


def granule(folder: Path | None = None) -> Product:
    """Return the product of a granule: that in `folder`, or a simulated one."""
    return product_in(folder) if folder else product(GRANULE_PX)


def say(text: str) -> None:
    """Print a line of progress."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()
