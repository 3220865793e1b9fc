"""Shards: pieces of a scene's predictions, each a file named by the hash of all that made it."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.predictions import Detections


@dataclass(frozen=True)
class Shard:
    """Predictions for a range of rows, over the whole width of the scene."""

    first_row: int
    status: NDArray[np.uint8]
    """(H, W), codes of `pipeline.inference.predictions`."""
    landcover: NDArray[np.uint8] | None
    """(H, W), values of the legend, 255 where there is none."""
    detections: Detections
    """In pixels of the whole scene."""
    tiles_total: int
    tiles_skipped: int
    probabilities: NDArray[np.uint8] | None = None
    """(K, H, W), of the K classes of the legend, as in `pipeline.inference.probabilities`; None if a run
    keeps none."""


def content_key(parts: Mapping[str, Any]) -> str:
    """SHA-256 of `parts` (anything JSON knows), independent of their order."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def shard_name(key: str) -> str:
    """Return the file name of a key's shard."""
    return f"{key[:32]}.npz"


def save_shard(file: IO[bytes], shard: Shard) -> None:
    """Write a shard into a file that is open; the same shard makes the same bytes."""
    arrays = {
        "rows": np.array([shard.first_row, shard.tiles_total, shard.tiles_skipped]),
        "status": shard.status,
        "boxes": shard.detections.boxes,
        "scores": shard.detections.scores,
        "displacement": shard.detections.displacement,
        "displacement_sigma": shard.detections.displacement_sigma,
    }
    optional = {
        "vehicle_scores": shard.detections.vehicle_scores,
        "landcover": shard.landcover,
        "probabilities": shard.probabilities,
    }
    arrays |= {name: array for name, array in optional.items() if array is not None}
    # As numpy.savez_compressed does it, but for the level of compression: its 6 takes four times as long.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_shard(file: IO[bytes]) -> Shard | None:
    """Return the shard in a file; None if it is damaged and has to be computed again."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            first_row, total, skipped = (int(number) for number in arrays["rows"])
            return Shard(
                first_row,
                arrays["status"],
                arrays.get("landcover"),
                Detections(
                    arrays["boxes"],
                    arrays["scores"],
                    arrays["displacement"],
                    arrays["displacement_sigma"],
                    arrays.get("vehicle_scores"),
                ),
                total,
                skipped,
                arrays.get("probabilities"),
            )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
