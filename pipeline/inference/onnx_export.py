"""Bundles as ONNX files for other software, such as QGIS with Deepness, checked against the engine."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.config import Engine
from pipeline.errors import BundleError, ConfigError, MissingExtraError, OutputError
from pipeline.input_warnings import warn
from pipeline.models.bundle import Bundle, Card
from pipeline.storage.atomic import make_folder, replacing
from pipeline.tiling import round_up

if TYPE_CHECKING:  # the import takes seconds
    from torch import Tensor, nn

    from pipeline.models.standalone import Standalone

FORMATS = ("onnx",)
OPSET = 18
TILE_PX = 400
TOLERANCE = 1e-4
"""Most difference from the engine, of values above 1 as a share of them."""
_GRAPHS = {"onnx": "model.onnx", "boxes": "boxes.onnx"}
_PATCHES_PX = (64, 40)
"""Sides of the noise in which boxes are compared: two, so that their numbers differ."""
_NEEDED = ("onnx", "onnxruntime")


def export_bundle(
    bundle: Bundle,
    folder: Path,
    name: str = "onnx",
    scale: float = 1.0,
    offset: float = 0.0,
    tile_px: int = TILE_PX,
) -> dict[str, Path]:
    """Write `model.onnx`, `weights.safetensors`, `card.yaml` and `item.json`; return the paths by asset.

    A detector of `Family.exports_boxes` has `boxes.onnx`, too, from the maps of `model.onnx` to boxes. The
    folder is new or empty; nothing is written before the check against the engine. Numbers of the user's
    raster become reflectance as number * scale + offset in Deepness, which reads this from the metadata; the
    graph itself takes reflectance.

    Raises
    ------
    ConfigError
        If the format is unknown, or `scale` is not positive.
    MissingExtraError
        If ONNX or ONNX Runtime is not installed.
    BundleError
        If the network can't be exported, or its results differ from the engine's by more than `TOLERANCE`.
    OutputError
        If the folder has files, or can't be written.
    """
    _check(folder, name, scale, offset)
    from pipeline.models.stac_item import stac_item
    from pipeline.models.standalone import standalone

    network, card, side = standalone(bundle), bundle.card, tile_side(bundle.card, tile_px)
    content = _dense_graph(network, card, side, deepness_metadata(card, side, scale, offset))
    outputs = _checked(content, card, network, side)
    graphs = {"onnx": content, **_boxes_graph(network, card, side)}
    files = {"weights": "weights.safetensors", "card": "card.yaml"}
    files |= {key: _GRAPHS[key] for key in graphs}
    count = sum(parameter.numel() for parameter in network.parameters())
    shapes = {key: (-1, *array.shape[1:]) for key, array in outputs.items()}
    item = stac_item(card, side, shapes, count, files)
    make_folder(folder)
    paths = {key: folder / file for key, file in files.items()} | {"item": folder / "item.json"}
    for key, graph in graphs.items():
        with replacing(paths[key]) as part:
            part.write_bytes(graph)
    for key, source in (("weights", bundle.weights), ("card", bundle.folder / "card.yaml")):
        with replacing(paths[key]) as part:
            shutil.copyfile(source, part)
    with replacing(paths["item"]) as part:
        document = item.to_dict(include_self_link=False)
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return paths


def tile_side(card: Card, tile_px: int = TILE_PX) -> int:
    """Return the side of tiles of at least `tile_px` pixels: each per cent of it is a multiple of the stride.

    It is more than twice the overlap, so that tiles have a core.
    """
    return round_up(max(tile_px, 4 * card.halo), 100 * card.stride)


def deepness_metadata(card: Card, side: int, scale: float = 1.0, offset: float = 0.0) -> dict[str, str]:
    """Return the metadata that QGIS's plugin Deepness reads, as JSON by name, for tiles of a side.

    Deepness feeds (number / 255 - mean) / std, whatever the type of the raster; here that is number * scale +
    offset. Tiles overlap by twice the halo, so its map has no seams. The threshold is 0: below Deepness's own
    default a pixel would be of the first class. The size of small areas is 0: its median filter is off.
    """
    bands = len(card.bands)
    values: dict[str, Any] = {
        "resolution": 100 * card.gsd,
        "tile_size": side,
        "tiles_overlap": -(-2 * card.halo // (side // 100)),
        "standardization_mean": [-offset / (255 * scale)] * bands,
        "standardization_std": [1 / (255 * scale)] * bands,
        "bands": list(card.bands),
        "licence": card.licence,
    }
    if card.task == "segmentation":
        values |= {
            "model_type": "Segmentor",
            "class_names": {str(index): item.name for index, item in enumerate(card.classes)},
            "seg_thresh": 0.0,
            "seg_small_segment": 0,
        }
    return {key: json.dumps(value) for key, value in values.items()}


def _check(folder: Path, name: str, scale: float, offset: float) -> None:
    if name not in FORMATS:
        raise ConfigError(f"Unknown format {name!r}. Known: {', '.join(FORMATS)}.")
    if not (0 < scale < np.inf and np.isfinite(offset)):
        raise ConfigError(f"--scale is above 0, e.g. 0.0001. Received: {scale:g} with offset {offset:g}.")
    missing = [module for module in _NEEDED if find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"Export to ONNX needs {' and '.join(missing)}. Run: pip install 'truckscape[export]'"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not an empty folder. Choose another --out, or remove it.")


def _dense_graph(network: Standalone, card: Card, side: int, metadata: Mapping[str, str]) -> bytes:
    """Return the ONNX file of a network for tiles (N, bands, side, side), N free."""
    import torch

    example = torch.zeros(1, len(card.bands), side, side)
    with torch.inference_mode():
        names = _names(card, len(network(example)))
    free = {key: {0: "batch"} for key in ("reflectance", *names)}
    return _graph(network, (example,), card, names, free, metadata)


def _boxes_graph(network: Standalone, card: Card, side: int) -> dict[str, bytes]:
    """Return the ONNX file from a tile's maps to its boxes, checked.

    None if the family has no such graph; a warning names the families that have one.
    """
    import torch

    from pipeline.models.registry import FAMILIES, find_family
    from pipeline.models.standalone import Boxes

    family = find_family(card.task, card.architecture)
    if not family.exports_boxes:
        if card.task == "detection":
            others = ", ".join(sorted(each.name for each in FAMILIES if each.exports_boxes))
            warn(
                f"Model {card.id}: boxes of the family {family.name} are no ONNX graph, so only its maps are "
                f"exported. Families with {_GRAPHS['boxes']}: {others}."
            )
        return {}
    second = Boxes(network.dense.network, family.detected).eval()
    generator = torch.Generator().manual_seed(0)
    content = b""
    for patch in _PATCHES_PX:
        tile = torch.full((1, len(card.bands), side, side), 0.1)
        tile[..., :patch, :patch] = torch.rand((len(card.bands), patch, patch), generator=generator) * 0.6
        with torch.no_grad():
            maps = network(tile)
            expected = np.column_stack([values.numpy() for values in second(*maps)])
        if not content:
            free = {key: {0: "boxes"} for key in family.detected}
            content = _graph(second, maps, card, list(family.detected), free, {})
        inputs = {f"map_{index}": values.numpy() for index, values in enumerate(maps)}
        found = np.column_stack(list(_run(content, inputs).values()))
        if len(found) and len(found) == len(expected):  # equal scores have no order
            found = found[KDTree(found).query(expected)[1]]
        _compare(card, [found], [expected])
    return {"boxes": content}


def _graph(
    network: nn.Module,
    examples: tuple[Tensor, ...],
    card: Card,
    outputs: list[str],
    free: Mapping[str, Mapping[int, str]],
    metadata: Mapping[str, str],
) -> bytes:
    """Return a network as an ONNX file; `free` are the names of dimensions of any size."""
    import onnx
    import torch

    inputs = ["reflectance"] if "reflectance" in free else [f"map_{index}" for index in range(len(examples))]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing and indices: results are compared afterwards
        file = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(
                network,
                examples,
                file,
                dynamo=False,  # 2.5 times as fast as the other exporter
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                dynamic_axes=free,
            )
        except (RuntimeError, TypeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
            said = " ".join(str(error).split())[:200]
            raise BundleError(
                f"Model {card.id}: family {card.architecture} can't be exported to ONNX ({said})."
            ) from error
        model = onnx.load(file)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _names(card: Card, count: int) -> list[str]:
    if card.task == "segmentation":
        return ["probabilities"]
    return [f"map_{index}" for index in range(count)]


def _checked(content: bytes, card: Card, network: Standalone, side: int) -> dict[str, NDArray[np.float32]]:
    """Return the outputs of the file for a random tile; BundleError if the engine's are others."""
    generator = np.random.default_rng(0)
    tile = generator.uniform(0, 0.6, (len(card.bands), side, side)).astype(np.float32)
    tile[:, : side // 8, : side // 8] = np.nan  # a corner without data
    found = _run(content, {"reflectance": tile[None]})
    _compare(card, found.values(), _by_engine(network, card, tile))
    return found


def _run(content: bytes, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _compare(card: Card, found: Iterable[NDArray[np.float32]], expected: Iterable[Any]) -> None:
    """Raise BundleError if values differ by more than `TOLERANCE`, or in number."""
    for result, values in zip(found, expected, strict=True):
        difference = float("inf")
        if result.shape == values.shape:
            apart = np.abs(result - values) / np.maximum(1, np.abs(values))
            difference = float(np.max(apart, initial=0))
        if not difference <= TOLERANCE:
            raise BundleError(
                f"Model {card.id} as ONNX differs from the engine by {difference:.2g}, more than "
                f"{TOLERANCE:g}: not exported. Report this with the versions of torch and onnxruntime."
            )


def _by_engine(network: Standalone, card: Card, tile: NDArray[np.float32]) -> list[Any]:
    from pipeline.inference.runtime import open_runtime
    from pipeline.models.normalise import normalise

    required = tile[[card.bands.index(band) for band in card.required_bands]]
    valid = np.asarray(np.isfinite(required).all(axis=0), np.bool_)
    runtime = open_runtime(
        {card.task: (network.dense.network, len(card.bands))}, Engine(precision="float32"), threads=1
    )
    with runtime.run(card.task, normalise(tile, valid, card)[None]) as maps:
        if card.task == "segmentation":
            scores = (maps[0].permute(0, 3, 1, 2) / card.calibration.temperature).softmax(dim=1)
            return [scores.cpu().numpy()]
        return [part.cpu().numpy().copy() for part in maps]
