"""The bands of a GeoTIFF: which are reflectance, which a data mask or scene classification, which neither."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import ConfigError, NotAProductError
from pipeline.input_warnings import warn
from pipeline.scenes.readers.naming import band_name, is_mask, is_no_reflectance
from pipeline.scenes.scene import BAND_NAMES

log = logging.getLogger(__name__)

MASK, SCL, LEFT_OUT = "mask", "SCL", "-"
"""Names of bands that hold no reflectance; those of reflectance are `BAND_NAMES`."""

_OF_BAND = ("bandname", "band_name", "name", "long_name", "description", "band")
_OF_FILE = ("band_names", "bandnames", "bands", "long_name", "descriptions")
"""Tags in which software writes names of bands, for one band or as a list."""
_UNCLEAR_MASK = re.compile(r"(?!.*(?:cloud|cld|snow|snw|shadow|water)).*mask", re.IGNORECASE)
_COUNTED = re.compile(r"band[ _-]?0?(\d+)", re.IGNORECASE)
_SAMPLE_PX = 256
_CLASSES = 12
"""Of the scene classification: 0 to 11."""


def tags_of(dataset: DatasetReader) -> dict[str, str]:
    """Return the tags of a raster by their names in lower case."""
    return {
        key.lower(): value for space in ("IMAGERY", None) for key, value in dataset.tags(ns=space).items()
    }


def band_names(dataset: DatasetReader, given: Sequence[str] | None) -> list[str]:
    """Return the name of each band: one of BAND_NAMES, `MASK`, `SCL` or `LEFT_OUT`.

    `given` are the user's names. A band that is marked as opacity and has no other name is a mask. A mask
    that the user leaves out is still one.

    Raises
    ------
    NotAProductError
        If no band is one of Sentinel-2, or two have the same name.
    ConfigError
        If `given` does not fit the file.
    """
    described = _descriptions(dataset)
    names = _given_names(dataset, given, described) if given else [_name(text) for text in described]
    for index, text in enumerate(described):
        is_opacity = dataset.colorinterp[index] is ColorInterp.alpha
        if names[index] == LEFT_OUT and (is_mask(text) or (is_opacity and not band_name(text))):
            names[index] = MASK
        elif is_opacity and names[index] in BAND_NAMES and np.dtype(dataset.dtypes[index]).itemsize > 1:
            # GDAL marks the fourth of four 8-bit bands by itself; others were marked by someone.
            warn(
                f"Band {index + 1} of {dataset.name} is marked as opacity, but read as {names[index]}, its "
                "name. If it is opacity, name it mask: --bands."
            )
    if not given and _only_count(described):
        raise NotAProductError(
            f"The descriptions of {dataset.name} count its bands ({described[0]}, {described[1]}...) but "
            f"do not name them. Name all {dataset.count}: --bands B02,B03,..."
        )
    known = [name for name in names if name in (*BAND_NAMES, SCL)]
    if not set(known) & set(BAND_NAMES):
        raise NotAProductError(
            f"No band of {dataset.name} is described as a Sentinel-2 band (B02, B03...). Name all "
            f"{dataset.count}: --bands B04,B03,...{_listed(described)}"
        )
    if len(set(known)) < len(known):
        raise (ConfigError if given else NotAProductError)(
            f"A band is named twice in {dataset.name}: {', '.join(known)}. Name each of the {dataset.count} "
            "bands, and those to leave out with -: --bands B04,B03,-,..."
        )
    _say_left_out(dataset, names, described, bool(given))
    return names


def masks_of(dataset: DatasetReader) -> list[int]:
    """Return the numbers of bands after the first that are opacity or described as a data mask."""
    marked = zip(dataset.colorinterp, dataset.descriptions, strict=True)
    return [
        index
        for index, (colour, text) in enumerate(marked, 1)
        if index > 1 and (colour is ColorInterp.alpha or is_mask(text))
    ]


def has_classes(dataset: DatasetReader, index: int) -> bool:
    """Return whether a band holds classes of the scene classification; if not, warn that it is ignored.

    Reads a sample of the raster's middle.
    """
    rows, cols = (min(_SAMPLE_PX, side) for side in dataset.shape)
    middle = Window((dataset.width - cols) // 2, (dataset.height - rows) // 2, cols, rows)
    values = dataset.read(index, window=middle)
    values = values[np.isfinite(values)]
    if ((values >= 0) & (values < _CLASSES) & (values == np.floor(values))).all():
        return True
    warn(
        f"Band {index} of {dataset.name} is named SCL but its values are not classes 0 to 11 (it has "
        f"{values.min():g} to {values.max():g}): it is ignored, and clouds are not masked."
    )
    return False


def _name(text: str | None) -> str:
    if is_mask(text):
        return MASK
    if text and text.strip().upper() == SCL:
        return SCL
    return band_name(text) or LEFT_OUT


def _descriptions(dataset: DatasetReader) -> list[str | None]:
    """Return what describes each band: GDAL's description, else a tag."""
    tags = tags_of(dataset)
    lists = ([part.strip(" ()[]'\"") for part in re.split("[,;]", tags.get(tag, ""))] for tag in _OF_FILE)
    listed = next(
        (names for names in lists if len(names) == dataset.count and any(map(_is_known, names))), None
    )
    found: list[str | None] = []
    for index, text in enumerate(dataset.descriptions):
        own = {key.lower(): value for key, value in dataset.tags(index + 1).items()}
        tag = next((own[name] for name in _OF_BAND if _is_known(own.get(name))), None)
        other = tag or (listed[index] if listed else None)
        found.append(text if _is_known(text) else other or text)
    return found


def _only_count(described: Sequence[str | None]) -> bool:
    """Return whether three or more bands are described as band 1, band 2, and so on, as software counts them.

    B1, B2, B3 are names of Sentinel-2.
    """
    named = [text.strip() for text in described if text and band_name(text)]
    numbers = [match[1] for text in named if (match := _COUNTED.fullmatch(text))]
    return len(named) > 2 and numbers == [str(number) for number in range(1, len(named) + 1)]


def _is_known(text: str | None) -> bool:
    return _name(text) != LEFT_OUT


def _given_names(dataset: DatasetReader, given: Sequence[str], described: Sequence[str | None]) -> list[str]:
    names = [
        LEFT_OUT if text.strip() == LEFT_OUT else MASK if text.strip() == MASK else _name(text)
        for text in given
    ]
    unknown = [
        text for text, name in zip(given, names, strict=True) if name == LEFT_OUT and text.strip() != LEFT_OUT
    ]
    if unknown or len(names) != dataset.count:
        raise ConfigError(
            f"--bands must name each of the {dataset.count} bands of {dataset.name} as one of "
            f"{', '.join(BAND_NAMES)}, SCL, mask (a data mask), or - to leave it out. Received: "
            f"{','.join(given)}.{_listed(described)}"
        )
    for index, (name, text) in enumerate(zip(names, described, strict=True), 1):
        if name in BAND_NAMES and is_no_reflectance(text):
            raise ConfigError(
                f"--bands names band {index} of {dataset.name} {name}, but the file describes it as "
                f"{text!r}, which is no reflectance. Leave it out with -, or name it mask or SCL."
            )
    return names


def _listed(described: Sequence[str | None]) -> str:
    if not any(described):
        return ""
    return f" The file describes them as: {', '.join(text or '(nothing)' for text in described)}"


def _say_left_out(
    dataset: DatasetReader, names: Sequence[str], described: Sequence[str | None], by_user: bool
) -> None:
    out = [
        text or f"band {index}"
        for index, (name, text) in enumerate(zip(names, described, strict=True), 1)
        if name == LEFT_OUT
    ]
    unclear = [text for text in out if _UNCLEAR_MASK.fullmatch(text)]
    if unclear and not by_user:
        own = (MASK if text in unclear else name for name, text in zip(names, described, strict=True))
        warn(
            f"The band {unclear[0]!r} of {dataset.name} is left out, since it does not say what it masks. If "
            f"it is 0 where there is no data, name it: --bands {','.join(own)}"
        )
    elif out:
        log.info("%s: left out %s", dataset.name, ", ".join(out))
