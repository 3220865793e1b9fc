"""GeoTIFFs: header, tags, pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from tests.fuzz.damage import BYTES, NUMBERS, extreme_integer, flip_bytes
from tests.fuzz.trial import ANY, ENGINE, Kind, Mutation, Trial

_PIXELS = 64 * 64 * 4 * 2
"""Bytes of the pixels where nothing compresses them; the header is the rest, and comes first."""


def _prepare(trial: Trial, variant: str) -> None:
    trial.corpus.copy(f"tif/{variant}/20230824T102031.tif", trial.box.inputs)
    trial.argv = ["run", "in/20230824T102031.tif", "--out", "out", *ENGINE]
    trial.baseline = "tif"


def _file(trial: Trial) -> Path:
    return trial.box.inputs / "20230824T102031.tif"


def _header_bytes(trial: Trial) -> int:
    size = _file(trial).stat().st_size
    return size - _PIXELS if size > _PIXELS else 1000


def _bytes(name: str) -> Mutation:
    def damage(trial: Trial) -> None:
        data = _file(trial).read_bytes()
        _file(trial).write_bytes(BYTES[name](data, trial.rng))
        # Without compression nothing but the length of the file can show that a byte was changed.
        if name not in ("truncate", "other_content", "remove_span", "zero_end"):
            trial.may_differ |= ANY
        if name == "zero_end" and len(data) > _PIXELS:
            trial.may_differ |= ANY

    return damage


def header_flip(trial: Trial) -> None:
    data = _file(trial).read_bytes()
    _file(trial).write_bytes(flip_bytes(data, trial.rng, 0, _header_bytes(trial)))
    trial.may_differ |= ANY


def header_integer(trial: Trial) -> None:
    data = _file(trial).read_bytes()
    _file(trial).write_bytes(extreme_integer(data, trial.rng, _header_bytes(trial)))
    trial.may_differ |= ANY


def _rewrite(
    change: Callable[[dict[str, Any], np.ndarray, Trial], tuple[dict[str, Any], np.ndarray]],
) -> Mutation:
    """Write the file again with another profile or other pixels."""

    def damage(trial: Trial) -> None:
        with rasterio.open(_file(trial)) as raster:
            profile, numbers = dict(raster.profile), raster.read()
            kept = raster.descriptions, raster.scales, raster.offsets
        extra, numbers = change(profile, numbers, trial)
        profile.update(
            count=len(numbers), dtype=numbers.dtype.name, height=numbers.shape[1], width=numbers.shape[2]
        )
        values = dict(zip(("descriptions", "scales", "offsets"), kept, strict=True)) | extra
        _file(trial).unlink()
        with rasterio.open(_file(trial), "w", **profile) as raster:
            raster.write(numbers)
            for name, value in values.items():
                if len(value) == raster.count:
                    setattr(raster, name, value)

    return damage


def _tags(profile: dict[str, Any], numbers: np.ndarray, trial: Trial) -> tuple[dict[str, Any], np.ndarray]:
    """Set scale, offset or nodata of one or all bands."""
    name = trial.rng.choice(("scales", "offsets", "nodata"))
    value = float(trial.rng.choice((*NUMBERS, 0.0001, -0.1)))
    trial.note = f"{name} {value}"
    if math.isfinite(value) and value and abs(value) < 1e30:
        trial.may_differ |= ANY
    if name == "nodata":
        profile["nodata"] = value if 0 <= value <= 65535 else None
        trial.may_differ |= ANY  # none, or another number: zeros are pixels then
        return {}, numbers
    usual = 0.0001 if name == "scales" else -0.1
    values = [usual] * 4
    for band in range(4) if trial.rng.random() < 0.5 else [trial.rng.randrange(4)]:
        values[band] = value
    if name == "offsets" and value == 0:
        trial.may_differ |= ANY
    return {name: values}, numbers


def _kind_of_numbers(
    profile: dict[str, Any], numbers: np.ndarray, trial: Trial
) -> tuple[dict[str, Any], np.ndarray]:
    """Write the pixels as another type, with values that this type allows."""
    kind = trial.rng.choice(("uint8", "int16", "int32", "float32", "float64", "complex64", "int8"))
    trial.note, trial.may_differ = kind, {*ANY}
    profile["nodata"] = None
    with np.errstate(all="ignore"):
        made = numbers.astype(kind)
    if kind.startswith("float"):
        extreme = trial.rng.choice((np.nan, np.inf, -np.inf, np.finfo(kind).max, np.finfo(kind).min, 1e-45))
        made[trial.rng.randrange(4), : trial.rng.choice((1, 32, 64))] = extreme
    return {}, made


def _place(profile: dict[str, Any], numbers: np.ndarray, trial: Trial) -> tuple[dict[str, Any], np.ndarray]:
    """Set a georeference that is none, or elsewhere."""
    rng, trial.may_differ = trial.rng, {*ANY}
    t = profile["transform"]
    profile["transform"] = rng.choice(
        (
            Affine(t.a, t.b, math.nan, t.d, t.e, t.f), Affine(math.inf, 0, t.c, 0, t.e, t.f), Affine(0, 0,
            0, 0, 0, 0),
            Affine(1e308, 0, 0, 0, -1e308, 0), Affine(10, 0, 1e12, 0, -10, 1e12), Affine(10, 0, 600000, 0,
            10, 5800000),
            Affine(-10, 0, 600000, 0, -10, 5800000), Affine(1e-300, 0, 600000, 0, -1e-300, 5800000),
            Affine(7, 7, 600000, 7, -7, 5800000), Affine(10, 10, 600000, 10, 10, 5800000),
            Affine.identity(), t,
        )
    )  # fmt: skip
    profile["crs"] = rng.choice(
        (profile["crs"], None, "EPSG:4326", "EPSG:3857", "EPSG:5041", "EPSG:4978", "EPSG:32760")
    )
    trial.note = f"{profile['crs']} {tuple(profile['transform'])[:6]}"
    return {}, numbers


def _bands(profile: dict[str, Any], numbers: np.ndarray, trial: Trial) -> tuple[dict[str, Any], np.ndarray]:
    """Give other names to bands, or leave some out."""
    names = trial.rng.choice(
        (
            ("B02", "B02", "B03", "B04"), ("B02", "B03", "B04", None), ("b2", "blue", "Red", "NIR"),
            ("B02",) * 4,
            ("B08", "B04", "B03", "B02"), ("\x1b[31m", "../..", "<b>", "B02"), ("B99", "B0", "B", "SCL"),
            ("B02 B03", "B03", "B04", "B08"), ("x" * 5000, "B03", "B04", "B08"),
        )
    )  # fmt: skip
    count = trial.rng.choice((1, 2, 3, 4, 4, 4))
    trial.note, trial.may_differ = f"{count} of {names}"[:200], {*ANY}
    return {"descriptions": names[:count], "scales": (0.0001,) * count, "offsets": (-0.1,) * count}, numbers[
        :count
    ]


def _pixels(profile: dict[str, Any], numbers: np.ndarray, trial: Trial) -> tuple[dict[str, Any], np.ndarray]:
    """Set absurd pixels, or another size."""
    trial.may_differ = {*ANY}
    choice = trial.rng.choice(("zero", "one value", "65535", "noise", "1 x 1", "row", "empty band"))
    trial.note = choice
    if choice == "1 x 1":
        return {}, numbers[:, :1, :1]
    if choice == "row":
        return {}, numbers[:, :1]
    if choice == "noise":
        return {}, np.random.default_rng(trial.rng.randrange(2**32)).integers(
            0, 65536, numbers.shape, np.uint16
        )
    band = trial.rng.randrange(4) if choice == "empty band" else slice(None)
    numbers[band] = {"one value": 1500, "65535": 65535}.get(choice, 0)
    return {}, numbers


def large_blocks(trial: Trial) -> None:
    """Replace the file by one of some kB whose blocks or size are huge; sparse, so nothing is stored."""
    side, block = trial.rng.choice(((4096, 256), (8192, 8192), (16384, 16384)))
    trial.argv += ["--set=tiling.tile_px=1024", "--set=tiling.shards=1"]
    profile = {"driver": "GTiff", "count": 4, "dtype": "uint16", "crs": "EPSG:32632", "sparse_ok": True}
    tiles = {"tiled": True, "blockxsize": block, "blockysize": block, "compress": "deflate", "BIGTIFF": "YES"}
    place = {"width": side, "height": side, "transform": Affine(10, 0, 3e5, 0, -10, 59e5)}
    _file(trial).unlink()
    trial.note, trial.may_differ = f"{side} px, blocks of {block}", {*ANY}
    with rasterio.open(_file(trial), "w", nodata=0, **profile, **tiles, **place) as raster:
        raster.descriptions = ("B02", "B03", "B04", "B08")


def beside(trial: Trial) -> None:
    """Put files beside the raster that GDAL would read with it."""
    name = trial.rng.choice((".aux.xml", ".msk", ".ovr", ".tfw", ".prj", ".vrt", "_metadata.xml"))
    text = trial.rng.choice(
        (
            "<PAMDataset><PAMRasterBand band='1'><Scale>7</Scale></PAMRasterBand></PAMDataset>",
            "<VRTDataset rasterXSize='64' rasterYSize='64'>"
            "<SourceFilename>../../beside/secret.txt</SourceFilename>"
            "</VRTDataset>",
            "nan\n0\n0\nnan\n0\n0\n",
            "\x00" * 300,
        )
    )
    trial.note = name
    _file(trial).with_name(_file(trial).name + name).write_text(text)
    _file(trial).with_suffix(name).write_text(text)


GEOTIFF = Kind(
    "geotiff",
    _prepare,
    {
        **{name: _bytes(name) for name in BYTES},
        "header_flip": header_flip,
        "header_integer": header_integer,
        "tags": _rewrite(_tags),
        "type": _rewrite(_kind_of_numbers),
        "place": _rewrite(_place),
        "bands": _rewrite(_bands),
        "pixels": _rewrite(_pixels),
        "large_blocks": large_blocks,
        "beside": beside,
    },
    ("none", "deflate"),
)
