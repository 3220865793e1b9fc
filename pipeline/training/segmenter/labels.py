"""Classes of land cover in label files, and the meaning of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import geopandas as gpd
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from pydantic import Field
from rasterio.windows import Window

from pipeline.errors import CorruptImageError, LabelsError
from pipeline.evaluation.features import read_polygons_or_points
from pipeline.evaluation.landcover.labels import (
    LANDCOVER_LAYERS,
    UNLABELLED,
    LandcoverLabels,
    feature_labels,
    read_landcover_labels,
)
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.scenes.raster.datasets import local_raster, open_raster
from pipeline.scenes.scene import Scene
from pipeline.storage.untrusted_vectors import file_of, split_layer

CLASS_FIELDS = ("class", "label", "category", "landcover", "fclass", "name")
DYNAMIC_WORLD_NAMES = {item.value: item.name for item in DYNAMIC_WORLD}

Classes = Mapping[str, tuple[str | Annotated[int, Field(ge=-(2**31), le=2**31 - 1)], ...]]
"""Name of each class, and the values of the labels that mean it."""


@dataclass(frozen=True)
class ClassLabels:
    """Labels on the grid of a scene."""

    path: Path
    labels: LandcoverLabels
    names: Mapping[int, str]
    """Name of the class of each value; other values are unlabelled."""

    def read(self, window: Window, classes: Sequence[str]) -> NDArray[np.uint8]:
        """Return (H, W) indices of `classes` in a window of the scene, `UNLABELLED` where there is none."""
        return class_index(self.names, classes)[self.labels.read(window)]


def class_index(names: Mapping[int, str], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return (256,) the index among `classes` of the class that each value means, else `UNLABELLED`."""
    index = np.full(256, UNLABELLED, np.uint8)
    for value, name in names.items():
        if name in classes:
            index[value] = classes.index(name)
    return index


def read_labels(
    path: Path, scene: Scene, class_field: str | None = None, classes: Classes | None = None
) -> ClassLabels:
    """Open labels on a scene's grid: polygons or points with a class, or a raster (uint8, 255: none).

    Without `classes` a raster holds values of Dynamic World, and each value of polygons or points is a class.

    Raises
    ------
    LabelsError
        If they can't be read, hold nothing, or a value that `classes` does not name.
    """
    if not file_of(path).exists():
        raise LabelsError(f"Land-cover labels not found: {path}")
    if _is_raster(path):
        labels, values = _raster(path, scene)
        meaning = _meaning(path, list(values.values()), classes)
        return ClassLabels(path, labels, {value: meaning[text] for value, text in values.items()})
    features, texts = _features(path, scene, class_field)
    if classes is not None:
        texts = texts.map(_meaning(path, sorted(set(texts)), classes))
    numbers = {name: number for number, name in enumerate(sorted(set(texts)))}
    if len(numbers) >= UNLABELLED:
        raise LabelsError(f"{path} holds {len(numbers)} values; at most {UNLABELLED - 1} can be learned.")
    burnt = gpd.GeoDataFrame({"value": texts.map(numbers)}, geometry=features.geometry, crs=features.crs)
    labels = feature_labels(burnt, scene.grid, path)
    return ClassLabels(path, labels, {number: name for name, number in numbers.items()})


def class_names(labels: Sequence[ClassLabels], classes: Classes | None) -> tuple[str, ...]:
    """Return the classes that labels hold, in the order of `classes` or of the labels.

    Raises
    ------
    LabelsError
        If there are fewer than two.
    """
    there = dict.fromkeys(name for one in labels for name in one.names.values())
    names = tuple(name for name in (classes or there) if name in there)
    if len(names) < 2:
        held = f"one class only, {names[0]}" if names else "no class"
        files = ", ".join(str(one.path) for one in labels)
        raise LabelsError(f"{files} holds {held}: a network learns to distinguish two or more.")
    return names


def legend(names: Sequence[str], known: Sequence[LegendClass]) -> tuple[LegendClass, ...]:
    """Return classes with their index as value, in the colour of a known class of that name or a palette."""
    colours = {item.name: item.colour for item in known}
    palette = [to_hex(colour) for colour in colormaps["tab20"].colors]  # type: ignore[attr-defined]
    return tuple(
        LegendClass(value=value, name=name, colour=colours.get(name, palette[value % len(palette)]))
        for value, name in enumerate(names)
    )


def _meaning(path: Path, texts: Sequence[str], classes: Classes | None) -> dict[str, str]:
    """Return the class that each label means; without `classes`, Dynamic World's.

    Raises LabelsError if one of `texts` means none.
    """
    if classes is None:
        meaning = {str(value): name for value, name in DYNAMIC_WORLD_NAMES.items()}
        known, hint = "Dynamic World does not have", "Name them: classes: {name of a class: [its values]}."
    else:
        meaning = {name: name for name in classes}
        meaning |= {_text(value): name for name, of_class in classes.items() for value in of_class}
        known, hint = "classes in the settings does not name", f"It names: {', '.join(classes)}."
    unknown = [text for text in texts if text not in meaning]
    if unknown:
        raise LabelsError(f"{path} holds {', '.join(unknown[:5])}, which {known}. {hint}")
    return meaning


def _is_raster(path: Path) -> bool:
    if split_layer(path)[1] is not None:
        return False
    try:
        with open_raster(local_raster(path, "Land-cover labels"), "Land-cover labels") as source:
            return bool(source.count)
    except CorruptImageError:
        return False


def _raster(path: Path, scene: Scene) -> tuple[LandcoverLabels, dict[int, str]]:
    """Return the labels, and the values that occur as text."""
    labels = read_landcover_labels(path, scene.grid)
    with open_raster(local_raster(path, "Land-cover labels"), "Land-cover labels") as source:
        counts = np.zeros(256, np.int64)
        for _, window in source.block_windows(1):
            counts += np.bincount(source.read(1, window=window).ravel(), minlength=256)
        none = {UNLABELLED, source.nodata}
    return labels, {int(value): str(value) for value in np.flatnonzero(counts) if int(value) not in none}


def _features(path: Path, scene: Scene, class_field: str | None) -> tuple[gpd.GeoDataFrame, pd.Series]:
    """Return the polygons or points with a class, and the class of each as text."""
    crs = scene.grid.crs.to_wkt() if scene.grid.crs else None
    frame = read_polygons_or_points(path, "Land-cover labels", crs, LANDCOVER_LAYERS)
    if frame.empty:
        raise LabelsError(f"There is nothing to learn from: {path} holds no polygons or points.")
    columns = [str(name) for name in frame.columns if name != frame.geometry.name]
    wanted = [class_field] if class_field else list(CLASS_FIELDS)
    field = next((name for name in wanted if name in columns), None)
    if field is None:
        raise LabelsError(
            f"{path} has no column {' or '.join(wanted)} for the class. "
            f"It has: {', '.join(columns) or 'none'}. Name it with --class-field."
        )
    frame = frame[frame[field].notna()]
    return frame, frame[field].map(_text)


def _text(value: object) -> str:
    """Return a label as text; integers without a fraction, however they are stored."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
