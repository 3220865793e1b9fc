"""Reader of folders with one raster a band, as downloads and exports of single bands leave them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from odc.geo.geobox import GeoBox

from pipeline.errors import GeoreferenceError, MissingBandError, NotAProductError
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.grids import check_georeference, has_pixels_of_10m, on_grid, scene_grid
from pipeline.scenes.readers.geotiff import (
    BLANKS,
    band_source,
    mask_source,
    other_offset,
    radiometry_of,
    scl_source,
)
from pipeline.scenes.readers.naming import (
    acquired_in_name,
    band_name,
    baseline_in_name,
    level_in_name,
    native_gsd,
    platform_in_name,
    tile_in_name,
)
from pipeline.scenes.readers.product_files import OF_MACOS
from pipeline.scenes.readers.reader import Reader
from pipeline.scenes.readers.stack import SCL, has_classes, masks_of, tags_of
from pipeline.scenes.scene import BAND_NAMES, BANDS_10M, BandSource, Radiometry, Scene

_BAND_IN_STEM = re.compile(
    r"(?:^|[_-])(B(?:0?[1-9]|1[0-2]|8A)|SCL)(?:[_-](10|20|60)m)?(?:_\(Raw\))?$", re.IGNORECASE
)
"""EO Browser ends its names with `(Raw)`."""
_DAY = 10
_TAGS_OF_A_SCENE = {"acquired": _DAY, "acquisitiondatetime": _DAY, "sensing_time": _DAY, "platform": None}
"""Tags that all bands of a scene have in common, and how many characters count: of a time the date."""
_RASTER_SUFFIXES = {".jp2", ".tif", ".tiff"}


def open_band_folder(path: Path) -> Scene:
    """Open a folder with one raster a band, named like `T33UUU_20170216T102101_B02.jp2`.

    Other files are ignored. The 10 m grid is that of the finest of B02, B03, B04, B08. A DN of 0 is nodata
    unless a file has another nodata value. Opacity, SCL, tags and names are used as in `open_geotiff`; where
    the files have no name but that of the band, the folder's is used.

    Raises
    ------
    NotAProductError
        If it has no band file, those of two scenes, times or tiles, or two of one band.
    MissingBandError
        If it has no 10 m band for the grid.
    CorruptImageError, GeoreferenceError
        If a band file can't be opened, or is in another CRS.
    """
    files = _band_files(path)
    sources: dict[str, BandSource] = {}
    masks: dict[str, list[int]] = {}
    tags: dict[str, str] = {}
    radiometry: Radiometry = "assumed"
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
            if name == SCL and not has_classes(dataset, 1):
                continue
            sources[name] = band_source(dataset, name, str(file), 1)
            masks[name] = masks_of(dataset)
            _check_same_scene(tags, tags_of(dataset), file)
            tags |= tags_of(dataset)
            if name != SCL and radiometry_of(dataset) == "tags":
                radiometry = "tags"
            if name in BANDS_10M and grid is None and has_pixels_of_10m(dataset):
                grid = scene_grid(dataset)
    scl = sources.pop(SCL, None)
    if grid is None:
        raise MissingBandError(
            f"The 10 m grid needs one of {', '.join(BANDS_10M)} at 10 m; {path} has: {', '.join(sources)}."
        )
    stem = _BAND_IN_STEM.sub("", next(iter(files.values())).stem)
    title = stem or path.resolve().name
    baseline = baseline_in_name(tags, stem) or baseline_in_name({}, path.resolve().name)
    return Scene(
        id=title,
        href=str(path),
        grid=grid,
        bands={
            name: replace(on_grid(source, wkt, grid), mask=mask_source(source.href, masks[name], wkt, grid))
            for name, source in sources.items()
        },
        acquired=acquired_in_name(tags, title),
        platform=platform_in_name(tags, title),
        level=level_in_name(tags, title, sources) or ("L2A" if scl else None),
        baseline=baseline,
        tile=tile_in_name(title),
        scl=scl and scl_source(scl.href, 1, wkt, grid, scl.gsd),
        files=tuple(files.values()),
        radiometry=radiometry,
        other_offset=other_offset(baseline, radiometry),
        blanks=BLANKS,
    )


def _check_same_scene(known: Mapping[str, str], tags: Mapping[str, str], file: Path) -> None:
    """Raise NotAProductError if the tags of a band file state another scene than those of the other files."""
    for tag, length in _TAGS_OF_A_SCENE.items():
        one, other = (each.get(tag, "").strip().lower()[:length] for each in (tags, known))
        if one and other and one != other:
            raise NotAProductError(
                f"All bands must be of one scene; {file.name} has the tag {tag}={one[:80]}, others "
                f"{other[:80]}."
            )


def is_band_folder(path: Path) -> bool:
    """Return whether a folder has files named as bands."""
    return any(found and found[0] != SCL for found in map(_band_of_file, path.iterdir()))


def _band_of_file(file: Path) -> tuple[str, re.Match[str]] | None:
    """Return the band in a file's name and its match; None for other files."""
    match = _BAND_IN_STEM.search(file.stem)
    if file.suffix.lower() not in _RASTER_SUFFIXES or not match or file.name.startswith(OF_MACOS):
        return None
    name = SCL if match[1].upper() == SCL else band_name(match[1])
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
        if name in found and gsd == found[name][0]:
            raise NotAProductError(
                f"{path} has two files of {name} at {gsd} m; leave one: {found[name][1].name}, {file.name}"
            )
        if name not in found or gsd < found[name][0]:
            found[name] = (gsd, file)
    if not found.keys() - {SCL}:
        raise NotAProductError(
            f"No Sentinel-2 band file (like T33UUU_20170216T102101_B02.jp2) in the folder {path}"
        )
    if len(prefixes) > 1:
        raise NotAProductError(
            f"A folder of band files with one scene is expected; {path} has {len(prefixes)}: "
            f"{', '.join(sorted(prefixes)[:3])}"
        )
    return {name: found[name][1] for name in (*BAND_NAMES, SCL) if name in found}


READER = Reader(
    "a folder of band files",
    lambda href: Path(href).is_dir(),
    lambda href, _: open_band_folder(Path(href)),
    finds=lambda path: path.is_dir() and is_band_folder(path),
)
