"""Export of a simulated scene as a Level-2A product in SAFE layout, with its truth."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import DatasetWriter
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from pipeline.errors import OutputError
from pipeline.scenes.scene import BANDS_10M, BANDS_20M
from pipeline.simulation import product_metadata, truth
from pipeline.simulation.product_metadata import EPSG, Granule
from pipeline.simulation.world import spectra
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.stage import RenderedBlock, Stage
from pipeline.storage.atomic import remove_abandoned, temporary

QUANTIFICATION, OFFSET = 10000, -1000
THICK, THIN, CIRRUS, SHADOWED = 0.6, 0.2, 0.06, 0.35
"""Minimum opacities (or shares of lost sunlight) of cloud and shadow in the SCL."""
_BLOCK = 1024
_LOSSLESS = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}


@dataclass(frozen=True)
class SimulatedProduct:
    """Paths of a simulated product and its truth."""

    safe: Path
    trucks: Path
    """GeoPackage, layer `trucks`."""
    landcover: Path
    """GeoTIFF with the legend of Dynamic World."""
    roads: Path
    """GeoPackage, layer `roads`."""

    @classmethod
    def of(cls, out: Path, granule: Granule) -> SimulatedProduct:
        """Return the paths of a granule in a folder; a date has a folder in the truth."""
        place = out / "truth"
        folder = place / f"{granule.world.season.acquired:%Y-%m-%d}" if granule.world.day else place
        return cls(
            out / granule.product, folder / "trucks.gpkg", folder / "landcover.tif", place / "roads.gpkg"
        )


def write_product(out: Path, stage: Stage) -> SimulatedProduct:
    """Render a stage into `out`, as a `.SAFE` folder and `truth/` that appear when complete.

    On a date, the truth of vehicles and land cover is in `truth/DATE/`; all dates have the same roads.

    Memory: one block and, during the compression of a band, that band (240 MB for a granule).

    Raises
    ------
    OutputError
        If `out` already has a product or truth, or can't be written.
    """
    granule = Granule(stage.world)
    made = SimulatedProduct.of(out, granule)
    for there in (made.safe, made.trucks.parent):
        if there.exists():
            raise OutputError(f"{there} exists already. Choose another folder, or remove it.")
    try:
        with _workshop(out) as work, rasterio.Env(GDAL_PAM_ENABLED="NO"):
            _write_safe(work / granule.product, stage, granule, work)
            (work / "truth").mkdir()
            _write_landcover(work, stage)
            truth.write_vehicles(work / "truth" / made.trucks.name, stage, granule)
            roads = work / "truth" / made.roads.name
            truth.write_roads(roads, Granule(plan_world(granule.size, stage.world.seed)))
            made.trucks.parent.parent.mkdir(exist_ok=True)
            if made.roads.parent != made.trucks.parent:
                roads.replace(made.roads)
            (work / "truth").replace(made.trucks.parent)
            (work / granule.product).replace(made.safe)
    except OSError as error:
        raise OutputError(
            f"Can't write the simulated product to {out}: {error.strerror or error}. Choose another folder."
        ) from error
    return made


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """Yield a temporary folder in `out`, and delete it afterwards; `out`, too, if it is empty."""
    out.mkdir(parents=True, exist_ok=True)
    remove_abandoned(out)
    work = Path(mkdtemp(prefix=temporary(out / "simulate").name, dir=out))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not any(out.iterdir()):
            out.rmdir()


def _write_safe(safe: Path, stage: Stage, granule: Granule, work: Path) -> None:
    for folder in ("R10m", "R20m", "R60m"):
        (safe / granule.folder / "IMG_DATA" / folder).mkdir(parents=True)
    (safe / granule.folder / "QI_DATA").mkdir()
    side = granule.size
    sizes = {10: side, 20: -(-side // 2), 60: -(-side // 6)}
    with ExitStack() as opened:

        def draft(name: str, gsd: int, dtype: str, count: int = 1) -> DatasetWriter:
            return opened.enter_context(_draft(work / f"{name}.tif", sizes[gsd], gsd, granule, dtype, count))

        bands = {band: draft(band, _gsd(band), "uint16") for band in BANDS}
        scl, tci = draft("SCL", 20, "uint8"), draft("TCI", 10, "uint8", 3)
        landcover = draft("landcover", 10, "uint8")
        masks = {gsd: draft(f"DETFOO{gsd}", gsd, "uint8") for gsd in sizes}
        for block in stage.render(BANDS):
            digital = {band: _digital(image) for band, image in zip(BANDS, block.reflectance, strict=True)}
            for band, file in bands.items():
                step = _gsd(band) // 10
                coarse = (
                    _digital(_averaged(block.reflectance[BANDS.index(band)], step))
                    if step > 1
                    else digital[band]
                )
                _put(file, coarse, block.window, step)
            _put(scl, scene_classification(block), block.window, 2)
            for index, band in enumerate(("B04", "B03", "B02"), start=1):
                _put(tci, _true_colour(digital[band]), block.window, 1, index)
            _put(landcover, block.landcover, block.window, 1)
            for gsd, file in masks.items():
                step = gsd // 10
                _put(file, block.detector[step // 2 :: step, step // 2 :: step], block.window, step)
    for band in BANDS:
        gsd = _gsd(band)
        _compress(work / f"{band}.tif", safe / granule.image(band, gsd))
        mask = safe / granule.folder / "QI_DATA" / f"MSK_DETFOO_{band}.jp2"
        _compress(work / f"DETFOO{gsd}.tif", mask)
    _compress(work / "SCL.tif", safe / granule.image("SCL", 20))
    _compress(work / "TCI.tif", safe / granule.image("TCI", 10))
    product_metadata.write(safe, granule)


def _gsd(band: str) -> int:
    return 10 if band in BANDS_10M else 20 if band in BANDS_20M else 60


def _draft(path: Path, side: int, gsd: int, granule: Granule, dtype: str, count: int) -> DatasetWriter:
    """Create an uncompressed GeoTIFF to collect blocks in; JPEG 2000 can only be written at once."""
    return rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=count, dtype=dtype, crs=f"EPSG:{EPSG}",
        transform=granule.affine(gsd), tiled=True, blockxsize=256, blockysize=256,
    )  # fmt: skip


def _put(file: DatasetWriter, values: NDArray[np.generic], window: Window, step: int, index: int = 1) -> None:
    """Write a block into a draft of `step` times the pixel, clipped at the draft's edge."""
    row, col = int(window.row_off) // step, int(window.col_off) // step
    height, width = min(values.shape[0], file.height - row), min(values.shape[1], file.width - col)
    file.write(values[:height, :width], index, window=Window(col, row, width, height))


def _compress(source: Path, target: Path) -> None:
    copy_raster(source, target, driver="JP2OpenJPEG", BLOCKXSIZE=_BLOCK, BLOCKYSIZE=_BLOCK, **_LOSSLESS)


def _digital(reflectance: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return digital numbers, at least 1 because 0 is nodata."""
    return np.clip(np.rint(reflectance * QUANTIFICATION) - OFFSET, 1, 65534).astype(np.uint16)


def _true_colour(digital: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return np.clip((digital.astype(np.float32) + OFFSET) * (255 / 3558), 1, 255).astype(np.uint8)


def _averaged(fine: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    height, width = fine.shape[0] // step, fine.shape[1] // step
    return np.asarray(fine.reshape(height, step, width, step).mean(axis=(1, 3)), np.float32)


def scene_classification(block: RenderedBlock) -> NDArray[np.uint8]:
    """Return SCL at 20 m, (H / 2, W / 2), of a block with all bands, as Sen2Cor would classify it."""
    red, infrared = (_averaged(block.reflectance[BANDS.index(band)], 2) for band in ("B04", "B08"))
    ndvi = (infrared - red) / np.maximum(infrared + red, 1e-3)
    scl = np.where(ndvi > 0.42, 4, 5).astype(np.uint8)
    scl[_averaged((block.landcover == spectra.WATER).astype(np.float32), 2) > 0.5] = 6
    sky = block.sky
    cloud = _averaged(sky.cloud, 2)
    scl[_averaged(sky.shadow, 2) > SHADOWED] = 3
    scl[_averaged(sky.cirrus, 2) > CIRRUS] = 10
    scl[cloud > THIN] = 8
    scl[cloud > THICK] = 9
    return scl


_COLOURS = ("419BDF", "397D49", "88B053", "7A87C6", "E49635", "DFC35A", "C4281B", "A59B8F", "B39FE1")


def _write_landcover(work: Path, stage: Stage) -> None:
    with rasterio.open(work / "landcover.tif") as draft:
        profile = draft.profile | {"compress": "deflate", "nodata": 255}
        with rasterio.open(work / "truth" / "landcover.tif", "w", **profile) as file:
            for _, window in draft.block_windows():
                file.write(draft.read(1, window=window), 1, window=window)
            file.write_colormap(1, {i: tuple(bytes.fromhex(c)) for i, c in enumerate(_COLOURS)})
            file.set_band_description(1, "Dynamic World class")
