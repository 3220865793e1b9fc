"""A scene as plain data: its 10 m grid, the bands on it, its place and time."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from pipeline.printable import is_shown
from pipeline.storage.out_folder import BESIDE_SCENES

if TYPE_CHECKING:
    from pipeline.scenes.msi import MsiGeometry

BANDS_10M = ("B02", "B03", "B04", "B08")
BANDS_20M = ("B05", "B06", "B07", "B8A", "B11", "B12")
BANDS_60M = ("B01", "B09", "B10")
BAND_NAMES = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
HARMONISED_OFFSET = -0.1
"""Reflectance offset of products since baseline 04.00: -1000 / 10000."""

Radiometry = Literal["product", "item", "tags", "options", "assumed"]
"""Source of scale and offset: the product's metadata, a STAC item, tags of the file, the user's options, or
the usual values of Sentinel-2."""

_OF_FILES_BESIDE = re.compile(r"\.(?=json|parquet|png|sqlite)", re.IGNORECASE)
"""The dot of suffixes of files beside scenes' folders: catalogue, log, ledger, traffic."""
_OF_WINDOWS = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])\s*(?:[.:]|$)", re.IGNORECASE
)
"""Names of devices; Windows means the device by `NUL.tif`, too."""
_MOST_NAME_BYTES = 200
"""File systems allow 255; temporary names are longer."""


def date_text(acquired: date | None) -> str | None:
    """Return the date of a time in UTC, or a date, as YYYY-MM-DD."""
    if isinstance(acquired, datetime) and acquired.tzinfo:
        acquired = acquired.astimezone(UTC)
    return None if acquired is None else f"{acquired:%Y-%m-%d}"


def scene_name(text: str) -> str:
    """Return an id as a name of letters, digits, `_`, `-` and `.` that a scene's folder may have."""
    name = _OF_FILES_BESIDE.sub("_", re.sub(r"[^\w.-]", "_", text).lstrip(".")) or "item"
    if len(name.encode()) <= _MOST_NAME_BYTES:
        return safe_id(name)
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
    return safe_id(f"{_cut(name, _MOST_NAME_BYTES - 17)}-{digest}")


def safe_id(text: str) -> str:
    """Return the id of a scene as a name that its folder may have on any system; as it is, if it can be.

    Refused are names of other folders (`..`), of files beside the scenes' folders, of devices, separators,
    characters that are not shown, and names that are empty, hidden, an option, or too long. The id then gets
    other characters there, and a hash of the text, so that two texts give two names. Canonically equal texts
    (NFC and NFD of Unicode), which file systems may take for one name, give the same.
    """
    given = unicodedata.normalize("NFC", text)
    shown = "".join("_" if letter in "/\\" or not is_shown(letter) else letter for letter in given)
    name = shown.lstrip(". -").rstrip(". ") or "scene"
    if _OF_WINDOWS.match(name) or name.casefold().startswith(BESIDE_SCENES):
        name = f"scene_{name}"
    if name == given and len(name.encode()) <= _MOST_NAME_BYTES:
        return name
    digest = hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{_cut(name, _MOST_NAME_BYTES - 9)}-{digest}"


def _cut(name: str, most_bytes: int) -> str:
    return name.encode()[:most_bytes].decode(errors="ignore")


@dataclass(frozen=True)
class Warp:
    """The grid to which a raster is warped at reading, as values that hash fast."""

    crs: str
    """As WKT."""
    transform: Affine
    shape: tuple[int, int]
    """Rows and columns."""
    nodata: float | None = None
    """Nodata value of the source raster if it has none itself."""
    is_classes: bool = False
    """Whether values are classes (nearest neighbour); otherwise bilinear."""


@dataclass(frozen=True)
class BandSource:
    """Address of one band, and the conversion of its digital numbers to reflectance.

    reflectance = DN * scale + offset; a DN equal to `nodata` is masked before that.
    """

    name: str
    href: str
    """Name for GDAL: a path, `/vsizip/...` or `/vsicurl/...`."""
    index: int = 1
    scale: float = 1e-4
    offset: float = 0.0
    nodata: float | None = 0.0
    gsd: float = 10.0
    warp: Warp | None = None
    """The grid to which the raster is warped at reading, if its own unit is not the metre."""
    mask: BandSource | None = None
    """A band of the same raster that is 0 where this one has no data: opacity, or a data mask."""

    @property
    def masks(self) -> tuple[BandSource, ...]:
        """Return the masks of the band: `mask`, its own mask, and so on."""
        return (self.mask, *self.mask.masks) if self.mask else ()


@dataclass(frozen=True)
class Pixels:
    """A rectangle of a scene: reflectance, valid pixels, and its place."""

    reflectance: NDArray[np.float32]
    """(C, H, W), reflectance 0-1 (may exceed 1 on clouds); 0 where not valid."""
    valid: NDArray[np.bool_]
    """(H, W), True where every requested band has data."""
    window: Window
    grid: GeoBox
    """The GeoBox of the window."""


@dataclass(frozen=True)
class Scene:
    """A Sentinel-2 scene on its 10 m grid. Metadata only; `raster.read.read_pixels` decodes."""

    id: str
    """See `safe_id`."""
    href: str
    grid: GeoBox
    bands: Mapping[str, BandSource]
    acquired: date | None = None
    """A time (`datetime`, UTC) or, if only that is known, its date."""
    platform: str | None = None
    level: Literal["L1C", "L2A"] | None = None
    baseline: str | None = None
    tile: str | None = None
    simulated: bool = False
    scl: BandSource | None = None
    """Scene classification (20 m), L2A only."""
    msi: MsiGeometry | None = None
    """MSI detectors by place, if the product has them."""
    files: tuple[Path, ...] = field(default=())
    """Local files of the scene, to be hashed."""
    checksums: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Algorithm and digest of files, by address for GDAL, to be compared when they are hashed."""
    radiometry: Radiometry = "assumed"
    other_offset: float | None = None
    """Offset of reflectance that another statement of the metadata gives, if they disagree."""
    blanks: tuple[float, ...] = ()
    """Numbers that mean no data where all bands have them, in files that need not say so."""
    footprint: BaseGeometry | None = None
    """Area with data in degrees, if the metadata say it."""
    datastrip: str | None = None
    """Start of its datastrip, like 20200401T175716: tells the halves of a split tile apart."""
    processed: datetime | None = None
    """Time of processing."""

    def __post_init__(self) -> None:
        """Make the id safe, whatever it was read from: it names the folder of the results."""
        object.__setattr__(self, "id", safe_id(self.id))

    @property
    def has_time(self) -> bool:
        """Return whether the time of acquisition is known, not only its date."""
        return isinstance(self.acquired, datetime)

    @property
    def crs(self) -> str:
        """CRS of the grid, as `EPSG:...` where it has a code, else WKT; empty without a CRS."""
        crs = self.grid.crs
        if crs is None:
            return ""
        return f"EPSG:{crs.epsg}" if crs.epsg else crs.to_wkt()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the 10 m grid."""
        rows, cols = self.grid.shape
        return int(rows), int(cols)
