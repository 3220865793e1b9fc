"""Reader of folders with one raster a band, as downloads and exports of single bands leave them."""

from __future__ import annotations

import re
from pathlib import Path

from odc.geo.geobox import GeoBox

from pipeline.errors import GeoreferenceError, MissingBandError, NotAProductError
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.grids import check_georeference, has_pixels_of_10m, on_grid, scene_grid
from pipeline.scenes.readers.geotiff import band_source
from pipeline.scenes.readers.naming import (
    acquired_in_name,
    band_name,
    level_in_name,
    native_gsd,
    platform_in_name,
    tile_in_name,
)
from pipeline.scenes.readers.reader import Reader
from pipeline.scenes.scene import BAND_NAMES, BANDS_10M, BandSource, Scene

_BAND_IN_STEM = re.compile(r"(?:^|[_-])(B(?:0?[1-9]|1[0-2]|8A))(?:[_-](10|20|60)m)?$", re.IGNORECASE)
_RASTER_SUFFIXES = {".jp2", ".tif", ".tiff"}


def open_band_folder(path: Path) -> Scene:
    """Open a folder with one raster a band, named like `T33UUU_20170216T102101_B02.jp2`.

    Other files are ignored. The 10 m grid is that of the finest of B02, B03, B04, B08. A DN of 0 is nodata
    unless a file has another nodata value. Tags and names are used as in `open_geotiff`.

    Raises
    ------
    NotAProductError
        If it has no band file, or those of two scenes.
    MissingBandError
        If it has no 10 m band for the grid.
    CorruptImageError, GeoreferenceError, MetadataError
        If a band file can't be opened, is in another CRS, or has 8 bits and no scale.
    """
    files = _band_files(path)
    sources: dict[str, BandSource] = {}
    tags: dict[str, str] = {}
    grid: GeoBox | None = None
    crs, wkt = None, ""
    for name, file in files.items():
        with open_raster(str(file), f"Band {name}") as dataset:
            check_georeference(dataset)
            if crs is not None and dataset.crs != crs:
                raise GeoreferenceError(
                    f"All bands must be in one CRS; {file.name} is in {dataset.crs}, others in {crs}."
                )
            crs, wkt = dataset.crs, str(dataset.crs.to_wkt())
            sources[name] = band_source(dataset, name, str(file), 1)
            tags |= {key.lower(): value for key, value in dataset.tags().items()}
            if name in BANDS_10M and grid is None and has_pixels_of_10m(dataset):
                grid = scene_grid(dataset)
    if grid is None:
        raise MissingBandError(
            f"The 10 m grid needs one of {', '.join(BANDS_10M)} at 10 m; {path} has: {', '.join(sources)}."
        )
    stem = _BAND_IN_STEM.sub("", next(iter(files.values())).stem)
    return Scene(
        id=stem or path.resolve().name,
        href=str(path),
        grid=grid,
        bands={name: on_grid(source, wkt, grid) for name, source in sources.items()},
        acquired=acquired_in_name(tags, stem),
        platform=platform_in_name(tags, stem),
        level=level_in_name(tags, stem, sources),
        tile=tile_in_name(stem),
        files=tuple(files.values()),
    )


def is_band_folder(path: Path) -> bool:
    """Return whether a folder has files named as bands."""
    return any(_band_of_file(file) for file in path.iterdir())


def _band_of_file(file: Path) -> tuple[str, re.Match[str]] | None:
    """Return the band in a file's name and its match; None for other files."""
    match = _BAND_IN_STEM.search(file.stem)
    if file.suffix.lower() not in _RASTER_SUFFIXES or not match:
        return None
    name = band_name(match[1])
    return (name, match) if name else None


def _band_files(path: Path) -> dict[str, Path]:
    """Return the finest file of each band, in the order of BAND_NAMES."""
    found: dict[str, tuple[int, Path]] = {}
    prefixes: set[str] = set()
    for file in sorted(path.iterdir()):
        reported = _band_of_file(file)
        if reported is None:
            continue
        name, match = reported
        prefixes.add(file.stem[: match.start()])
        gsd = int(match[2] or native_gsd(name))
        if name not in found or gsd < found[name][0]:
            found[name] = (gsd, file)
    if not found:
        raise NotAProductError(
            f"No Sentinel-2 band file (like T33UUU_20170216T102101_B02.jp2) in the folder {path}"
        )
    if len(prefixes) > 1:
        raise NotAProductError(
            f"A folder of band files with one scene is expected; {path} has {len(prefixes)}: "
            f"{', '.join(sorted(prefixes)[:3])}"
        )
    return {name: found[name][1] for name in BAND_NAMES if name in found}


READER = Reader(
    "a folder of band files",
    lambda href: Path(href).is_dir(),
    lambda href, _: open_band_folder(Path(href)),
    finds=lambda path: path.is_dir() and is_band_folder(path),
)
