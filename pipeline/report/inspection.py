"""Page of a network at a place: kernels, feature maps, proposals, receptive fields and layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.inference.inspection import Convolution, Inspection
from pipeline.report.page import copernicus_notice
from pipeline.report.pictures import TRUE_COLOUR, data_uri, true_colour
from pipeline.report.template import write_page
from pipeline.storage.atomic import make_folder

_PICTURE_PX = 640
_MAP_PX = 128
_MOST_MAPS, _MOST_KERNELS = 6, 16
_KERNEL_PX = 8
_PROPOSAL, _ROI, _DETECTION = "#fde047", "#94a3b8", "#22d3ee"
_GAP = 4


def write_inspection(path: Path, found: Inspection) -> None:
    """Write an inspection as one page that needs no other file.

    Raises
    ------
    OutputError
        If `path` can't be written.
    """
    make_folder(path.parent)
    card, layers = found.card, found.convolutions
    fields = _fields(layers)
    write_page(
        path,
        "inspection.html.j2",
        title=f"{card.id} at {found.at[0]}, {found.at[1]}",
        found=found,
        side=found.valid.shape[0],
        fields=fields,
        field_picture=_field_picture(found, fields),
        kernels=_kernels(found.kernels),
        kernel_bands=card.bands if found.kernels.shape[1] == len(card.bands) else (),
        kernel_count=min(len(found.kernels), _MOST_KERNELS),
        stages=[(layer, *_strongest(layer)) for layer in layers if layer.maps is not None],
        region_picture=None if found.proposals is None else _region_picture(found),
        region_colours={"proposal": _PROPOSAL, "RoI": _ROI, "detection": _DETECTION},
        rows=[(layer, *_sums(layer), layer.macs / found.valid.size) for layer in layers],
        macs=sum(layer.macs for layer in layers) / found.valid.size,
        parameters=sum(layer.parameters for layer in layers),
        attribution=copernicus_notice(found.scene),
    )


def _sums(layer: Convolution) -> tuple[str, str]:
    """Return how the output's side and the number of parameters follow from the layer's numbers."""
    reach = layer.dilation * (layer.kernel - 1) + 1
    if layer.kind == "transposed":
        side = f"({layer.input_side} - 1) x {layer.stride} + {reach} - 2 x {layer.padding}"
        side += f" = {layer.output_side}"
    else:
        side = f"({layer.input_side} - {reach} + 2 x {layer.padding}) / {layer.stride} + 1"
        side += f" = {layer.output_side}"
    groups = f" / {layer.groups}" if layer.groups > 1 else ""
    weights = layer.kernel**2 * layer.inputs * layer.outputs // layer.groups
    bias = f" + {layer.parameters - weights}" if layer.parameters > weights else ""
    return side, (f"{layer.kernel}^2 x {layer.inputs} x {layer.outputs}{groups}{bias} = {layer.parameters:,}")


def _fields(layers: Iterable[Convolution]) -> list[tuple[int, str, list[str]]]:
    """Return each size of receptive field, ascending, with its colour and the layers that have it."""
    bounded = sorted(
        ((layer.receptive_field, layer.name) for layer in layers if layer.receptive_field),
        key=lambda one: one[0],
    )
    grouped = [
        (size, [name for _, name in group]) for size, group in groupby(bounded, key=lambda one: one[0])
    ]
    shades = colormaps["plasma"](np.linspace(0.95, 0.3, len(grouped)))
    return [(size, to_hex(shade), names) for (size, names), shade in zip(grouped, shades, strict=True)]


def _background(found: Inspection) -> tuple[Image.Image, int]:
    """Return the window in true colour or, without these bands, in its first band; enlarged by the factor."""
    bands = TRUE_COLOUR if set(TRUE_COLOUR) <= set(found.bands) else found.bands[:1] * 3
    index = [found.bands.index(band) for band in bands]
    rgba = true_colour(found.reflectance[index], found.valid)
    zoom = max(1, _PICTURE_PX // rgba.shape[0])
    return Image.fromarray(rgba[..., :3].repeat(zoom, axis=0).repeat(zoom, axis=1)), zoom


def _field_picture(found: Inspection, fields: Sequence[tuple[int, str, list[str]]]) -> str:
    """Return a picture of the window with a square for each receptive field around the place."""
    picture, zoom = _background(found)
    pen = ImageDraw.Draw(picture)
    col, row = (number + 0.5 for number in found.place)
    for size, colour, _ in reversed(fields):
        half = size / 2
        corners = [zoom * edge for edge in (col - half, row - half, col + half, row + half)]
        pen.rectangle(corners, outline=colour, width=2)
    pen.ellipse([zoom * col - 3, zoom * row - 3, zoom * col + 3, zoom * row + 3], fill=_DETECTION)
    return data_uri(np.asarray(picture))


def _region_picture(found: Inspection) -> str:
    """Return a picture of the window with its RoIs, proposals and detections, in this order."""
    picture, zoom = _background(found)
    pen = ImageDraw.Draw(picture)
    for boxes, colour, width in (
        (found.rois, _ROI, 1),
        (found.proposals, _PROPOSAL, 1),
        (found.detections, _DETECTION, 3),
    ):
        for box in () if boxes is None else boxes:
            pen.rectangle([zoom * float(edge) for edge in box], outline=colour, width=width)
    return data_uri(np.asarray(picture))


def _kernels(weights: NDArray[np.float32]) -> str:
    """Return a picture of weights (C_out, C_in, K, K): a row for each input, a column for each output.

    Red is positive, blue negative, white 0, on one scale.
    """
    most = max(float(np.abs(weights).max()), 1e-12)
    shown = colormaps["RdBu_r"](weights[:_MOST_KERNELS].transpose(1, 0, 2, 3) / most / 2 + 0.5)
    rows = [_side_by_side([_enlarged(cell, _KERNEL_PX) for cell in row]) for row in shown]
    return data_uri(_bytes(_stacked(rows)))


def _strongest(layer: Convolution) -> tuple[str, list[int]]:
    """Return a picture of the channels with the largest deviation, side by side, and their numbers."""
    maps = layer.maps if layer.maps is not None else np.empty((0, 1, 1), np.float32)
    best = np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:_MOST_MAPS]
    cells = []
    for each in maps[best]:
        low, high = float(each.min()), float(each.max())
        colours = colormaps["viridis"]((each - low) / max(high - low, 1e-12))
        cells.append(_enlarged(colours, max(1, _MAP_PX // max(each.shape))))
    return data_uri(_bytes(_side_by_side(cells))), [int(number) for number in best]


def _enlarged(cell: NDArray[np.float64], zoom: int) -> NDArray[np.float64]:
    return cell.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _side_by_side(cells: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.pad(cell, ((0, 0), (0, _GAP), (0, 0))) for cell in cells], axis=1)


def _stacked(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.pad(row, ((0, _GAP), (0, 0), (0, 0))) for row in rows], axis=0)


def _bytes(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.round(shares * 255).astype(np.uint8)
