"""Imagery with truck boxes on disk, cut into blocks of which some are held out.

Of a held-out block and a strip around it training shows nothing: neither a pixel nor a label.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import geometry_mask
from rasterio.windows import bounds

from pipeline.errors import LabelsError
from pipeline.evaluation.features import read_polygons
from pipeline.evaluation.labels import IGNORED_CONFIDENCES, TRUCK_LAYERS, is_light, read_truck_labels
from pipeline.scenes.open import open_scene
from pipeline.scenes.plausibility import plausible
from pipeline.scenes.raster.read import read_pixels, require_bands
from pipeline.scenes.scene import Scene
from pipeline.simulation.chips.ground import HEAVY, LIGHT, Boxes, LabelledImage, Labels, near_a_vehicle
from pipeline.simulation.chips.instrument import any_noise, observe
from pipeline.storage.untrusted_vectors import read_layer
from pipeline.tiling import Tile, plan
from pipeline.training.detector.settings import LabelSettings, TruckSource
from pipeline.training.spatial_split import block_mask, block_of, hold_out

log = logging.getLogger(__name__)

CLASS_COLUMNS = ("class", "label", "category")
_MIN_SIDE_PX = 3.0
"""Smaller boxes are widened: the detector's anchors don't go below it."""
_MAX_SIDE_PX = 30.0
"""A truck at motorway speed is seen over 3 to 5 px; what is so much longer is not a box of one truck."""


@dataclass(frozen=True)
class LabelledBlocks:
    """The labelled blocks of a scene in memory: 16 bytes a pixel."""

    name: str
    training: tuple[LabelledImage, ...]
    held_out: tuple[LabelledImage, ...]
    held_out_area: gpd.GeoDataFrame
    """The held-out blocks as polygons, in the scene's CRS."""

    @property
    def trucks(self) -> tuple[int, int]:
        """Count the boxes that are learned from, and those that are held out."""
        learned, held_out = (sum(len(one.boxes) for one in part) for part in (self.training, self.held_out))
        return learned, held_out


def read_labelled(
    source: TruckSource, settings: LabelSettings, bands: Sequence[str], seed: int
) -> LabelledBlocks:
    """Return the labelled blocks of a scene; the same are held out whenever the seed is the same.

    Boxes of confidence `low` and `ignore` are ambiguous: nothing is learned there. So are boxes that reach
    into a block from its neighbour. Boxes outside the imagery or on pixels without data are left out, which
    is logged.

    Raises
    ------
    LabelsError
        If the labels are unreadable, hold no box or an unknown class, miss the imagery, hold something else
        than single trucks, or are all in one block.
    TruckscapeError
        As `open_scene` and `read_pixels`.
    """
    scene = plausible(open_scene(source.imagery, source.bands, source.values), source.values.given)
    require_bands(scene, bands)
    boxes, labels, certain = read_boxes(source, scene, settings.truck_classes)
    complete = None
    if source.complete:
        frame = read_polygons(source.complete, "The area that is labelled completely", _crs(scene))
        complete = shapely.union_all(frame.geometry.to_numpy())
    tiles = plan(scene.shape, settings.block_px, 0, 1)
    across = -(-scene.shape[1] // tiles[0].width)
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(np.intp).T
    owner = y // tiles[0].height * across + x // tiles[0].width
    footprints = shapely.box(*np.array([bounds(tile.core, scene.grid.affine) for tile in tiles]).T)
    labelled = np.bincount(owner, minlength=len(tiles)) > 0
    if complete is not None:
        labelled = shapely.intersects(complete, footprints)
    counts = np.bincount(owner[certain], minlength=len(tiles))
    held_out = np.zeros(len(tiles), np.bool_)
    held_out[labelled] = hold_out(counts[labelled, None], settings.held_out, np.random.default_rng((seed, 1)))
    cutter = _Cutter(scene, tuple(bands), boxes, labels, certain, complete, settings.block_px)
    guarded = [block_of(tiles[index]) for index in np.flatnonzero(held_out)]
    grounds: dict[bool, list[LabelledImage]] = {True: [], False: []}
    empty = 0
    for index in np.flatnonzero(labelled):
        tile, kept = tiles[index], bool(held_out[index])
        shape, corner = (tile.height, tile.width), (tile.row, tile.col)
        hidden = block_mask(shape, [] if kept else guarded, settings.guard_px, corner)
        ground, lost = cutter.ground(tile, owner == index, ~hidden)
        grounds[kept].append(ground)
        empty += lost
    if empty:
        log.warning(
            "%d of %d boxes of %s are on pixels without data, left out", empty, len(boxes), source.title
        )
    area = gpd.GeoDataFrame(geometry=footprints[held_out], crs=_crs(scene))
    result = LabelledBlocks(source.title, tuple(grounds[False]), tuple(grounds[True]), area)
    _check_split(result, source, settings)
    return result


def draw_labelled_chip(
    rng: np.random.Generator, blocks: Sequence[LabelledImage], size: int
) -> tuple[LabelledImage, NDArray[np.bool_]]:
    """Return a part of a labelled block as another overpass might show it, and where it has data (H, W).

    Blocks are drawn by how many vehicles they have. The part is turned or mirrored, and gets haze, gain,
    noise, band misregistration and few bits as chips of the simulator do, all of it less than a scene would.
    """
    share = np.array([1.0 + len(block.boxes) for block in blocks])
    block = blocks[int(rng.choice(len(blocks), p=share / share.sum()))]
    part = near_a_vehicle(rng, block, size)
    valid: NDArray[np.bool_] = np.asarray(part.reflectance.any(axis=0))
    return replace(part, reflectance=observe(rng, part.reflectance, any_noise(rng) * 0.3)), valid


def read_boxes(
    source: TruckSource, scene: Scene, truck_classes: Sequence[str] = ("truck",)
) -> tuple[Boxes, Labels, NDArray[np.bool_]]:
    """Return the boxes inside the imagery, (N, 4) in its pixels and at least 3 px wide.

    Also (N,) labels, heavy where the file does not say light, and (N,) which are certain.

    Raises
    ------
    LabelsError
        As `read_labelled`.
    """
    check_classes(source.labels, truck_classes, "labels.truck_classes")
    frame = read_truck_labels(source.labels, _crs(scene))
    if frame.empty:
        raise LabelsError(f"There is nothing to learn from: {source.labels} holds no boxes.")
    bounds = frame.geometry.bounds.to_numpy()
    affine = ~scene.grid.affine
    left, top = affine * (bounds[:, 0], bounds[:, 3])
    right, bottom = affine * (bounds[:, 2], bounds[:, 1])
    boxes = np.stack([left, top, right, bottom], axis=1)
    rows, cols = scene.shape
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centre >= 0) & (centre < [cols, rows])).all(axis=1)
    if not inside.any():
        west, south, east, north = (round(float(value)) for value in scene.grid.boundingbox.bbox)
        raise LabelsError(
            f"None of the {len(boxes)} boxes of {source.labels} lies in {source.imagery}, which covers "
            f"x {west}-{east}, y {south}-{north} ({frame.crs.to_string()[:40]}). Are both of the same place?"
        )
    if not inside.all():
        log.warning(
            "%d of %d boxes of %s lie outside the imagery and are left out",
            *((~inside).sum(), len(boxes), source.labels),
        )
    boxes = boxes[inside]
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    if float(np.median(side)) > _MAX_SIDE_PX:
        raise LabelsError(
            f"A box is drawn around one truck, 30 to 60 m. Those of {source.labels} are "
            f"{10 * float(np.median(side)):.0f} m across (median)."
        )
    half = np.maximum(boxes[:, 2:] - boxes[:, :2], _MIN_SIDE_PX) / 2
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    certain = ~frame["confidence"].isin(IGNORED_CONFIDENCES).to_numpy()[inside]
    if not certain.any():
        raise LabelsError(
            f"Every box of {source.labels} inside the imagery is marked {' or '.join(IGNORED_CONFIDENCES)}: "
            "there is no truck to learn from."
        )
    labels = np.where(is_light(frame)[inside], LIGHT, HEAVY).astype(np.int64)
    return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32), labels, certain


def check_classes(labels: Path, known: Iterable[str], setting: str) -> None:
    """Refuse a class column that holds names which the configuration does not know.

    Raises
    ------
    LabelsError
        Naming the unknown classes and the `setting` they would belong into.
    """
    frame = read_layer(labels, "Truck labels", "polygons", TRUCK_LAYERS)
    column = next((name for name in CLASS_COLUMNS if name in frame), None)
    if column is None:
        return
    names = {str(value).strip() for value in frame[column].dropna()}
    unknown = sorted(names - set(known))
    if unknown:
        raise LabelsError(
            f"Column {column} of {labels} holds {', '.join(unknown[:5])}, which {setting} does not name. "
            f"It names: {', '.join(known)}."
        )


def _check_split(blocks: LabelledBlocks, source: TruckSource, settings: LabelSettings) -> None:
    learned, kept = blocks.trucks
    log.info(
        "%s: %d boxes in %d blocks to learn from, %d in %d blocks held out",
        *(blocks.name, learned, len(blocks.training), kept, len(blocks.held_out)),
    )
    if not learned:
        raise LabelsError(
            f"No box of {source.labels} is left to learn from: none lies on pixels with data outside the "
            "held-out blocks. Give smaller blocks (labels.block_px) or hold out less (labels.held_out)."
        )
    if settings.held_out > 0 and not kept:
        raise LabelsError(
            f"No box of {source.labels} could be held out: all {learned} lie in one block of "
            f"{settings.block_px} px. Give smaller blocks (labels.block_px), label in more places, or do "
            "without evaluation (labels.held_out=0)."
        )


@dataclass(frozen=True)
class _Cutter:
    """A scene, and what is known of the vehicles in it."""

    scene: Scene
    bands: tuple[str, ...]
    boxes: Boxes
    labels: Labels
    certain: NDArray[np.bool_]
    complete: shapely.Geometry | None
    side: int

    def ground(
        self, tile: Tile, own: NDArray[np.bool_], shown: NDArray[np.bool_]
    ) -> tuple[LabelledImage, int]:
        """Return a block with its boxes, 0 where nothing is shown; and how many of its boxes are on no data.

        A block at the edge of the scene is filled up to `side` pixels without data.
        """
        if self.complete is not None:
            affine = self.scene.grid.affine * Affine.translation(tile.col, tile.row)
            shown = shown & geometry_mask([self.complete], shown.shape, affine, invert=True)
        pixels = read_pixels(self.scene, tile.core, self.bands)
        local = self.boxes - np.array([tile.col, tile.row, tile.col, tile.row], np.float32)
        size = np.array([tile.width, tile.height])
        col, row = np.clip((local[:, :2] + local[:, 2:]) / 2, 0, size - 1).astype(np.intp).T
        reaching = (local[:, 2:] > 0).all(axis=1) & (local[:, :2] < size).all(axis=1)
        lost = own & ~pixels.valid[row, col]
        truck = own & self.certain & ~lost & shown[row, col]
        # A box that reaches in from a held-out block is in its guard band, and must not even be ambiguous.
        ambiguous = reaching & ~truck & ~lost & (own | shown[row, col])
        image = np.where(pixels.valid & shown, pixels.reflectance, np.float32(0))
        image = np.pad(image, ((0, 0), (0, self.side - tile.height), (0, self.side - tile.width)))
        return LabelledImage(image, local[truck], self.labels[truck], local[ambiguous]), int(lost.sum())


def _crs(scene: Scene) -> str | None:
    return scene.grid.crs.to_wkt() if scene.grid.crs else None
