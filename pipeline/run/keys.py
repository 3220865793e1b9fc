"""Keys of shards: everything that decides their bytes, hashed; the same on every machine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import rasterio

import pipeline
from pipeline.config import Engine
from pipeline.inference.machine import backend, half_precision
from pipeline.inference.motion import AMPLE_EVIDENCE
from pipeline.inference.predictions import ANY_SCORE, MinScores
from pipeline.inference.run_models import Models
from pipeline.inference.shards import content_key
from pipeline.layers.expected import LEAST_SCORE
from pipeline.layers.trucks import WEAKEST_SCORE
from pipeline.models.bundle import Bundle, Calibration
from pipeline.plugins import plugin_versions
from pipeline.redaction import without_secrets
from pipeline.run.request import Request
from pipeline.scenes.clouds import cloud_source
from pipeline.scenes.raster.datasets import local_file
from pipeline.scenes.scene import BandSource, Scene
from pipeline.scenes.sun import long_shadow, shadow_length
from pipeline.storage.beside import deciding_files, part_name
from pipeline.storage.untrusted_vectors import split_layer
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
    "vehicle_calibration",
    "vehicle_calibration_near_roads",
    "vehicle_threshold",
    "vehicle_threshold_near_roads",
}
"""Parts of a card that no shard depends on."""

_PACKAGES = (
    "truckscape",
    "torch",
    "torchvision",
    "openvino",
    "rasterio",
    "numpy",
    "scipy",
    "shapely",
    "lightgbm",
    "s2cloudless",
)
"""They compute pixels and boxes; the last two classify clouds."""
_CODE = (
    *("scenes", "models", "inference", "tiling.py"),
    *("roads/read.py", "roads/tags.py", "roads/duplicates.py", "roads/mask.py"),
)
"""The part of this package that makes shards."""

_SHARD_SCORE_EVERYWHERE = 0.3
"""Network score from which boxes are in every shard without roads, so that few calibrations need others. To
measure the motion of a box takes 1 ms; rough terrain has 3 such boxes a km2, and 35 of any score."""
_SHARD_SCORE_NEAR_ROADS = 0.13
"""The same with roads, just below what the shipped calibrations need. 80 % of the boxes of a simulated scene
are below it."""


def keys_of(
    request: Request,
    scene: Scene,
    models: Models,
    shards: Sequence[Sequence[Tile]],
    inputs: dict[str, str],
    environment: dict[str, str],
) -> tuple[str, ...]:
    """Return the key of each shard. Names of files do not count; their contents do, and which part of the
    input each of them is.
    """
    roads, layer = split_layer(request.roads) if request.roads else (None, None)
    digests = {Path(path).resolve(): digest for path, digest in inputs.items()}
    common = {
        "environment": environment,
        "scene": scene.id,
        "href": None if scene.files else scene.href,
        "grid": [str(scene.grid.crs), list(scene.grid.affine)[:6], list(scene.shape)],
        "files": sorted(inputs[str(file)] for file in scene.files if str(file) in inputs),
        "bands": {name: _band(scene.bands[name], digests) for name in models.bands_of(scene)},
        "scl": _band(scene.scl, digests) if scene.scl else None,
        "blanks": scene.blanks,
        "models": [
            bundle.card.model_dump(mode="json", exclude=_NOT_COMPUTED_WITH) if bundle else None
            for bundle in (models.detector, models.segmenter, models.screener)
        ],
        "min_scores": asdict(min_network_scores(request, models, scene)),
        "screener_threshold": models.screener.card.score_threshold if models.screener else None,
        "probabilities": temperature(request, models),
        "road_buffer_m": request.config.trucks.road_buffer_m if request.roads else None,
        "roads": _parts(roads, inputs) if roads else None,
        "roads_layer": layer,
        "clouds": cloud_source(scene),
    }
    return tuple(
        content_key({**common, "tiles": [[t.row, t.col, t.height, t.width, t.halo] for t in tiles]})
        for tiles in shards
    )


def _parts(path: Path, inputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the parts of a vector file with their hashes."""
    files = (file for file in deciding_files(path) if str(file) in inputs)
    return sorted((part_name(file, path), inputs[str(file)]) for file in files)


def _band(source: BandSource, digests: Mapping[Path, str]) -> list[object]:
    """Return the identity of a band: hash of its file, place in it, and the conversion to reflectance."""
    file = local_file(source.href)
    if file is None:
        place = without_secrets(source.href)
    else:
        place = digests.get(file.resolve(), "") + source.href.removeprefix("/vsizip/").partition("}")[2]
    warp = source.warp and [source.warp.crs, list(source.warp.transform)[:6], list(source.warp.shape)]
    nodata = source.warp.nodata if source.warp else source.nodata
    mask = _band(source.mask, digests) if source.mask else None
    return [place, source.index, source.scale, source.offset, str(nodata), warp, mask]


def environment(engine: Engine) -> dict[str, str]:
    """Return what this machine contributes to the bytes of a shard."""
    precision = "bfloat16" if half_precision(engine) else "float32"
    return {**code_versions(), "engine.precision": precision, "engine.backend": backend(engine)}


def code_versions() -> dict[str, str]:
    """Return the versions of the installed software that makes shards, and a hash of its source code here."""
    return {
        **versions(_PACKAGES),
        **plugin_versions(),
        "GDAL": rasterio.__gdal_version__,
        "source code": source_hash(Path(pipeline.__file__).parent),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def source_hash(package: Path) -> str:
    """Return a hash of the code that makes shards in a folder of this package."""
    files = [file for part in _CODE for file in [package / part, *(package / part).rglob("*.py")]]
    hashes = {file.relative_to(package).as_posix(): _sha256(file) for file in files if file.is_file()}
    return content_key(hashes)[:16]


def score_threshold(request: Request, models: Models) -> float | None:
    """Return the score threshold of trucks: as set, else that of the card; None without trucks."""
    chosen = request.config.trucks.score_threshold
    if models.detector is None or chosen is not None:
        return chosen
    return models.detector.card.default_threshold(near_roads=request.roads is not None)


def vehicle_threshold(request: Request, models: Models) -> float | None:
    """Return the threshold of vehicles of any kind: as set, else that of the card.

    None for a detector that does not score them, or whose card has no such threshold.
    """
    if models.detector is None or not models.detector.card.scores_vehicles:
        return None
    chosen = request.config.trucks.vehicle_threshold
    default = models.detector.card.default_vehicle_threshold(near_roads=request.roads is not None)
    return default if chosen is None else chosen


def temperature(request: Request, models: Models) -> float | None:
    """Return the temperature of land-cover probabilities; None if a run keeps none."""
    if models.segmenter is None or not request.config.landcover.probabilities:
        return None
    return models.segmenter.card.calibration.temperature


def min_scores(request: Request, models: Models) -> MinScores:
    """Return the calibrated scores from which detections are kept: trucks and, of a detector with a threshold
    for them, vehicles of any kind; of both also weaker ones that count."""
    weakest = WEAKEST_SCORE if request.roads is None else LEAST_SCORE
    vehicle = vehicle_threshold(request, models)
    return MinScores(
        min(weakest, score_threshold(request, models) or 0.0),
        None if vehicle is None else min(WEAKEST_SCORE, vehicle),
    )


def min_network_scores(request: Request, models: Models, scene: Scene) -> MinScores:
    """Return the network's scores from which boxes are in a shard, as low as calibration and thresholds need.

    Boxes below them would be dropped when shards are merged, whatever their motion.
    """
    if models.detector is None:
        return ANY_SCORE
    least = min_scores(request, models)
    at_most = _SHARD_SCORE_EVERYWHERE if request.roads is None else _SHARD_SCORE_NEAR_ROADS
    heavy, vehicle = calibrations(models.detector, request, scene)

    def needed(calibration: Calibration, probability: float) -> float:
        return min(at_most, math.floor(calibration.score(probability, AMPLE_EVIDENCE) * 1e6) / 1e6)

    return MinScores(
        needed(heavy, least.heavy), None if least.vehicle is None else needed(vehicle, least.vehicle)
    )


def calibrations(detector: Bundle, request: Request, scene: Scene) -> tuple[Calibration, Calibration]:
    """Return the calibrations of `score` and `vehicle_score` for this case and the scene's shadows."""
    near_roads, shadow = request.roads is not None, long_shadow(shadow_length(scene))
    card = detector.card
    return card.calibration_for(near_roads).under(shadow), card.vehicle_calibration_for(near_roads).under(
        shadow
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
