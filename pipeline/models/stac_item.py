"""STAC item of an exported bundle, with the fields of the extension `mlm`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any

import pystac

from pipeline.models.bundle import Card
from pipeline.scenes.readers.naming import FIRST_LIGHT

MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
_BOXES = {
    "mlm:framework": "ONNX",
    "description": "Boxes (left, top, right, bottom in pixels) and scores from the maps of one tile.",
}
_ALWAYS = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_TASKS = {
    "segmentation": "semantic-segmentation",
    "detection": "object-detection",
    "screening": "classification",
}


def stac_item(
    card: Card, tile_px: int, outputs: Mapping[str, Sequence[int]], parameters: int, files: Mapping[str, str]
) -> pystac.Item:
    """Return the item of a bundle whose ONNX file takes tiles of `tile_px` pixels.

    `outputs` are the shapes by name, -1 for the batch. `files` are the names of the assets `onnx`, `weights`
    and `card`, and for some detectors `boxes`, beside the item. A model has no place, so the
    geometry is null.
    """
    item = pystac.Item(
        id=f"{card.id}-{card.version}",
        geometry=None,
        bbox=None,
        datetime=None,
        start_datetime=datetime.combine(FIRST_LIGHT, time(), UTC),
        end_datetime=_ALWAYS,
        properties=_properties(card, tile_px, outputs, parameters),
        stac_extensions=[MLM_SCHEMA],
    )
    bands = [{"name": band} for band in card.bands]
    onnx = {"mlm:artifact_type": "onnx", "mlm:framework": "ONNX", "bands": bands}
    weights = {
        "mlm:artifact_type": "safetensors.torch.save_file",
        "mlm:framework": "PyTorch",
        "bands": bands,
    }
    for key, media, roles, fields in (
        ("onnx", "application/octet-stream", ["mlm:model"], onnx),
        ("weights", "application/octet-stream", ["mlm:model", "mlm:weights"], weights),
        ("boxes", "application/octet-stream", ["mlm:model"], {"mlm:artifact_type": "onnx", **_BOXES}),
        ("card", "application/yaml", ["metadata"], {}),
    ):
        if key not in files:
            continue
        item.add_asset(
            key, pystac.Asset(f"./{files[key]}", media_type=media, roles=roles, extra_fields=fields)
        )
    return item


def _properties(
    card: Card, tile_px: int, outputs: Mapping[str, Sequence[int]], parameters: int
) -> dict[str, Any]:
    classes = [
        {"value": index, "name": item.name, "color_hint": item.colour.lstrip("#").upper()}
        for index, item in enumerate(card.classes)
    ]
    tasks = [_TASKS[card.task]]
    image = {
        "shape": [-1, len(card.bands), tile_px, tile_px],
        "dim_order": ["batch", "bands", "height", "width"],
        "data_type": "float32",
    }
    segments = card.task == "segmentation"
    dims = ["batch", "class", "height", "width"] if segments else ["batch", "height", "width", "channel"]
    return {
        "license": card.licence,
        "gsd": card.gsd,
        "bands": [{"name": band} for band in card.bands],  # for `mlm`; STAC wants them in assets, too
        "mlm:name": f"truckscape {card.id}",
        "mlm:architecture": card.architecture,
        "mlm:tasks": tasks,
        "mlm:total_parameters": parameters,
        "mlm:input": [
            {
                "name": "reflectance",
                "description": "Reflectance 0-1, NaN without data; the graph normalises it.",
                "bands": list(card.bands),
                "input": image,
                "value_scaling": None,
                "resize_type": None,
            }
        ],
        "mlm:output": [
            {
                "name": name,
                "tasks": tasks,
                "result": {"shape": list(shape), "dim_order": dims, "data_type": "float32"},
                **({"classification:classes": classes} if segments else {}),
            }
            for name, shape in outputs.items()
        ],
    }
