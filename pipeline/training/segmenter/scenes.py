"""Labelled scenes and augmented crops for the land-cover network.

Labels are of three kinds: pseudo-labels (the Dynamic World model run on a scene), land use of OpenStreetMap,
which is trusted where the two disagree, and the simulator's truth. Square blocks of every real scene are
held out: no label in them, nor within a guard band around them, is ever trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox, geobox_union_conservative
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, zoom
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.errors import TrainingError
from pipeline.evaluation.landcover.labels import UNLABELLED, read_landcover_labels
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.models.normalise import normalise
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.readers.band_folder import open_band_folder
from pipeline.scenes.readers.geotiff import open_geotiff
from pipeline.scenes.readers.naming import band_name, native_gsd
from pipeline.scenes.scene import BANDS_20M, BandSource, Scene
from pipeline.simulation.simulate import simulate_scene

PSEUDO_LABEL = "dynamicworld_pseudolabel.tif"
LAND_USE = "osm_landuse_west.gpkg"

VALUES = {item.name: item.value for item in DYNAMIC_WORLD}

TRUST: Mapping[str, Mapping[str, float]] = {
    # Dynamic World reads the bright sand and surf of this coast as snow; there was none.
    "virginia": {"snow and ice": 0.0},
    "brandenburg": {},
    # The model expects L1C: on these L2A patches green crops read as grass and harvested ones as bare.
    "bigearthnet": {
        "grass": 0.3,
        "crops": 0.5,
        "shrub and scrub": 0.3,
        "flooded vegetation": 0.0,
        "bare": 0.0,
        "snow and ice": 0.0,
    },
}
"""How much the pseudo-label of a class counts in a scene, where not 1."""

PATH_RADIANCE = {
    "B01": 1.2, "B02": 1.0, "B03": 0.6, "B04": 0.35, "B05": 0.28, "B06": 0.22, "B07": 0.18, "B08": 0.13,
    "B8A": 0.1, "B09": 0.05, "B11": 0.02, "B12": 0.01,
}  # fmt: skip
"""What a clear atmosphere adds to the reflectance, relative to B02 (about wavelength to the power -4)."""

CLOUD_REFLECTANCE = {
    "B01": 1.0, "B02": 1.0, "B03": 0.98, "B04": 0.97, "B05": 1.0, "B06": 1.02, "B07": 1.03, "B08": 1.03,
    "B8A": 1.04, "B09": 0.9, "B11": 0.62, "B12": 0.48,
}  # fmt: skip
"""Of a water cloud, relative to B02: ice and water absorb in the short-wave infrared."""

CLOUDED = 0.3
"""Opacity from which the simulator's truth can't be seen."""

Block = tuple[int, int, int, int]
"""First row, first column, rows, columns."""


@dataclass(frozen=True)
class LabelledScene:
    """Pixels and labels on one 10 m grid, held in memory: about 24 bytes a pixel with four bands."""

    name: str
    kind: str
    """Scenes of a kind share its part of the crops."""
    reflectance: NDArray[np.float32]
    """(C, H, W), 0-1."""
    valid: NDArray[np.bool_]
    """(H, W)."""
    classes: NDArray[np.uint8]
    """(H, W), what is learnt."""
    weights: NDArray[np.float32]
    """(H, W), how much a pixel counts in the loss; 0 in held-out blocks and their guard bands."""
    pseudo: NDArray[np.uint8]
    """(H, W), the pseudo-label, or the simulator's truth; `UNLABELLED` where there is none."""
    land_use: NDArray[np.uint8] | None = None
    """(H, W), classes of OpenStreetMap's polygons."""
    held_out: tuple[Block, ...] = ()
    hazy: bool = True
    """Whether the atmosphere is still in it (L1C)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, cols = self.valid.shape
        return rows, cols

    @property
    def held_out_mask(self) -> NDArray[np.bool_]:
        """(H, W), True in the held-out blocks."""
        mask = np.zeros(self.shape, bool)
        for top, left, rows, cols in self.held_out:
            mask[top : top + rows, left : left + cols] = True
        return mask

    @cached_property
    def centres(self) -> list[NDArray[np.intp]]:
        """Flat indices of some pixels that count, for each class that has any."""
        rng = np.random.default_rng(0)
        counts = (self.weights > 0) & self.valid
        values = np.unique(self.classes[counts])
        places = (np.flatnonzero(counts & (self.classes == value)) for value in values)
        return [rng.choice(place, min(20_000, len(place)), replace=False) for place in places]


def held_out_blocks(shape: tuple[int, int], side: int, fold: int = 1, folds: int = 4) -> tuple[Block, ...]:
    """Every `folds`th block of a grid of `side` x `side` px blocks, a knight's move from one to the next.

    The blocks of all folds together are the scene, none twice.
    """
    return tuple(
        (top, left, min(side, shape[0] - top), min(side, shape[1] - left))
        for row, top in enumerate(range(0, shape[0], side))
        for col, left in enumerate(range(0, shape[1], side))
        if (2 * row + col) % folds == fold % folds
    )


def hold_out(scene: LabelledScene, blocks: tuple[Block, ...], guard_px: int) -> LabelledScene:
    """The scene with no weight in `blocks` and within `guard_px` of them."""
    scene = replace(scene, held_out=blocks)
    return _without(scene, scene.held_out_mask, guard_px)


def _without(scene: LabelledScene, region: NDArray[np.bool_], guard_px: int) -> LabelledScene:
    """The scene with no weight in a region and within `guard_px` of it."""
    if guard_px and region.any():
        region = maximum_filter(region, 2 * guard_px + 1)
    return replace(scene, weights=np.where(region, np.float32(0), scene.weights))


def without_land_use(scene: LabelledScene, guard_px: int) -> LabelledScene:
    """The scene with pseudo-labels only, and none of them in the rectangle that holds land use."""
    if scene.land_use is None:
        return scene
    region = np.zeros(scene.shape, bool)
    rows, cols = np.nonzero(scene.land_use != UNLABELLED)
    if len(rows):
        region[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] = True
    pseudo_only = replace(scene, classes=scene.pseudo, weights=trust(scene.kind)[scene.pseudo])
    return _without(hold_out(pseudo_only, scene.held_out, guard_px), region, guard_px)


def read_scene(folder: Path, bands: Sequence[str], land_use_weight: float) -> LabelledScene:
    """The labelled scene in a folder of band files with its pseudo-label and, where there is one, land use.

    Nothing is held out yet.

    Land use counts `land_use_weight` times, except in pixels next to another polygon or to none: there it
    only takes the weight off a pseudo-label that says something else.

    Raises
    ------
    TrainingError
        If there is no pseudo-label; and what `open_band_folder`, `Scene.read` and the labels raise.
    """
    if not (folder / PSEUDO_LABEL).is_file():
        raise TrainingError(f"A training scene needs labels: {folder} holds no {PSEUDO_LABEL}.")
    scene = open_band_folder(folder)
    whole = Window(0, 0, scene.shape[1], scene.shape[0])
    pixels = read_pixels(scene, whole, bands)
    pseudo = read_landcover_labels(folder / PSEUDO_LABEL, scene.grid).read(whole)
    classes, weights, land_use = pseudo, trust(folder.name)[pseudo], None
    if (folder / LAND_USE).is_file():
        land_use = read_landcover_labels(folder / LAND_USE, scene.grid).read(whole)
        inside = (minimum_filter(land_use, 3) == land_use) & (maximum_filter(land_use, 3) == land_use)
        sure = inside & (land_use != UNLABELLED)
        doubtful = ~sure & (land_use != UNLABELLED) & (land_use != pseudo)
        classes = np.where(sure, land_use, pseudo)
        weights = np.where(sure, np.float32(land_use_weight), np.where(doubtful, np.float32(0), weights))
    return LabelledScene(
        name=folder.name,
        kind=folder.name,
        reflectance=pixels.reflectance,
        valid=pixels.valid,
        classes=classes,
        weights=weights,
        pseudo=pseudo,
        land_use=land_use,
        hazy=scene.level != "L2A",
    )


def trust(kind: str) -> NDArray[np.float32]:
    """(256,) weights by class value of the pseudo-labels of a kind of scene; 0 for what is no class."""
    weights = np.zeros(256, np.float32)
    weights[: len(DYNAMIC_WORLD)] = 1
    for name, weight in TRUST.get(kind, {}).items():
        weights[VALUES[name]] = weight
    return weights


PATCHES = (
    ("26_57", "27_55", "27_56", "27_57", "27_58", "27_59"),
    ("33_69", "33_70", "34_69", "34_70", "34_71", "35_69"),
)
"""BigEarthNet patches with pseudo-labels, by neighbourhood."""
HELD_OUT_PATCHES = ("27_57", "33_69", "35_69")


def read_patches(folder: Path, bands: Sequence[str], guard_px: int) -> list[LabelledScene]:
    """The BigEarthNet patches (10 m and 20 m bands), neighbours put together, three of them held out."""
    return [_mosaic(folder, names, bands, guard_px) for names in PATCHES]


def _patch(folder: Path, name: str) -> Scene:
    """A patch with the bands of its 10 m and 20 m files."""
    (fine,), (coarse,) = (folder.glob(f"*_{name}_{gsd}m.tif") for gsd in (10, 20))
    scene = open_geotiff(fine)
    with open_raster(str(coarse), "The patch") as file:
        names = [band_name(description) or "" for description in file.descriptions]
    further = {
        band: BandSource(band, str(coarse), index, gsd=native_gsd(band))
        for index, band in enumerate(names, start=1)
        if band in BANDS_20M
    }
    return replace(scene, bands={**further, **scene.bands})


def _mosaic(folder: Path, names: Sequence[str], bands: Sequence[str], guard_px: int) -> LabelledScene:
    scenes = {name: _patch(folder, name) for name in names}
    grid: GeoBox = geobox_union_conservative([scene.grid for scene in scenes.values()])
    shape = (int(grid.height), int(grid.width))
    reflectance = np.zeros((len(bands), *shape), np.float32)
    valid = np.zeros(shape, bool)
    pseudo = np.full(shape, UNLABELLED, np.uint8)
    held_out = []
    for name, scene in scenes.items():
        left, top = (round(at) for at in ~grid.affine * (scene.grid.affine.c, scene.grid.affine.f))
        height, width = scene.shape
        here = (slice(top, top + height), slice(left, left + width))
        pixels = read_pixels(scene, Window(0, 0, width, height), bands)
        reflectance[:, *here], valid[here] = pixels.reflectance, pixels.valid
        (labels,) = folder.glob(f"*_{name}_dynamicworld.tif")
        pseudo[here] = read_landcover_labels(labels, scene.grid).read(Window(0, 0, width, height))
        if name in HELD_OUT_PATCHES:
            held_out.append((top, left, height, width))
    mosaic = LabelledScene(
        name=f"bigearthnet-{names[0]}",
        kind="bigearthnet",
        reflectance=reflectance,
        valid=valid,
        classes=pseudo,
        weights=trust("bigearthnet")[pseudo],
        pseudo=pseudo,
        hazy=False,
    )
    return hold_out(mosaic, tuple(held_out), guard_px)


def simulated_scene(size: int, seed: int, bands: Sequence[str], held_out: bool = False) -> LabelledScene:
    """A simulated L2A scene with its truth, held out as a whole or not at all; clouds are not learnt."""
    scene = simulate_scene(size, seed, tuple(bands))
    labelled = LabelledScene(
        name=f"simulated-{seed}",
        kind="simulated",
        reflectance=scene.reflectance,
        valid=np.ones((size, size), bool),
        classes=scene.landcover,
        weights=trust("simulated")[scene.landcover] * (scene.cloud < CLOUDED),
        pseudo=np.where(scene.cloud < CLOUDED, scene.landcover, np.uint8(UNLABELLED)),
        hazy=False,
    )
    return hold_out(labelled, ((0, 0, size, size),) if held_out else (), 0)


@dataclass(frozen=True)
class Crop:
    """A square of a scene: reflectance (C, H, W), and validity, classes and label weights (H, W)."""

    reflectance: NDArray[np.float32]
    valid: NDArray[np.bool_]
    classes: NDArray[np.uint8]
    weights: NDArray[np.float32]


def cut(scene: LabelledScene, row: int, col: int, side: int) -> Crop:
    """The `side` x `side` px crop whose upper left pixel is (row, col); beyond the scene there is no data."""
    height, width = scene.shape
    top, left = max(0, row), max(0, col)
    source = (slice(top, max(top, min(height, row + side))), slice(left, max(left, min(width, col + side))))
    target = (
        slice(top - row, source[0].stop - row),
        slice(left - col, source[1].stop - col),
    )
    crop = Crop(
        np.zeros((len(scene.reflectance), side, side), np.float32),
        np.zeros((side, side), bool),
        np.full((side, side), UNLABELLED, np.uint8),
        np.zeros((side, side), np.float32),
    )
    crop.reflectance[:, *target] = scene.reflectance[:, *source]
    crop.valid[target] = scene.valid[source]
    crop.classes[target] = scene.classes[source]
    crop.weights[target] = scene.weights[source]
    return crop


def augment(crop: Crop, bands: Sequence[str], hazy: bool, rng: np.random.Generator) -> Crop:
    """The crop turned, and in the light, weather, atmosphere, sharpness, noise and encoding of another scene.

    Most crops change a little. A third change much: then a `hazy` one (L1C) mostly loses path radiance and
    another mostly gains it, so that the network meets both levels with either's labels.
    """
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))

    def turn(array: NDArray) -> NDArray:
        turned = np.rot90(array, turns, axes=(-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirrored else turned)

    image, valid = turn(crop.reflectance), turn(crop.valid)
    if rng.random() < 0.3:
        haze = rng.uniform(-0.08, 0.03) if hazy else rng.uniform(-0.01, 0.08)
        gain = rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, (len(bands), 1, 1))
    else:
        haze = rng.uniform(-0.008, 0.008)
        gain = rng.uniform(0.93, 1.07) * rng.uniform(0.98, 1.02, (len(bands), 1, 1))
    path = np.array([PATH_RADIANCE[band] for band in bands], np.float32)[:, None, None]
    image = image * gain.astype(np.float32) + np.float32(haze) * path
    if rng.random() < 0.15:
        image = _under_clouds(image, bands, rng)
    if rng.random() < 0.2:
        sigma = rng.uniform(0.3, 0.8)
        image = gaussian_filter(image, (0, sigma, sigma))
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(0, 0.005), image.shape).astype(np.float32)
    if rng.random() < 0.15:
        image = np.round(image * 255) / 255
    if rng.random() < 0.1:
        valid = valid & _swath(valid.shape[0], rng)
    return Crop(np.maximum(image, 1e-4).astype(np.float32), valid, turn(crop.classes), turn(crop.weights))


def _under_clouds(
    image: NDArray[np.float32], bands: Sequence[str], rng: np.random.Generator
) -> NDArray[np.float32]:
    """The image (C, S, S) under thin cloud and in the shadow of thicker ones; what it shows stays the same.

    Linear mixing with a cloud's own reflectance; in shadow the sky still lights the blue bands best.
    """

    def patches(strongest: float) -> NDArray[np.float32]:
        coarse = int(rng.integers(3, 7))
        smooth = zoom(rng.random((coarse, coarse)), image.shape[-1] / coarse, order=1)
        from_there = rng.uniform(0.2, 0.7)
        field: NDArray[np.float32] = np.clip((smooth - from_there) / (1 - from_there), 0, 1).astype(
            np.float32
        )
        return field * np.float32(rng.uniform(0.2, strongest))

    def of_bands(values: Mapping[str, float]) -> NDArray[np.float32]:
        return np.array([values[band] for band in bands], np.float32)[:, None, None]

    if rng.random() < 0.6:
        image = image * (1 - patches(0.8) * (1 - 0.3 * of_bands(PATH_RADIANCE)))
    if rng.random() < 0.6:
        opacity, cloud = patches(0.9), np.float32(rng.uniform(0.3, 0.7)) * of_bands(CLOUD_REFLECTANCE)
        image = image * (1 - opacity) + cloud * opacity
    return image


def _swath(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(side, side), True on one side of a straight edge of data."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.45) * side
    rows, cols = np.mgrid[:side, :side] - side / 2
    inside: NDArray[np.bool_] = rows * np.sin(angle) + cols * np.cos(angle) < distance
    return inside


class Crops(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Augmented training crops without end; crop `i` is the same whenever the seed is.

    Half of the crops show a pixel of a class drawn evenly, so that small classes are seen. An item is the
    normalised image (C, H, W), the classes (H, W) and the label weights (H, W). A share `band_dropout` of
    the crops lacks the optional bands, as scenes do that don't have them.
    """

    def __init__(
        self,
        scenes: Sequence[LabelledScene],
        shares: Sequence[float],
        card: Card,
        side: int,
        seed: int,
        band_dropout: float = 0.0,
    ) -> None:
        self.scenes, self.card, self.side, self.seed = list(scenes), card, side, seed
        self.band_dropout = band_dropout
        self.shares = np.asarray(shares, float) / sum(shares)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        scene = self.scenes[int(rng.choice(len(self.scenes), p=self.shares))]
        by_class = scene.centres
        any_class = rng.random() < 0.5
        places = np.concatenate(by_class) if any_class else by_class[int(rng.integers(len(by_class)))]
        row, col = divmod(int(rng.choice(places)), scene.shape[1])
        # The pixel lies in the middle half, where the crop's border is far.
        down, right = rng.integers(self.side // 4, 3 * self.side // 4, 2)
        crop = cut(scene, row - int(down), col - int(right), self.side)
        crop = augment(crop, self.card.bands, scene.hazy, rng)
        weights = np.where(crop.valid, crop.weights, np.float32(0))
        classes = np.where(weights > 0, crop.classes, 0).astype(np.int64)
        image = normalise(crop.reflectance, crop.valid, self.card)
        if self.card.optional_bands and rng.random() < self.band_dropout:
            image[[band in self.card.optional_bands for band in self.card.bands]] = 0
        return image, torch.from_numpy(classes), torch.from_numpy(weights)


class HeldOutCrops(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Crops of held-out blocks as they are, to see how a training does; items are as those of `Crops`.

    There are at most `limit` of them, spread over all blocks. Only labels inside the blocks count, land use
    before pseudo-labels.
    """

    def __init__(self, scenes: Sequence[LabelledScene], card: Card, side: int, limit: int = 12) -> None:
        self.card, self.side = card, side
        places = [(scene, block) for scene in scenes for block in scene.held_out]
        every = max(1, -(-len(places) // limit))
        self.places = places[::every]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        scene, (top, left, rows, cols) = self.places[index]
        truth = scene.pseudo
        if scene.land_use is not None:
            truth = np.where(scene.land_use != UNLABELLED, scene.land_use, truth)
        there = scene.held_out_mask & (truth < len(self.card.classes))
        shown = replace(scene, classes=truth, weights=there.astype(np.float32))
        crop = cut(shown, top + (rows - self.side) // 2, left + (cols - self.side) // 2, self.side)
        weights = np.where(crop.valid, crop.weights, np.float32(0))
        classes = np.where(weights > 0, crop.classes, 0).astype(np.int64)
        image = normalise(crop.reflectance, crop.valid, self.card)
        return image, torch.from_numpy(classes), torch.from_numpy(weights)
