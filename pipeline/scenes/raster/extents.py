"""A check that the rasters of a scene lie where its grid is: one of another tile would be empty."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rasterio.crs import CRS

from pipeline.errors import GeoreferenceError
from pipeline.input_warnings import warn
from pipeline.scenes.raster.blocks import Raster, raster_of
from pipeline.scenes.raster.tiff import tiff_of
from pipeline.scenes.scene import BandSource, Scene

_LEAST_SHARED = 0.5
"""Share of the grid that a band must cover: exports may cut bands a little differently."""


def check_extents(scene: Scene, without: Collection[str] = ()) -> None:
    """Compare place, size and CRS of each band, SCL and detector footprint with the grid of a scene.

    Opens their headers, which readers of pixels do not open again. Warns if a band that is not of a product
    covers a part of the grid only, or lacks blocks.

    Raises
    ------
    GeoreferenceError
        If a raster is in another CRS, covers less than half of the grid, or, in a product, does not cover it
        to a pixel.
    CorruptImageError
        If one can't be opened.
    """
    sources = [source for name, source in scene.bands.items() if name not in without]
    if scene.scl:
        sources.append(scene.scl)
    for source in sources:
        _check(scene, source)
    _warn_of_missing_blocks(sources)
    if scene.msi and scene.msi.footprint:
        _check(scene, BandSource("MSK_DETFOO_B02", scene.msi.footprint, scale=1.0))


def _warn_of_missing_blocks(sources: Iterable[BandSource]) -> None:
    """Warn of local GeoTIFFs that lack blocks, as sparse files may, if no nodata value explains them."""
    lacking: dict[str, list[str]] = {}
    for source in sources:
        raster = raster_of(source)
        tiff = tiff_of(raster.href, raster.state)
        share = tiff.image.missing(source.index) if tiff else 0.0
        if share and not raster.nodata_declared[source.index - 1]:
            lacking.setdefault(source.href, []).append(f"{share:.0%} of {source.name}")
    for href, shares in lacking.items():
        warn(
            f"{href} lacks blocks ({', '.join(shares)}), read as 0, and declares no nodata value. If "
            "it should have them, fetch it again; else declare it: gdal_edit.py -a_nodata 0."
        )


def _check(scene: Scene, source: BandSource) -> None:
    if source.warp:
        return  # to the grid itself
    raster, grid = raster_of(source), scene.grid
    crs = grid.crs.to_wkt() if grid.crs else ""
    if raster.crs != crs and (not raster.crs or CRS.from_wkt(raster.crs) != CRS.from_wkt(crs)):
        raise GeoreferenceError(
            f"All bands must be in one CRS; {source.name} is in {_name(raster.crs)}, the scene in "
            f"{_name(crs)}: {source.href}"
        )
    left, bottom, right, top = _bounds(raster)
    box = grid.boundingbox
    apart = max(abs(left - box.left), abs(bottom - box.bottom), abs(right - box.right), abs(top - box.top))
    if apart <= max(raster.transform.a, -raster.transform.e) + abs(grid.resolution.x) / 100:
        return
    width = max(0.0, min(right, box.right) - max(left, box.left))
    height = max(0.0, min(top, box.top) - max(bottom, box.bottom))
    share = width * height / ((box.right - box.left) * (box.top - box.bottom))
    where = (
        f"{source.name} covers {left:.10g} to {right:.10g}, {bottom:.10g} to {top:.10g}; the scene "
        f"{box.left:.10g} to {box.right:.10g}, {box.bottom:.10g} to {box.top:.10g}: {source.href}"
    )
    if scene.radiometry == "product" or share < _LEAST_SHARED:
        raise GeoreferenceError(f"{scene.id} has a raster of another place or size. {where}")
    warn(f"{scene.id}: {where}. Where a band is missing, nothing is searched.")


def _bounds(raster: Raster) -> tuple[float, float, float, float]:
    rows, cols = raster.shape
    transform = raster.transform
    return transform.c, transform.f + rows * transform.e, transform.c + cols * transform.a, transform.f


def _name(crs: str) -> str:
    return str(CRS.from_wkt(crs).to_string())[:80] if crs else "no CRS"
