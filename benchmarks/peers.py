"""Start a run of `benchmarks.peer_runs` as a separate process, and read its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import run_python
from benchmarks.peer_scene import PeerScene, peer_scene
from benchmarks.products import say

WARM_UP_PX = 512


@dataclass(frozen=True)
class Run:
    """Cost and result of one way on an image."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    """Of the complete process, libraries included."""
    found: dict[str, NDArray]

    def row(self, **more: str) -> dict[str, str]:
        """Return its row of the table."""
        shown = {
            "seconds": f"{self.seconds:.1f}",
            "CPU s": f"{self.cpu_seconds:.1f}",
            "peak MB": f"{self.peak_mb:.0f}",
        }
        return {"way": self.name, **shown, **more}

    def figures(self) -> dict[str, Any]:
        """Return the figures to store."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_mb": self.peak_mb}


def run(name: str, scene: PeerScene, way: str, **arguments: Any) -> Run:
    """Measure a way of `benchmarks.peer_runs`, warmed up by a small image."""
    say(name)
    with TemporaryDirectory() as folder:
        result = Path(folder) / "found.npz"
        order = {
            "way": way,
            "arguments": arguments,
            "image": str(scene.image),
            "warm_up": str(peer_scene(WARM_UP_PX).image),
            "result": str(result),
        }
        whole = run_python("-m", "benchmarks.peer_runs", json.dumps(order))
        with np.load(result) as arrays:
            found = dict(arrays)
    taken = json.loads(whole.output.splitlines()[-1])
    return Run(name, taken["seconds"], taken["cpu_seconds"], whole.peak_mb, found)
