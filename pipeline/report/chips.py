"""Chips of confusion cases: true colour beside the difference of two bands, with the boxes of both sides."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import median_filter

from pipeline.errors import OutputError
from pipeline.evaluation.trucks.boxes import centres
from pipeline.report.pictures import TRUE_COLOUR, true_colour
from pipeline.scenes.raster.patches import Patch, patches
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import replacing_folder

CHIP_PX = 24
ZOOM = 5
"""Pixels of a chip for each of the scene, so that thin boxes can be drawn."""
MOST_CHIPS = 3000
"""Largest number of chips of a scene, about 6 MB."""
CHIPS = "chips"
"""Their folder in that of an evaluation."""
MEDIA_TYPE = "image/webp"
BRIGHTEST = 95.0
"""Percentile shown brightest: roofs may burn out, so that the dim colours of a truck can be seen."""
_GAP = 6
_COLOURS = 128  # of a chip: half the bytes of all its colours, and nothing that the eye would miss
_SURROUNDINGS_PX = 7
_PREDICTED, _REFERENCE, _PLACE, _HALO = "#ffffff", "#fde047", "#cbd5e1", "#0b1220"
_BLUE, _ORANGE = np.array([64, 150, 255.0]), np.array([255, 140, 40.0])
"""Colours of brighter B02 and brighter B04, distinct for every kind of colour vision."""
_LEAST_DIFFERENCE = 0.02
"""Reflectance that is shown in full colour at least, or noise would glow."""


def case_chips(
    scene: Scene,
    cases: gpd.GeoDataFrame,
    predicted: gpd.GeoDataFrame | None = None,
    reference: gpd.GeoDataFrame | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yield a WebP of each case, (id, bytes), in no fixed order; `data:image/webp;base64,...` inlines it.

    `cases` are those of `truck_cases`, with a column `id`. `predicted` and `reference` are the boxes of both
    sides (`TruckEvaluation.predicted`, `.reference`); without them the boxes of the cases are drawn. All may
    be in any CRS. A chip is two squares of `CHIP_PX` pixels of the scene, `ZOOM` times enlarged, side by
    side: true colour, and B04 minus B02 (orange: B04 brighter, blue: B02 brighter), in which a moving object
    is a pair of both colours. Detections are white, references yellow and dashed, other places grey and
    dotted. Each block of the scene is decoded once for all chips. A chip has about 2 kB.

    Yields nothing for a scene without B02, B03 or B04, nor for places without pixels.

    Raises
    ------
    CorruptImageError
        If a block can't be decoded.
    """
    if any(band not in scene.bands for band in TRUE_COLOUR) or not len(cases):
        return
    crs = scene.grid.crs.to_wkt() if scene.grid.crs else None
    places = _on(cases, crs)
    from_map = ~scene.grid.affine
    boxes = _boxes(places, predicted, reference, crs)
    tree = shapely.STRtree([shapely.box(*box) for box, _ in boxes])
    xy = np.stack(from_map * tuple(centres(places).T), axis=1)
    ids = cases["id"].astype(str).tolist()
    for patch in patches(scene, xy, CHIP_PX, TRUE_COLOUR):
        if not patch.valid.any():
            continue
        corners = (
            scene.grid.affine * (patch.col, patch.row),
            scene.grid.affine
            * (
                patch.col + CHIP_PX,
                patch.row + CHIP_PX,
            ),
        )
        (x0, y0), (x1, y1) = corners
        near = tree.query(shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
        drawn = []
        for number in sorted(near.tolist()):
            (west, south, east, north), colour = boxes[number]
            (a, b), (c, d) = from_map * (west, north), from_map * (east, south)
            drawn.append(((a - patch.col, b - patch.row, c - patch.col, d - patch.row), colour))
        yield ids[patch.index], _chip(patch, drawn)


def cases_with_chips(cases: gpd.GeoDataFrame, most: int = MOST_CHIPS) -> gpd.GeoDataFrame:
    """Select cases for chips: all mistakes and true negatives, then the others, evenly, up to `most`."""
    first = cases["outcome"].isin(["FP", "FN", "TN"]).to_numpy()
    rows: list[int] = []
    for part in (np.flatnonzero(first), np.flatnonzero(~first)):
        room = min(len(part), most - len(rows))
        rows += part[np.linspace(0, len(part) - 1, room).round().astype(np.intp)].tolist() if room else []
    return cases.iloc[sorted(rows)]


def write_chips(folder: Path, chips: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Leave chips as `<id>.webp` in `folder`, in place of what is there, and hand them on by id.

    Raises
    ------
    OutputError
        If the folder can't be written; then it is as it was.
    """
    written = {}
    _check_chips(folder)
    with replacing_folder(folder) as part:
        for name, image in chips:
            (part / f"{name}.webp").write_bytes(image)
            written[name] = image
        shutil.rmtree(folder, ignore_errors=True)
    return written


def _check_chips(folder: Path) -> None:
    """Raise OutputError if a folder of chips has other files, or is a link: it would be removed."""
    try:
        others = [path.name for path in folder.iterdir() if path.suffix != ".webp"] if folder.exists() else []
    except OSError as error:
        raise OutputError(f"{folder} can't be written ({error.strerror}).") from error
    if others or folder.is_symlink():
        why = f"it has {others[0]}" if others else "it is a link"
        raise OutputError(f"{folder} is no folder of chips ({why}). Move it away, or choose another --out.")


def band_difference(reflectance: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(H, W, 4) uint8 of B04 less B02, (3, H, W) B04, B03, B02: orange where it is above its surroundings'
    median, blue below; so the colours of fields go, and those of what moves stay."""
    rgba = np.zeros((*valid.shape, 4), dtype=np.uint8)
    if valid.any():
        difference = reflectance[0] - reflectance[2]
        difference = difference - median_filter(difference, _SURROUNDINGS_PX, mode="nearest")
        most = max(float(np.percentile(np.abs(difference[valid]), 99)), _LEAST_DIFFERENCE)
        share = np.clip(np.abs(difference[valid]) / most, 0, 1)[:, None]
        hue = np.where(difference[valid][:, None] > 0, _ORANGE, _BLUE)
        rgba[valid, :3] = 20 + share * (hue - 20)
        rgba[valid, 3] = 255
    return rgba


_Box = tuple[float, float, float, float]


def _boxes(
    cases: gpd.GeoDataFrame,
    predicted: gpd.GeoDataFrame | None,
    reference: gpd.GeoDataFrame | None,
    crs: str | None,
) -> list[tuple[_Box, str]]:
    """Bounds and colour of everything that is drawn, in the scene's CRS."""
    lost = cases["outcome"].isin(["FN", "not_seen"])
    elsewhere = cases["outcome"] == "TN"
    sides = (
        (cases[elsewhere], _PLACE),
        (_on(reference, crs) if reference is not None else cases[lost], _REFERENCE),
        (_on(predicted, crs) if predicted is not None else cases[~lost & ~elsewhere], _PREDICTED),
    )
    return [(tuple(box), colour) for frame, colour in sides for box in frame.bounds.to_numpy().tolist()]


def _on(frame: gpd.GeoDataFrame, crs: str | None) -> gpd.GeoDataFrame:
    return frame if crs is None or frame.crs is None else frame.to_crs(crs)


def _chip(patch: Patch, boxes: list[tuple[_Box, str]]) -> bytes:
    side = CHIP_PX * ZOOM
    image = Image.new("RGB", (2 * side + _GAP, side), _HALO)
    pictures = (
        true_colour(patch.reflectance, patch.valid, BRIGHTEST),
        band_difference(patch.reflectance, patch.valid),
    )
    for number, picture in enumerate(pictures):
        part = Image.fromarray(picture[..., :3]).resize((side, side), Image.Resampling.NEAREST)
        _draw(ImageDraw.Draw(part), boxes)
        image.paste(part, (number * (side + _GAP), 0))
    buffer = io.BytesIO()
    few = image.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.convert("RGB").save(buffer, format="WEBP", lossless=True, quality=20, method=1)
    return buffer.getvalue()


def _draw(pen: ImageDraw.ImageDraw, boxes: list[tuple[_Box, str]]) -> None:
    for box, colour in boxes:
        west, north, east, south = (round(ZOOM * side) for side in box)
        pen.rectangle((west - 1, north - 1, east + 1, south + 1), outline=_HALO, width=3)
        ring = ((west, north), (east, north), (east, south), (west, south), (west, north))
        for begin, end in pairwise(ring):
            if colour == _PREDICTED:
                pen.line((begin, end), fill=colour)
            else:
                _broken(pen, begin, end, colour, *((5, 3) if colour == _REFERENCE else (1, 3)))


def _broken(
    pen: ImageDraw.ImageDraw,
    begin: tuple[int, int],
    end: tuple[int, int],
    colour: str,
    dash: int,
    gap: int,
) -> None:
    """Return a line along an axis, in dashes; lengths in pixels of the chip."""
    length = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]))
    right, down = np.sign(end[0] - begin[0]), np.sign(end[1] - begin[1])
    for at in range(0, length, dash + gap):
        stop = min(length, at + dash - 1)
        pen.line(
            (begin[0] + right * at, begin[1] + down * at, begin[0] + right * stop, begin[1] + down * stop),
            fill=colour,
        )
