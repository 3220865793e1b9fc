"""Whether a raster behind a URL is damaged there, or only did not come whole."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import NamedTemporaryFile

from rasterio.errors import RasterioError

from pipeline.errors import NotAProductError, SceneNotFoundError
from pipeline.redaction import is_url
from pipeline.scenes.download import fetch_file
from pipeline.scenes.raster.spill import temporary_folder

_WEB = "/vsicurl/"
_MOST_BYTES = 2**30
"""A raster of a Sentinel-2 product has a fourth of it."""


def is_damaged_there(href: str, what: str, read: Callable[[str], object]) -> bool:
    """Whether a raster that could not be read is not there at all, or can't be read from a whole copy either.

    `read` is what failed, given the path of the raster. GDAL's errors don't tell bytes that never came from
    bytes that can't be decoded; so the file is fetched once more, whole, into a temporary one. False where
    that fails, too, where it can be read then, and of what does not lie on a web server.

    Disk: the size of the file, 1 GB at most.
    """
    url = href.removeprefix(_WEB)
    if not (href.startswith(_WEB) and is_url(url)):
        return False
    try:
        with NamedTemporaryFile(dir=temporary_folder()) as copy:
            fetch_file(url, what, copy, _MOST_BYTES)
            copy.flush()
            read(copy.name)
    except RasterioError:
        return True
    except SceneNotFoundError as error:
        return not error.is_transient
    except (NotAProductError, OSError):
        return False
    return False
