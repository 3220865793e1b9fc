"""What a shard depends on, hashed: the same request on the same pixels has the same keys everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.inference.engine import ENGINE_VERSION
from pipeline.inference.networks import Models, thread_count
from pipeline.inference.runtime import backend, half_precision
from pipeline.inference.shards import content_key
from pipeline.layers.trucks import WEAKEST_SCORE
from pipeline.run.request import Request
from pipeline.scenes.clouds import has_clouds_information
from pipeline.scenes.scene import Scene
from pipeline.tiling import Tile

_NOT_COMPUTED_WITH = {
    "quality",
    "training_data",
    "limitations",
    "licence",
    "score_threshold",
    "score_threshold_near_roads",
    "calibration",
    "calibration_near_roads",
}
"""What a card says that no shard depends on, or only in one of two cases."""


def keys_of(
    request: Request,
    scene: Scene,
    models: Models,
    shards: Sequence[Sequence[Tile]],
    inputs: dict[str, str],
) -> tuple[str, ...]:
    """What a shard's result depends on, hashed; the names of the files do not count, their contents do."""
    labels = {str(path) for path in (request.truck_labels, request.landcover_labels)}
    common = {
        "engine": ENGINE_VERSION,
        "scene": scene.id,
        "href": None if scene.files else scene.href,
        "files": sorted(digest for path, digest in inputs.items() if path not in labels),
        "bands": {
            name: [scene.bands[name].scale, scene.bands[name].offset, scene.bands[name].nodata]
            for name in models.bands_of(scene)
        },
        "models": [
            bundle.card.model_dump(mode="json", exclude=_NOT_COMPUTED_WITH) if bundle else None
            for bundle in (models.detector, models.segmenter, models.screener)
        ],
        "calibration": _calibration(request, models),
        "least_score": min_score(request, models),
        "screener_threshold": models.screener.card.score_threshold if models.screener else None,
        "half": half_precision(request.config.engine),
        "backend": backend(request.config.engine),
        "road_buffer_m": request.config.trucks.road_buffer_m if request.roads else None,
        "clouds": has_clouds_information(scene),
    }
    return tuple(
        content_key({**common, "tiles": [[t.row, t.col, t.height, t.width, t.halo] for t in tiles]})
        for tiles in shards
    )


def hashes_of(scene: Scene, request: Request) -> dict[str, str]:
    """SHA-256 of every local file that a request reads, by path."""
    paths = [
        *scene.files,
        *(path for path in (request.roads, request.truck_labels, request.landcover_labels) if path),
    ]
    files = [path for path in sorted(set(paths)) if path.is_file()]
    with ThreadPoolExecutor(thread_count(request.config.engine)) as pool:
        return dict(zip(map(str, files), pool.map(_sha256, files), strict=True))


def score_threshold(request: Request, models: Models) -> float | None:
    """From which score on a detection is a truck: as set, else as the card says; None without trucks."""
    chosen = request.config.trucks.score_threshold
    if models.detector is None or chosen is not None:
        return chosen
    return models.detector.card.default_threshold(near_roads=request.roads is not None)


def min_score(request: Request, models: Models) -> float:
    """From which score on detections are kept: trucks, and what nearly was one."""
    return min(WEAKEST_SCORE, score_threshold(request, models) or 0.0)


def _calibration(request: Request, models: Models) -> dict[str, float] | None:
    if models.detector is None:
        return None
    return models.detector.card.calibration_for(near_roads=request.roads is not None).model_dump()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
