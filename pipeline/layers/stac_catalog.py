"""Static STAC catalogue of all runs of a folder."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pystac
from pystac import MediaType, RelType

from pipeline.layers.formats.geojson import lonlat_bbox
from pipeline.layers.stac import COLLECTION_ID, EXTENSIONS, write_json
from pipeline.printable import is_text, printable
from pipeline.safe_json import read_json_object
from pipeline.storage.out_folder import CATALOG, COLLECTION

CATALOG_ID = "truckscape"
CATALOG_FILES = (COLLECTION, CATALOG)
_LICENCE = (
    "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
    "Legal notice on the use of Copernicus Sentinel data",
)
_PROCESSOR = pystac.Provider("truckscape", roles=[pystac.ProviderRole.PROCESSOR])
_COPERNICUS = pystac.Provider(
    "European Union/ESA/Copernicus",
    roles=[pystac.ProviderRole.PRODUCER, pystac.ProviderRole.LICENSOR],
    url="https://dataspace.copernicus.eu",
)
_SUMMARIZED = ("platform", "constellation", "instruments", "gsd", "proj:code")
_RANGES = ("truckscape:trucks", "truckscape:seen_fraction")
_ATTEMPTS = 10

log = logging.getLogger(__name__)


def write_catalog(out: Path) -> Path | None:
    """Write `catalog.json` and `collection.json` of all runs below `out`.

    Returns the catalogue, None without runs. Rebuilt from every `out/*/item.json` of `write_item`, with
    relative links, so that the folder can be moved or served. Simultaneous runs may each call it; the last
    writer has seen all items.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    for _ in range(_ATTEMPTS):
        found = _state(out)
        items = list(_items(found))
        if not items:
            return None
        write_json(
            _collection(items).to_dict(include_self_link=False, transform_hrefs=False),
            out / COLLECTION,
        )
        if _state(out) == found:
            break
    catalog = pystac.Catalog(
        CATALOG_ID, "Layers made by truckscape from Sentinel-2 scenes.", title="truckscape"
    )
    catalog.links = [
        pystac.Link(RelType.ROOT, "./catalog.json", MediaType.JSON),
        pystac.Link(
            RelType.CHILD, "./collection.json", MediaType.JSON, title="Trucks and land cover by scene"
        ),
    ]
    write_json(catalog.to_dict(include_self_link=False, transform_hrefs=False), out / CATALOG)
    return out / CATALOG


def _state(out: Path) -> dict[Path, int]:
    """Return the items below a folder, with their times of writing."""
    state = {}
    for path in sorted(out.glob("*/item.json")):
        with suppress(OSError):  # another run is replacing it
            state[path] = path.stat().st_mtime_ns
    return state


def _items(paths: Iterable[Path]) -> Iterator[tuple[str, pystac.Item]]:
    """Return our items by the names of their folders; other items are left out."""
    for path in paths:
        try:
            content = read_json_object(path)
            if content.get("collection") == COLLECTION_ID:
                yield path.parent.name, _item(content, path.parent.name)
        except Exception as error:  # noqa: BLE001 a document of others can fail anywhere
            log.warning(
                "%s is left out of the catalogue: not a STAC item of ours (%s)",
                printable(path),
                printable(error)[:200],
            )


def _item(content: dict[str, Any], folder: str) -> pystac.Item:
    """Return an item that can be part of a collection; any error for other content."""
    if not is_text(folder):
        raise ValueError("the name of its folder is not UTF-8")
    item = pystac.Item.from_dict(content, migrate=False)
    texts = [item.id, *item.assets, *(asset.title for asset in item.assets.values())]
    if not all(isinstance(text, str | None) and is_text(text) for text in texts):
        raise ValueError("its id, or a title, is no text")
    if not item.bbox or len(item.bbox) != 4 or not all(map(math.isfinite, item.bbox)):
        raise ValueError("its bbox is none")
    for name in _RANGES:
        if not isinstance(item.properties.get(name), int | float | None):
            raise ValueError(f"its {name} is no number")
    for name in _SUMMARIZED:
        value, kind = item.properties.get(name), int | float | None if name == "gsd" else str | None
        if not all(isinstance(one, kind) for one in (value if isinstance(value, list) else [value])):
            raise ValueError(f"its {name} is of another type")
    if any(moment is None or moment.tzinfo is None for moment in _span([item])):
        raise ValueError("its time has no time zone")
    alone = _collection([(folder, item)]).to_dict(include_self_link=False, transform_hrefs=False)
    json.dumps(alone, allow_nan=False)
    return item


def _collection(items: Sequence[tuple[str, pystac.Item]]) -> pystac.Collection:
    properties = [item.properties for _, item in items]
    simulated = [entry.get("truckscape:simulated", False) for entry in properties]
    collection = pystac.Collection(
        COLLECTION_ID,
        "Moving trucks and land cover from Sentinel-2 scenes, one item a scene. "
        + ("Simulated scenes." if all(simulated) else "Contains modified Copernicus Sentinel data."),
        pystac.Extent(
            pystac.SpatialExtent([lonlat_bbox([item.bbox for _, item in items if item.bbox])]),
            pystac.TemporalExtent([_span(item for _, item in items)]),
        ),
        title="Trucks and land cover by scene",
        license="other",
        keywords=["Sentinel-2", "trucks", "traffic", "land cover"],
        providers=[_PROCESSOR] if all(simulated) else [_COPERNICUS, _PROCESSOR],
        summaries=pystac.Summaries(_summaries(properties)),
        stac_extensions=[EXTENSIONS["proj"]],
    )
    collection.item_assets = {
        key: pystac.ItemAssetDefinition(_asset_definition(asset))
        for _, item in items
        for key, asset in item.assets.items()
    }
    collection.links = [
        pystac.Link(RelType.ROOT, "./catalog.json", MediaType.JSON),
        pystac.Link(RelType.PARENT, "./catalog.json", MediaType.JSON),
        pystac.Link(RelType.LICENSE, _LICENCE[0], title=_LICENCE[1]),
        *(
            pystac.Link(RelType.ITEM, f"./{quote(folder)}/item.json", MediaType.GEOJSON, item.id)
            for folder, item in items
        ),
    ]
    return collection


def _asset_definition(asset: pystac.Asset) -> dict[str, Any]:
    reported = {"title": asset.title, "type": asset.media_type, "roles": asset.roles}
    return {name: value for name, value in reported.items() if value is not None}


def _span(items: Iterable[pystac.Item]) -> list[datetime | None]:
    """Return the first and last time of items."""
    moments = [
        moment
        for item in items
        for moment in (item.datetime, item.common_metadata.start_datetime, item.common_metadata.end_datetime)
        if moment is not None
    ]
    return [min(moments), max(moments)]


def _summaries(properties: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the properties of items: values as lists, figures as ranges."""
    summaries: dict[str, Any] = {}
    for name in _SUMMARIZED:
        values = [entry[name] for entry in properties if entry.get(name) is not None]
        flat = [value for one in values for value in (one if isinstance(one, list) else [one])]
        if flat:
            summaries[name] = sorted(set(flat))
    for name in _RANGES:
        figures = [entry[name] for entry in properties if entry.get(name) is not None]
        if figures:
            summaries[name] = {"minimum": min(figures), "maximum": max(figures)}
    return summaries
