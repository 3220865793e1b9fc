"""Ground of a simulated world: parcels, forest, water, towns, drawn at 5 m and averaged to 10 m."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.world import spectra
from pipeline.simulation.world.buildings import STREET_ACROSS, STREET_ALONG
from pipeline.simulation.world.network import near_line
from pipeline.simulation.world.noise import fractal_field, hashed, smooth_field, uniform
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.spectra import INDEX, VARIANTS

FIELD_BLOCK_PX = 64.0
"""Spacing of the blocks of fields with a common direction."""
FOREST_SHARE_LEVEL = 0.35
"""Level of the forest field (a standard normal variable) above which there is forest."""


@dataclass(frozen=True)
class Ground:
    """Ground on a 10 m grid, before roads, buildings and the instrument."""

    reflectance: NDArray[np.float32]
    """(C, H, W)."""
    landcover: NDArray[np.uint8]
    """(H, W), legend of Dynamic World."""


class _Canvas:
    """Material, shade and light of every sub-pixel of a window; later layers cover earlier ones."""

    def __init__(self, world: World, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> None:
        self.world, self.xs, self.ys = world, xs, ys
        shape = (len(ys), len(xs))
        self.material = np.full(shape, INDEX["meadow"], np.uint8)
        self.shade = np.zeros(shape, np.uint8)
        self.light = np.ones(shape, np.float32)
        self.mix = fractal_field(xs, ys, 26, world.field_seed + 40, 4, 0.6)

    def put(self, where: NDArray[np.bool_], material: str, shade: NDArray[np.uint8] | int = 0) -> None:
        self.material[where] = INDEX[material]
        self.shade[where] = shade

    def local(
        self, x: float, y: float, angle: float, reach: float
    ) -> tuple[tuple[slice, slice], NDArray[np.float32], NDArray[np.float32]]:
        """Return the part within `reach` of a place, and its coordinates along and across `angle`."""
        cols = slice(*np.searchsorted(self.xs, [x - reach, x + reach]).tolist())
        rows = slice(*np.searchsorted(self.ys, [y - reach, y + reach]).tolist())
        px = (self.xs[cols] - x).astype(np.float32)[None, :]
        py = (self.ys[rows] - y).astype(np.float32)[:, None]
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return (rows, cols), px * c + py * s, py * c - px * s


def render_ground(
    world: World, xs: NDArray[np.float64], ys: NDArray[np.float64], bands: tuple[str, ...]
) -> Ground:
    """Return the ground at the pixels with centres `xs`, `ys`. Memory: about 300 bytes a pixel."""
    fine_x = (xs[:, None] + [-0.25, 0.25]).ravel()
    fine_y = (ys[:, None] + [-0.25, 0.25]).ravel()
    canvas = _Canvas(world, fine_x, fine_y)
    _paint_fields(canvas)
    _paint_forest(canvas)
    _paint_water(canvas)
    _paint_towns(canvas)
    _paint_zones(canvas)
    return Ground(_reflectance(canvas, bands), _majority(spectra.LANDCOVER[canvas.material]))


def _paint_fields(canvas: _Canvas) -> None:
    """Paint blocks of parallel parcels, with tracks and hedges between the blocks.

    The blocks are Voronoi cells of a jittered lattice. Each is cut into strips, and the strips into parcels.
    """
    world, seed = canvas.world, canvas.world.field_seed
    bend_x = smooth_field(canvas.xs, canvas.ys, 70, seed + 1) * np.float32(4)
    bend_y = smooth_field(canvas.xs, canvas.ys, 70, seed + 2) * np.float32(4)
    x = canvas.xs.astype(np.float32)[None, :] + bend_x
    y = canvas.ys.astype(np.float32)[:, None] + bend_y
    cells = _voronoi(x, y, seed)
    name, boundary = cells.names[cells.cell], cells.edge

    # neighbouring blocks are parallel to the same valley or old road, or perpendicular to it
    lie = 0.35 * (seed % 9) + 0.5 * np.sin(cells.x / 210) + 0.4 * np.sin(cells.y / 260)
    lie = lie + 0.6 * uniform(seed + 5, cells.names) + np.pi / 2 * (uniform(seed + 6, cells.names) < 0.4)
    width = (5 + 28 * uniform(seed + 7, cells.names) ** 2)[cells.cell]
    length = (15 + 70 * uniform(seed + 8, cells.names) ** 1.5)[cells.cell]
    c, s = np.cos(lie).astype(np.float32)[cells.cell], np.sin(lie).astype(np.float32)[cells.cell]
    v = (x * c + y * s) / width
    strip = np.floor(v).astype(np.int32)
    # some strips merge with their neighbour, for parcels of one and of two widths
    joined = (strip & 1 == 1) & (uniform(seed + 9, name, strip >> 1) < 0.45)
    strip = strip - joined
    u = (y * c - x * s) / length + uniform(seed + 10, name, strip)
    piece = np.floor(u).astype(np.int32)
    parcel = hashed(seed + 11, name, strip, piece)

    names = list(world.season.crops)
    shares = np.cumsum(list(world.season.crops.values()))
    crop = np.searchsorted(shares / shares[-1], uniform(seed + 12, parcel), side="right")
    canvas.material[:] = np.array([INDEX[name] for name in names], np.uint8)[np.minimum(crop, len(names) - 1)]
    canvas.shade[:] = (parcel % VARIANTS).astype(np.uint8)
    grazed = smooth_field(canvas.xs, canvas.ys, 170, seed + 21) + 0.9 * uniform(seed + 22, parcel) > 1.15
    canvas.material[grazed] = INDEX["meadow"]

    # tramlines and the direction of tillage
    rows = np.cos((v * width) * np.float32(2 * np.pi) / (1.9 + 2.6 * uniform(seed + 13, parcel)))
    drill = uniform(seed + 14, parcel, np.floor(v * width * 0.9).astype(np.int32)) - np.float32(0.5)
    canvas.light += (rows * np.float32(0.016) + drill * np.float32(0.05)) * (0.3 + uniform(seed + 15, parcel))
    canvas.light += smooth_field(canvas.xs, canvas.ys, 7, seed + 16) * np.float32(0.03)

    margin = np.minimum(v - np.floor(v), np.ceil(v) - v) * width < 0.22
    margin &= ~joined & (uniform(seed + 17, name, strip) < 0.5)
    canvas.put(margin, "verge")
    kind = uniform(seed + 18, cells.pair)
    track = (boundary < 0.24) & (kind < 0.55)
    canvas.put(track, "track", (cells.pair[track] % VARIANTS).astype(np.uint8))
    hedge = (boundary < 0.4 + 0.9 * uniform(seed + 19, cells.pair)) & (kind > 0.78)
    hedge &= smooth_field(canvas.xs, canvas.ys, 9, seed + 20) > -0.7
    canvas.put(hedge, "broadleaf")


@dataclass(frozen=True)
class _Cells:
    """Voronoi cells of a jittered lattice, N of them around a grid."""

    names: NDArray[np.uint32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    """(N,), pixels."""
    cell: NDArray[np.int32]
    """(H, W), index of each place's cell."""
    edge: NDArray[np.float32]
    """(H, W), distance to the nearest edge of the cell, pixels."""
    pair: NDArray[np.uint32]
    """(H, W), number of the nearest edge, the same on both sides."""


def _voronoi(x: NDArray[np.float32], y: NDArray[np.float32], seed: int) -> _Cells:
    """Return the cells at coordinates `x`, `y`, (H, W) each."""
    cx, cy = x / np.float32(FIELD_BLOCK_PX), y / np.float32(FIELD_BLOCK_PX)
    ix, iy = np.floor(cx).astype(np.int32), np.floor(cy).astype(np.int32)
    first_x, first_y = int(ix.min()) - 1, int(iy.min()) - 1
    columns, rows = int(ix.max()) + 2 - first_x, int(iy.max()) + 2 - first_y
    node_y, node_x = np.mgrid[first_y : first_y + rows, first_x : first_x + columns].reshape(2, -1)
    names = hashed(seed + 3, node_y, node_x)
    at_x = (node_x + uniform(seed + 4, names)).astype(np.float32)
    at_y = (node_y + uniform(seed + 5, names)).astype(np.float32)
    centre = (iy - first_y) * np.int32(columns) + (ix - first_x)
    best = np.full(x.shape, np.inf, np.float32)
    second = best.copy()
    cell, other = np.zeros(x.shape, np.int32), np.zeros(x.shape, np.int32)
    for step in (dy * columns + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        node = centre + np.int32(step)
        distance = (at_x[node] - cx) ** 2 + (at_y[node] - cy) ** 2
        nearer = distance < best
        loser, lost = np.where(nearer, cell, node), np.where(nearer, best, distance)
        best, cell = np.where(nearer, distance, best), np.where(nearer, node, cell)
        closer = lost < second
        second, other = np.where(closer, lost, second), np.where(closer, loser, other)
    edge = (np.sqrt(second) - np.sqrt(best)) * np.float32(FIELD_BLOCK_PX / 2)
    side = np.float32(FIELD_BLOCK_PX)
    return _Cells(names, at_x * side, at_y * side, cell, edge, names[cell] ^ names[other])


def _paint_forest(canvas: _Canvas) -> None:
    seed, xs, ys = canvas.world.field_seed, canvas.xs, canvas.ys
    big = fractal_field(xs, ys, 150, seed + 60, 5, 0.55)
    # shade identifies the parcel: complete parcels are wooded or cleared, for straight edges
    stand = (canvas.shade.astype(np.float32) / np.float32(VARIANTS) - np.float32(0.5)) * np.float32(0.7)
    level = big + stand - np.float32(FOREST_SHARE_LEVEL)
    scrub = (level > -0.12) & (level <= 0.0) & (smooth_field(xs, ys, 40, seed + 66) > 0.2)
    forest = level > 0
    canvas.put(scrub, "shrub")
    conifer = forest & (fractal_field(xs, ys, 60, seed + 67, 4) > 0.15)
    shade = ((smooth_field(xs, ys, 45, seed + 68) + 4) * 2).astype(np.uint8)
    canvas.material[forest] = INDEX["broadleaf"]
    canvas.material[conifer] = INDEX["conifer"]
    canvas.shade[forest] = shade[forest]
    canvas.light[forest] = 1.0
    crowns = smooth_field(xs, ys, 1.3, seed + 69) * np.float32(0.09) + smooth_field(
        xs, ys, 5, seed + 70
    ) * np.float32(0.05)
    wooded = forest | scrub
    canvas.light[wooded] += crowns[wooded]
    # trees cast shadows on their neighbourhood
    reach = 18 * np.tan(np.deg2rad(canvas.world.season.sun_zenith_deg)) / 5
    azimuth = np.deg2rad(canvas.world.season.sun_azimuth_deg)
    down, right = round(float(reach * np.cos(azimuth))), round(float(-reach * np.sin(azimuth)))
    cast = np.roll(forest, (down, right), (0, 1)) & ~forest
    canvas.light[cast] *= 0.62


def _paint_water(canvas: _Canvas) -> None:
    seed, xs, ys = canvas.world.field_seed, canvas.xs, canvas.ys
    for lake in canvas.world.lakes:
        part, u, v = canvas.local(lake.x, lake.y, 0.0, lake.radius * 1.7)
        if u.size == 0 or v.size == 0:
            continue
        wobble = fractal_field(xs[part[1]], ys[part[0]], lake.radius * 0.9, seed + 80, 4, 0.5)
        shore = np.hypot(u, v) - np.float32(lake.radius) * (1 + np.float32(0.22) * wobble)
        reeds = smooth_field(xs[part[1]], ys[part[0]], 18, seed + 84) > 0.35
        _put_part(canvas, part, (shore < 2.2) & reeds, "marsh")
        _put_part(canvas, part, (shore < 0.8) & ~reeds, "broadleaf")
        _put_part(canvas, part, shore < 0, "lake", int(lake.radius * 7) % VARIANTS)
    wobble, bars = smooth_field(xs, ys, 35, seed + 85), smooth_field(xs, ys, 7, seed + 86)
    for k, river in enumerate(canvas.world.rivers):
        near = near_line(river.points, xs, ys, river.width * 1.5 + 6)
        distance = np.abs(near.offset)
        half = river.width / 2 * (1 + 0.18 * wobble[near.rows, near.cols])
        # bars of gravel alternate between the sides
        swing = np.sin(near.along / 41.0) * np.sign(near.offset) + 0.6 * bars[near.rows, near.cols]
        for bank, material in (
            ((distance < half + 4 + wobble[near.rows, near.cols] * 3), "broadleaf"),
            ((distance < half + 3 * wobble[near.rows, near.cols]) & (swing < -0.4), "marsh"),
            ((distance < half + 1.4) & (swing > 1.0), "gravel"),
            ((distance < half), "river"),
        ):
            rows, cols = near.rows[bank], near.cols[bank]
            canvas.material[rows, cols] = INDEX[material]
            canvas.shade[rows, cols] = (seed + 5 * k) % VARIANTS
            canvas.light[rows, cols] = 1.0


def _put_part(
    canvas: _Canvas, part: tuple[slice, slice], where: NDArray[np.bool_], material: str, shade: int = 0
) -> None:
    canvas.material[part][where] = INDEX[material]
    canvas.shade[part][where] = shade
    canvas.light[part][where] = 1.0


def _paint_towns(canvas: _Canvas) -> None:
    seed, xs, ys = canvas.world.field_seed, canvas.xs, canvas.ys
    for town in canvas.world.towns:
        part, u, v = canvas.local(town.x, town.y, town.angle, town.radius * 2.2)
        if u.size == 0 or v.size == 0:
            continue
        px, py = xs[part[1]], ys[part[0]]
        distance = town.outwards(u, v)
        inside = distance < 1 + np.float32(0.10) * smooth_field(px, py, 5, seed + 90)
        _put_part(canvas, part, inside, "garden", int(town.x) % VARIANTS)
        green = smooth_field(px, py, 9, seed + 93)
        small = smooth_field(px, py, 1.6, seed + 94)
        _put_part(canvas, part, inside & (small + 0.5 * green > 1.25), "broadleaf")
        park = inside & (green > 1.55)
        _put_part(canvas, part, park, "meadow", 5)
        _put_part(canvas, part, park & (small > 0.3), "broadleaf", 3)
        paved = inside & (small - green > 1.7 + distance)
        _put_part(canvas, part, paved, "concrete", 9)
        street = np.abs(v / STREET_ACROSS - np.round(v / STREET_ACROSS)) * STREET_ACROSS < 0.33
        street |= np.abs(u / STREET_ALONG - np.round(u / STREET_ALONG)) * STREET_ALONG < 0.33
        _put_part(canvas, part, inside & street, "asphalt", int(town.y) % VARIANTS)


def _paint_zones(canvas: _Canvas) -> None:
    seed, xs, ys = canvas.world.field_seed, canvas.xs, canvas.ys
    for k, zone in enumerate(canvas.world.zones):
        part, u, v = canvas.local(
            zone.x, zone.y, zone.angle, float(np.hypot(zone.half_length, zone.half_width)) * 1.3
        )
        if u.size == 0 or v.size == 0:
            continue
        px, py = xs[part[1]], ys[part[0]]
        inside = (np.abs(u) < zone.half_length) & (np.abs(v) < zone.half_width)
        if zone.kind == "quarry":
            rim = np.hypot(u / zone.half_length, v / zone.half_width) + 0.18 * fractal_field(
                px, py, 12, seed + 96
            )
            _put_part(canvas, part, rim < 1, "gravel", (7 * k) % VARIANTS)
            _put_part(canvas, part, (rim < 0.8) & (smooth_field(px, py, 7, seed + 97) > 0.1), "sand", 11)
            _put_part(canvas, part, rim < 0.28, "lake", 20)
            continue
        base = {"industry": "concrete", "rest_area": "asphalt", "greenhouses": "garden", "solar": "garden"}[
            zone.kind
        ]
        _put_part(canvas, part, inside, base, (11 * k) % VARIANTS)
        if zone.kind == "industry":
            patch = smooth_field(px, py, 6, seed + 98)
            _put_part(canvas, part, inside & (patch > 0.2), "asphalt", 13)
            _put_part(canvas, part, inside & (patch < -1.1), "verge", 17)
            edge = np.minimum(zone.half_length - np.abs(u), zone.half_width - np.abs(v))
            _put_part(canvas, part, inside & (edge < 0.8) & (patch < 0.6), "broadleaf", 2)


def _reflectance(canvas: _Canvas, bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Mix the spectra of the materials with their companions, light them and average to 10 m."""
    seed, xs, ys = canvas.world.field_seed, canvas.xs, canvas.ys
    shades = spectra.palette(np.random.default_rng([canvas.world.seed, 404]))
    code = canvas.material.astype(np.uint16) * VARIANTS + canvas.shade
    companion = spectra.COMPANION[canvas.material] * VARIANTS + (canvas.shade ^ np.uint8(21)) % VARIANTS
    amount = spectra.MIXING[canvas.material]
    mixed = np.clip((canvas.mix * np.float32(0.6) + np.float32(0.4)) * amount, 0, 1)
    speckle = uniform(
        seed + 99, np.round(ys * 4).astype(np.int64)[:, None], np.round(xs * 4).astype(np.int64)[None, :]
    )
    light = canvas.light * (
        1 + (speckle - np.float32(0.5)) * np.float32(2.4) * spectra.GRAIN[canvas.material]
    )
    light *= 1 + canvas.mix * np.float32(0.06)
    np.clip(light, 0.3, 2.0, out=light)
    height, width = len(ys) // 2, len(xs) // 2
    out = np.empty((len(bands), height, width), np.float32)
    for channel, band in enumerate(bands):
        table = shades[:, spectra.BANDS.index(band)]
        own = table[code]
        own += mixed * (table[companion] - own)
        own *= light
        out[channel] = own.reshape(height, 2, width, 2).mean(axis=(1, 3))
    return out


def _majority(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = fine.shape[0] // 2, fine.shape[1] // 2
    four = fine.reshape(height, 2, width, 2).transpose(0, 2, 1, 3).reshape(height, width, 4)
    return np.sort(four, axis=2)[:, :, 1]
