"""Imagery with truck boxes on disk, cut into blocks of which some are held out.

Neighbouring pixels are alike, so what is held out is whole blocks, never pixels or boxes at random. Of a
held-out block and a strip around it nothing is shown in training: neither a pixel nor a label.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import Field
from rasterio.features import geometry_mask

from pipeline.config import Settings
from pipeline.errors import LabelsError
from pipeline.evaluation.labels import COUNT_NEITHER_WAY, read_polygons, read_truck_labels
from pipeline.simulation.chips.chip import Chip
from pipeline.simulation.chips.ground import Boxes, Ground, near_a_truck
from pipeline.simulation.chips.instrument import observe
from pipeline.simulation.chips.palette import any_world

if TYPE_CHECKING:
    from pipeline.training.detector.imagery import PixelRectangle, SceneImagery

log = logging.getLogger(__name__)

CLASS_COLUMNS = ("class", "label", "category")
_MIN_SIDE_PX = 3.0
"""Smaller boxes are widened: the detector's anchors don't go below it."""
_MAX_SIDE_PX = 30.0
"""A truck at motorway speed is seen over 3 to 5 px; what is so much longer is not a box of one truck."""


class LabelledSource(Settings):
    """A scene and the boxes of its trucks."""

    imagery: str = Field(description="a .SAFE folder or zip, a folder of band files, a GeoTIFF, a STAC item")
    labels: Path = Field(description="boxes of trucks; column confidence: high, medium, low or ignore")
    bands: tuple[str, ...] | None = Field(None, description="names of a GeoTIFF's bands, where it has none")
    complete: Path | None = Field(
        None,
        description="polygons in which every truck is labelled; without them, blocks that hold a box count "
        "as labelled, and nothing else is shown",
    )
    name: str | None = Field(None, description="for the card; the imagery's name when not set")
    licence: str = Field("not stated", description="of imagery and labels, for the card")


class LabelSettings(Settings):
    """How labels are read and split."""

    block_px: int = Field(128, ge=64, multiple_of=4, description="side of the blocks, in pixels")
    held_out: float = Field(0.25, ge=0, le=0.9, description="share of the boxes that is kept for evaluation")
    guard_px: int = Field(8, ge=0, description="strip around held-out blocks that is not shown either")
    truck_classes: tuple[str, ...] = Field(
        ("truck",), description="what is a truck where the labels have a column class"
    )


@dataclass(frozen=True)
class LabelledBlocks:
    """A labelled scene in memory, as blocks of `Ground`: 16 bytes a pixel of the blocks that are labelled."""

    name: str
    training: tuple[Ground, ...]
    held_out: tuple[Ground, ...]
    held_out_area: gpd.GeoDataFrame
    """The held-out blocks as polygons, in the scene's CRS."""

    @property
    def trucks(self) -> tuple[int, int]:
        """How many boxes are learnt from, and how many are held out."""
        learnt, held_out = (sum(len(one.trucks) for one in part) for part in (self.training, self.held_out))
        return learnt, held_out


def read_labelled(
    source: LabelledSource, settings: LabelSettings, bands: Sequence[str], seed: int
) -> LabelledBlocks:
    """The labelled blocks of a scene; the same are held out whenever the seed is the same.

    Boxes of confidence `low` and `ignore` are doubtful: nothing is learnt there. So are boxes that reach into
    a block from its neighbour. Boxes outside the imagery or on pixels without data are left out, which is
    logged.

    Raises
    ------
    LabelsError
        If the labels are unreadable, hold no box or an unknown class, miss the imagery, hold something else
        than single trucks, or all lie in one block.
    TruckscapeError
        Whatever opening the imagery may raise.
    """
    from pipeline.training.detector.imagery import SceneImagery  # torchgeo takes seconds to load

    imagery = SceneImagery(source.imagery, bands, source.bands)
    boxes, firm = read_boxes(source, imagery, settings.truck_classes)
    blocks = np.array(imagery.blocks(settings.block_px))
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    owned = np.logical_and.reduce(
        (centre[:, None] >= blocks[:, :2]) & (centre[:, None] < blocks[:, 2:]), axis=2
    )
    labelled: NDArray[np.bool_] = owned.sum(axis=0) > 0
    complete = _polygons(source.complete, imagery)
    if complete is not None:
        labelled = np.asarray(shapely.intersects(complete, shapely.box(*_on_map(blocks, imagery).T)))
    held_out = _held_out(settings.held_out, owned[firm].sum(axis=0), labelled, seed)
    guards = blocks[held_out] + settings.guard_px * np.array([-1, -1, 1, 1])
    grounds: dict[bool, list[Ground]] = {True: [], False: []}
    empty = 0
    for index in np.flatnonzero(labelled):
        shown = _shown(blocks[index], [] if held_out[index] else guards)
        if complete is not None:
            shown &= _inside(complete, blocks[index], imagery)
        ground, lost = _ground(imagery, blocks[index], shown, boxes, firm, owned[:, index])
        grounds[bool(held_out[index])].append(ground)
        empty += lost
    name = source.name or Path(source.imagery).name
    if empty:
        log.warning(
            "%d of %d boxes of %s lie on pixels without data and are left out", empty, len(boxes), name
        )
    area = gpd.GeoDataFrame(
        geometry=shapely.box(*_on_map(blocks[held_out], imagery).T), crs=imagery.index.crs
    )
    result = LabelledBlocks(name, tuple(grounds[False]), tuple(grounds[True]), area)
    _check_split(result, source, settings)
    learnt, kept = result.trucks
    log.info(
        "%s: %d boxes in %d blocks to learn from, %d in %d blocks held out",
        *(name, learnt, len(result.training), kept, len(result.held_out)),
    )
    return result


def draw_labelled_chip(
    rng: np.random.Generator, blocks: Sequence[Ground], size: int
) -> tuple[Chip, NDArray[np.bool_]]:
    """A part of a labelled block as another overpass might show it, and where it has data (H, W).

    Blocks are drawn by how many trucks they have. The part is turned or mirrored, and gets haze, gain, noise,
    band misregistration and few bits as chips of the simulator do, all of it less than a scene would.
    """
    share = np.array([1.0 + len(block.trucks) for block in blocks])
    block = blocks[int(rng.choice(len(blocks), p=share / share.sum()))]
    part = near_a_truck(rng, block, size)
    valid: NDArray[np.bool_] = np.asarray(part.reflectance.any(axis=0))
    image = observe(rng, part.reflectance, any_world(rng).noise * 0.3)
    return Chip(image, part.trucks, part.doubtful), valid


def read_boxes(
    source: LabelledSource, imagery: SceneImagery, truck_classes: Sequence[str] = ("truck",)
) -> tuple[Boxes, NDArray[np.bool_]]:
    """(N, 4) boxes inside the imagery, in its pixels and at least 3 px wide, and which of them are certain.

    Raises
    ------
    LabelsError
        As `read_labelled`.
    """
    crs = imagery.index.crs
    check_classes(source.labels, truck_classes, "labels.truck_classes")
    frame = read_truck_labels(source.labels, crs)
    if frame.empty:
        raise LabelsError(f"There is nothing to learn from: {source.labels} holds no boxes.")
    bounds = frame.geometry.bounds.to_numpy()
    affine = ~imagery.scene.grid.affine
    left, top = affine * (bounds[:, 0], bounds[:, 3])
    right, bottom = affine * (bounds[:, 2], bounds[:, 1])
    boxes = np.stack([left, top, right, bottom], axis=1)
    rows, cols = imagery.scene.shape
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centre >= 0) & (centre < [cols, rows])).all(axis=1)
    if not inside.any():
        west, south, east, north = (round(float(value)) for value in imagery.index.total_bounds)
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
    firm = ~frame["confidence"].isin(COUNT_NEITHER_WAY).to_numpy()[inside]
    if not firm.any():
        raise LabelsError(
            f"Every box of {source.labels} inside the imagery is marked {' or '.join(COUNT_NEITHER_WAY)}: "
            "there is no truck to learn from."
        )
    return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32), firm


def check_classes(labels: Path, known: Iterable[str], setting: str) -> None:
    """Refuse a class column that holds names which the configuration does not know.

    Raises
    ------
    LabelsError
        Naming the unknown classes and the `setting` they would belong into.
    """
    frame = read_polygons(labels, "Labels")
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


def _held_out(
    share: float, firm: NDArray[np.intp], labelled: NDArray[np.bool_], seed: int
) -> NDArray[np.bool_]:
    """(B,) which blocks are held out: in random order until they hold the share of the certain boxes.

    A block that would take them far beyond it is passed over, unless there are only such.
    """
    held_out = np.zeros(len(firm), np.bool_)
    if share == 0:
        return held_out
    rng = np.random.default_rng((seed, 1))
    wanted = share * firm[labelled].sum()
    positive = rng.permutation(np.flatnonzero(labelled & (firm > 0)))
    for index in positive[:-1]:  # the last one is always learnt from
        if firm[held_out].sum() < wanted and firm[held_out].sum() + firm[index] <= 1.5 * wanted:
            held_out[index] = True
    if len(positive) > 1 and not held_out.any():
        held_out[positive[np.argmin(firm[positive])]] = True
    rest = np.flatnonzero(labelled & (firm == 0))
    held_out[rng.permutation(rest)[: round(share * len(rest))]] = True
    return held_out


def _check_split(blocks: LabelledBlocks, source: LabelledSource, settings: LabelSettings) -> None:
    learnt, kept = blocks.trucks
    if not learnt:
        raise LabelsError(
            f"No box of {source.labels} is left to learn from: none lies on pixels with data outside the "
            "held-out blocks. Give smaller blocks (labels.block_px) or hold out less (labels.held_out)."
        )
    if settings.held_out > 0 and not kept:
        raise LabelsError(
            f"No box of {source.labels} could be held out: all {learnt} lie in one block of "
            f"{settings.block_px} px. Give smaller blocks (labels.block_px), label in more places, or do "
            "without evaluation (labels.held_out=0)."
        )


def _shown(block: NDArray[np.intp], guards: Sequence[NDArray[np.intp]]) -> NDArray[np.bool_]:
    """(H, W) of a block: False where a guard covers it."""
    left, top, right, bottom = block
    shown = np.ones((bottom - top, right - left), np.bool_)
    for first_col, first_row, end_col, end_row in guards:
        rows = slice(max(0, first_row - top), max(0, end_row - top))
        shown[rows, max(0, first_col - left) : max(0, end_col - left)] = False
    return shown


def _ground(
    imagery: SceneImagery,
    block: PixelRectangle,
    shown: NDArray[np.bool_],
    boxes: Boxes,
    firm: NDArray[np.bool_],
    own: NDArray[np.bool_],
) -> tuple[Ground, int]:
    """A block with its boxes, 0 where nothing is shown; and how many of its boxes lie on no data."""
    sample = imagery.read(block)
    image, has_data = sample["image"].numpy(), sample["valid"].numpy()
    local = boxes - np.array([*block[:2], *block[:2]], np.float32)
    col, row = np.clip((local[:, :2] + local[:, 2:]) / 2, 0, len(shown) - 1).astype(np.intp).T
    reaching = (local[:, 2:] > 0).all(axis=1) & (local[:, :2] < len(shown)).all(axis=1)
    lost = own & ~has_data[row, col]
    truck = own & firm & ~lost & shown[row, col]
    # What reaches in from a held-out block lies in the guard, and not even that it is there is used.
    doubtful = reaching & ~truck & ~lost & (own | shown[row, col])
    image = np.where(has_data & shown, image, np.float32(0))
    return Ground(image, local[truck], local[doubtful]), int(lost.sum())


def _polygons(path: Path | None, imagery: SceneImagery) -> shapely.Geometry | None:
    if path is None:
        return None
    frame = read_polygons(path, "The area that is labelled completely", imagery.index.crs)
    return shapely.union_all(frame.geometry.to_numpy())


def _inside(area: shapely.Geometry, block: PixelRectangle, imagery: SceneImagery) -> NDArray[np.bool_]:
    left, top, right, bottom = (int(value) for value in block)
    affine = imagery.scene.grid.affine
    inside: NDArray[np.bool_] = geometry_mask(
        [area], (bottom - top, right - left), affine * affine.translation(left, top), invert=True
    )
    return inside


def _on_map(blocks: NDArray[np.intp], imagery: SceneImagery) -> NDArray[np.float64]:
    """(B, 4) map bounds of pixel rectangles."""
    affine = imagery.scene.grid.affine
    left, top, right, bottom = blocks.reshape(-1, 4).T
    return np.stack(
        [
            affine.c + affine.a * left,
            affine.f + affine.e * bottom,
            affine.c + affine.a * right,
            affine.f + affine.e * top,
        ],
        axis=1,
    )
