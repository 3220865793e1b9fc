"""A scene as users of the API hold it, and the function that opens it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pipeline.errors import ConfigError, NotAProductError

if TYPE_CHECKING:  # they take seconds
    import pystac
    import xarray as xr

    from pipeline.config import SceneSettings
    from pipeline.scenes.scene import Scene as SceneData

Crs: TypeAlias = "int | str | Any"
"""EPSG code, text (`EPSG:32632`, WKT), or any CRS object that pyproj takes."""


@dataclass(frozen=True, repr=False)
class Scene:
    """Sentinel-2 scene that is open: its place, time and bands. Pixels are read when they are asked for.

    Immutable; threads may share it.
    """

    data: SceneData
    """All metadata."""
    href: str | None
    """Path or URL by which it opens again; None for a STAC item in memory."""
    names: tuple[str, ...] | None
    settings: SceneSettings
    """The user's scale, offset, nodata value and time."""

    @property
    def id(self) -> str:
        """Name of the scene, and of the folder of its results."""
        return self.data.id

    @property
    def acquired(self) -> date | None:
        """Time of acquisition (`datetime`, UTC) or, if only that is known, its date."""
        return self.data.acquired

    @property
    def crs(self) -> str:
        """CRS of the 10 m grid, as `EPSG:...` where it has a code, else WKT."""
        return self.data.crs

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in `crs`."""
        box = self.data.grid.boundingbox
        return box.left, box.bottom, box.right, box.top

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the 10 m grid."""
        return self.data.shape

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, such as `B04`."""
        return tuple(self.data.bands)

    def __repr__(self) -> str:
        data = self.data
        rows, columns = data.shape
        left, bottom, right, top = (f"{value:.12g}" for value in self.bounds)
        crs: Any = data.grid.crs
        place = self.crs if crs.epsg else crs.proj.name
        kind = [data.level, data.platform, "simulated" if data.simulated else None]
        when = "unknown time" if data.acquired is None else data.acquired.isoformat()
        return (
            f"<truckscape.Scene {data.id}>\n"
            f"  {', '.join([*filter(None, kind), f'acquired {when}'])}\n"
            f"  {rows} x {columns} pixels of 10 m, {place}, bounds ({left}, {bottom}, {right}, {top})\n"
            f"  bands {', '.join(self.bands)}{' and SCL' if data.scl else ''}"
        )

    def to_xarray(
        self,
        bands: Sequence[str] | None = None,
        bounds: Sequence[float] | None = None,
        crs: Crs | None = None,
        *,
        chunks: int | Mapping[str, int] | Literal["auto"] | None = None,
    ) -> xr.DataArray:
        """Return reflectance (band, y, x), float32, on the scene's 10 m grid; NaN without data.

        `bounds` are (left, bottom, right, top) in `crs`, which is the scene's by default; pixels that they
        touch are returned. Pixels stay on the grid of the scene: `.rio.reproject` gives another. With
        `chunks` (a side in pixels, sizes by dimension, or `auto`) the array is of Dask, and reads a chunk
        when it is computed. CRS and transform are in `spatial_ref`, as rioxarray and odc-geo read them.

        Memory: 4 bytes a pixel and band (480 MB for a band of a granule), and the cache of blocks.

        Raises
        ------
        MissingBandError
            If a band is not in the scene.
        ConfigError, GeoreferenceError
            If the bounds or the CRS are not valid, or the bounds are outside of the scene.
        MissingExtraError
            If `chunks` is given and Dask is not installed.
        CorruptImageError
            If pixels can't be decoded.
        """
        from pipeline.api.pixels import reflectance

        return reflectance(self.data, bands, bounds, crs, chunks)


def open(
    source: str | Path | pystac.Item,
    *,
    bands: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | Literal["none"] | None = None,
    acquired: str | date | None = None,
) -> Scene:
    """Open a scene: a `.SAFE` folder or zip, a folder of bands, a GeoTIFF or a STAC item (also in memory).

    `bands` names the bands of a GeoTIFF without band descriptions, in order. `scale`, `offset`
    (reflectance = number * scale + offset), `nodata` and `acquired` replace what the scene states. Reads
    metadata, no pixels.

    Raises
    ------
    Error
        Of `SceneNotFoundError`, `NotAProductError`, `MetadataError`, `GeoreferenceError` and others, one line
        each.
    """
    import pystac

    from pipeline.api.messages import python_names
    from pipeline.api.options import scene_settings
    from pipeline.scenes.open import open_item, open_scene

    names = None if bands is None else tuple(bands)
    settings = scene_settings(scale, offset, nodata, acquired)
    with python_names():
        if isinstance(source, str | Path):
            return Scene(open_scene(str(source), names, settings), str(source), names, settings)
        if not isinstance(source, pystac.Item):
            raise NotAProductError(
                f"A scene is a path, a URL or a pystac.Item. Received: {type(source).__name__}."
            )
        if names is not None:
            raise ConfigError("bands= is for GeoTIFFs only; the assets of a STAC item have their names.")
        return Scene(open_item(source, settings), None, None, settings)
