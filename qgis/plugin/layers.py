"""The layers of a folder of results in the layer tree: one group a scene, with the styles of the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qgis.core import QgsLayerTreeGroup, QgsMapLayer, QgsProject, QgsRasterLayer, QgsVectorLayer

RECORD = "run.json"
EVALUATION = "evaluation"
_TOP_DOWN = (
    "recurring",
    "trucks",
    "vehicles",
    "look_alikes",
    "road_segments",
    "not_seen",
    "seen",
    "landcover",
)
"""Vector layers from the top of the tree; others are above them, rasters below."""
_HIDDEN = ("vehicles", "seen", "not_seen", "landcover", "landcover_probability.tif", "panoptic.tif")
"""Layers that wait for a click; the others are drawn at once."""
_STYLES = "layer_styles"
_CASES = "confusion_cases.gpkg"


def open_results(folder: Path, project: QgsProject) -> list[QgsMapLayer]:
    """Add the results of a folder to the top of a project, a group a scene, and return the layers."""
    scenes = sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    found = []
    for each in [*scenes, folder][::-1]:
        if any(_files(each)):
            group = project.layerTreeRoot().insertGroup(0, each.name)
            found += _fill(group, each, project)
            group.setExpanded(len(scenes) <= 1)
            if any(_files(each / EVALUATION)):
                cases = group.insertGroup(0, EVALUATION)
                found += _fill(cases, each / EVALUATION, project)
                cases.setItemVisibilityChecked(False)
                cases.setExpanded(False)
    return found


def _fill(group: QgsLayerTreeGroup, folder: Path, project: QgsProject) -> list[QgsMapLayer]:
    layers = sorted((layer for path in _files(folder) for layer in _opened(path)), key=_place)
    for layer in layers:
        project.addMapLayer(layer, False)
        node = group.addLayer(layer)
        node.setExpanded(False)
        node.setItemVisibilityChecked(layer.name() not in _HIDDEN)
    return layers


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*.gpkg"))
    yield from sorted(folder.glob("*.tif"))


def _opened(path: Path) -> Iterator[QgsMapLayer]:
    """Open a file as if it was dragged into the window: styles lie in it or beside it."""
    if path.suffix == ".tif":
        layers = [QgsRasterLayer(str(path), path.name, "gdal")]
    else:
        layers = [QgsVectorLayer(f"{path}|layername={name}", title, "ogr") for name, title in _names(path)]
    for layer in layers:
        if layer.isValid():
            yield layer


def _names(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the layers of a GeoPackage, and what they are called in the tree."""
    whole = QgsVectorLayer(str(path), path.stem, "ogr")
    parts = whole.dataProvider().subLayers() if whole.isValid() else []
    for name in (part.split("!!::!!")[1] for part in parts):
        if name != _STYLES:
            yield name, f"case: {name}" if path.name == _CASES else name


def _place(layer: QgsMapLayer) -> int:
    name = layer.name()
    if name.endswith(".tif"):
        return len(_TOP_DOWN)
    return _TOP_DOWN.index(name) if name in _TOP_DOWN else -1
