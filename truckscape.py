"""Moving trucks and land cover from Sentinel-2 scenes, in Python.

    import truckscape as ts

    scene = ts.open("T32UPD.SAFE")
    trucks = ts.detect(scene, roads="roads.gpkg")
    trucks.to_file("trucks.gpkg")

This page is the public API: names that are not here may change with any version. docs/api.md describes them.
"""

from pipeline import __version__
from pipeline.api.evaluate import Score, evaluate
from pipeline.api.predict import detect, landcover
from pipeline.api.progress import Progress
from pipeline.api.register import register
from pipeline.api.run import Layers, Result, run
from pipeline.api.scene import Scene, open
from pipeline.api.traffic import traffic
from pipeline.errors import (
    ArrayError,
    BundleError,
    ConfigError,
    EvaluationError,
    GeoreferenceError,
    LabelsError,
    MissingBandError,
    MissingExtraError,
    NotAProductError,
    OutputError,
    PluginError,
    RadiometryError,
    RoadsError,
    RunsError,
    SceneNotFoundError,
)
from pipeline.errors import TruckscapeError as Error

__all__ = [
    "ArrayError",
    "BundleError",
    "ConfigError",
    "Error",
    "EvaluationError",
    "GeoreferenceError",
    "LabelsError",
    "Layers",
    "MissingBandError",
    "MissingExtraError",
    "NotAProductError",
    "OutputError",
    "PluginError",
    "Progress",
    "RadiometryError",
    "Result",
    "RoadsError",
    "RunsError",
    "Scene",
    "SceneNotFoundError",
    "Score",
    "__version__",
    "detect",
    "evaluate",
    "landcover",
    "open",
    "register",
    "run",
    "traffic",
]
