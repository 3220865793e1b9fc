"""Metadata of ESA's products: the XML of the product and of its tile, with every value checked."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.errors import MetadataError
from pipeline.scenes.msi import number
from pipeline.scenes.readers.product_files import Level, Product
from pipeline.scenes.scene import BAND_NAMES

ROOTS: dict[tuple[str, Level], str] = {
    ("product", "L1C"): "Level-1C_User_Product",
    ("product", "L2A"): "Level-2A_User_Product",
    ("tile", "L1C"): "Level-1C_Tile_ID",
    ("tile", "L2A"): "Level-2A_Tile_ID",
}
"""Root elements of `MTD_MSIL1C.xml`, `MTD_MSIL2A.xml` and `MTD_TL.xml`."""
QUANTIFICATION, OFFSET = 10000.0, -1000.0
"""Those of all products up to now; before baseline 04.00 there was no offset."""
FIRST_WITH_OFFSET, _FIRST_UNKNOWN = "04.00", "06.00"
OF_NO_BASELINE = "99.99"
"""Of products that users make with Sen2Cor: it says nothing about the offset."""

_UNTIL_2018 = {
    "BOA_QUANTIFICATION_VALUE": "L2A_BOA_QUANTIFICATION_VALUE",
    "PRODUCT_URI": "PRODUCT_URI_2A",
    "TILE_ID": "TILE_ID_2A",
    "DATASTRIP_ID": "DATASTRIP_ID_2A",
}
"""Other names of elements in L2A of ESA before October 2018, and of Sen2Cor up to 2.5."""
_BASELINE = re.compile(r"\d\d\.\d\d", re.ASCII)
_PLATFORM = re.compile(r"Sentinel-2[A-Z]", re.ASCII | re.IGNORECASE)
_AGAIN = "Download the product again."


def parse(product: Product, name: str, root_name: str | None = None) -> Element:
    """Return the root of an XML file of a product.

    Raises MetadataError if it can't be read, is unsafe, or its root element has another name: then it is the
    metadata of something else.
    """
    try:
        root: Element = fromstring(product.read(name), forbid_dtd=True)
    except DefusedXmlException as error:
        raise MetadataError(
            f"{name} declares entities or a document type, which is unsafe; download the product again."
        ) from error
    except (ParseError, LookupError, ValueError) as error:  # LookupError: of an encoding
        raise MetadataError(f"{name} in {product.root} is not well-formed XML: {error}") from error
    except OSError as error:
        raise MetadataError(f"{name} in {product.root} can't be read: {error.strerror}") from error
    found = root.tag.rpartition("}")[2]
    if root_name is not None and found != root_name:
        raise MetadataError(
            f"{name} in {product.root} is {found[:80]!r}, not {root_name}: that of something else. {_AGAIN}"
        )
    return root


def text(metadata: Element, key: str) -> str:
    """Return the one value of an element. Raises MetadataError if it is missing, or given with two values."""
    found = text_or_empty(metadata, key)
    if not found:
        raise MetadataError(f"{key} is missing in the product's metadata. {_AGAIN}")
    return found


def text_or_empty(metadata: Element, key: str) -> str:
    """Return the one value of an element that may be missing. Raises MetadataError for two values."""
    names = (key, _UNTIL_2018[key]) if key in _UNTIL_2018 else (key,)
    found = {(element.text or "").strip() for name in names for element in metadata.iter(name)} - {""}
    if len(found) > 1:
        raise MetadataError(f"{key} has different values in one file: {_listed(found)}. {_AGAIN}")
    return found.pop() if found else ""


def baseline_of(metadata: Element) -> str:
    """Return the processing baseline, like 05.09. Raises MetadataError."""
    baseline = text(metadata, "PROCESSING_BASELINE")
    if not _BASELINE.fullmatch(baseline):
        raise MetadataError(f"PROCESSING_BASELINE must be like 05.09. Received: {baseline[:80]!r}")
    return baseline


def platform_of(metadata: Element) -> str:
    """Return the satellite, like sentinel-2a. Raises MetadataError."""
    name = text(metadata, "SPACECRAFT_NAME")
    if not _PLATFORM.fullmatch(name):
        raise MetadataError(f"SPACECRAFT_NAME must be like Sentinel-2A. Received: {name[:80]!r}")
    return name.lower()


def quantification(metadata: Element, level: Level, baseline: str) -> float:
    """Return the digital numbers of a reflectance of 1. Raises MetadataError."""
    key = "QUANTIFICATION_VALUE" if level == "L1C" else "BOA_QUANTIFICATION_VALUE"
    quantum = number(text(metadata, key), key)
    if quantum <= 0:
        raise MetadataError(f"{key} must be positive. Received: {quantum:g}")
    if quantum != QUANTIFICATION and (baseline < _FIRST_UNKNOWN or not 1e3 <= quantum <= 65535):
        raise MetadataError(
            f"{key} is {QUANTIFICATION:g} in products of baseline {baseline}. Received: {quantum:g}. {_AGAIN}"
        )
    return quantum


def offsets(metadata: Element, level: Level, baseline: str) -> dict[str, float]:
    """Return the number to add to digital numbers, by band; nothing where the product has no offsets.

    Raises MetadataError for a band with two of them, and for those that no product of its baseline has.
    """
    key = "RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET"
    found: dict[str, float] = {}
    for element in metadata.iter(key):
        # `band_id` counts the bands in this order: 0 is B01, 8 is B8A, 12 is B12.
        band_id = (element.get("band_id") or "").strip()
        band = dict(zip(map(str, range(len(BAND_NAMES))), BAND_NAMES, strict=True)).get(band_id)
        if band is None:
            raise MetadataError(f"band_id of {key} must be 0 to 12. Received: {band_id[:20]!r}. {_AGAIN}")
        if band in found:
            raise MetadataError(f"{key} is given twice for band_id {band_id} ({band}). {_AGAIN}")
        found[band] = number(element.text, f"{key} of band_id {band_id} ({band})")
    _check_offsets(found, key, baseline)
    return found


def _check_offsets(found: dict[str, float], key: str, baseline: str) -> None:
    has_offset = baseline >= FIRST_WITH_OFFSET
    if not found and has_offset and baseline != OF_NO_BASELINE:
        raise MetadataError(
            f"{key} is missing, which all products since baseline {FIRST_WITH_OFFSET} have; this one is "
            f"{baseline}. {_AGAIN}"
        )
    for band, value in found.items():
        if abs(value) > QUANTIFICATION:
            raise MetadataError(f"{key} of {band} is more than a reflectance of 1: {value:g}. {_AGAIN}")
        expected = OFFSET if has_offset else 0.0
        if baseline < _FIRST_UNKNOWN and value != expected:
            raise MetadataError(
                f"{key} of {band} is {expected:g} in products of baseline {baseline}. Received: {value:g}. "
                f"{_AGAIN}"
            )


def _listed(values: set[str]) -> str:
    return ", ".join(repr(value[:40]) for value in sorted(values)[:3])
