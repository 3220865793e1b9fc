"""A check of reflectance by its pixels: other units, undeclared nodata, a wrong offset."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import RadiometryError
from pipeline.input_warnings import warn
from pipeline.scenes.raster.extents import check_extents
from pipeline.scenes.raster.radiometry import has_number
from pipeline.scenes.raster.thin import thinned
from pipeline.scenes.scene import HARMONISED_OFFSET, BandSource, Scene
from pipeline.scenes.units import VISIBLE, units_advice

Bands = Mapping[str, NDArray[np.float32]]
"""Reflectance (H, W) by band, NaN where there is no data."""
Certainty = Literal["clear", "doubtful", "none"]

_NOT_CHECKED = frozenset({"B01", "B09", "B10"})
"""Coarse bands of the atmosphere, which models do not use."""
_FEW = 100
_SMALL_PX, _LARGE_PX = 16_384, 50_000
"""A smaller place may be one kind of ground: a dry field can be as bright as a shadow with the offset."""

_OTHER_UNIT = 20
"""Ratio of bands that no ground has."""
_BRIGHTEST = 2.0
"""Clouds and glints reach 1.5; single pixels more."""
_DARKEST, _DARK = 0.005, 0.012
"""The brightest pixels of clear deep water have 0.02 in band 2."""
_BELOW_ZERO = -0.03, -0.01
"""Atmospheric correction leaves some dark pixels a little below zero."""
_INFRARED_BELOW_ZERO, _FEW_BELOW_ZERO = -0.05, 0.05
_IMPOSSIBLE = -0.5, 5.0
_SHARE_OF_NODATA = 1e-3
_BANDS_TO_COMPARE = 3
_VEGETATION = 0.25
"""Difference of near infrared and red that only green plants have. An offset does not change it."""
_RED_OF_CLOUDS = 0.25
"""Noise of clouds could look like that difference."""
_RED_OF_PLANTS = 0.105
"""Green plants absorb red: 0.02 to 0.06 at the ground, up to 0.09 at the top of a hazy atmosphere."""
_NDVI_OF_PLANTS = 0.5
"""No scale changes it."""
_INFRARED_OF_PLANTS = 0.05, 0.065, 0.65, 0.8
"""Limits of the median of green plants: clearly too dark, too dark, too bright, clearly too bright. In 38
real places it is 0.19 to 0.46."""
_SHARE_OF_PLANTS = 0.03


@dataclass(frozen=True)
class Finding:
    """Evidence against the reflectance of a scene."""

    seen: str
    """The evidence, and options that put it right."""
    options: tuple[str, ...]
    """Names of these options. A user who gives them all has decided."""
    is_clear: bool = True


def plausible(scene: Scene, given: Collection[str] = ()) -> Scene:
    """Return the scene if its reflectance can be true, with the likelier offset if its metadata disagree.

    Reads all bands, thinned. `given` are the options with which the user states radiometry: `scale`,
    `offset`, `nodata`. Warns if reflectance is doubtful, or if it is clearly wrong although the product's
    metadata state it.

    Raises
    ------
    RadiometryError
        If values are clearly no reflectance: per cent or digital numbers, all too small or below zero, with
        an offset left in, or an undeclared nodata value.
    GeoreferenceError
        If a raster lies elsewhere than the others; see `check_extents`.
    CorruptImageError
        If a band can't be decoded.
    """
    check_extents(scene, _NOT_CHECKED if scene.level == "L2A" else ())
    if scene.other_offset is not None and "offset" not in given:
        scene, bands = _with_likelier_offset(scene, scene.other_offset)
    else:
        bands = _read(scene)
    if scene.radiometry in ("tags", "item"):
        _warn_of_different_tags(scene)
    for finding in findings(bands, scene.bands):
        if set(finding.options) <= set(given):
            continue
        message = f"{scene.id}: {finding.seen}"
        if finding.is_clear and scene.radiometry != "product":
            raise RadiometryError(message)
        warn(message)
    return scene


def findings(bands: Bands, sources: Mapping[str, BandSource]) -> list[Finding]:
    """Return the evidence against the reflectance of bands: the first kind that is clear, else the first."""
    checks: tuple[Callable[[Bands, Mapping[str, BandSource]], list[Finding]], ...] = (
        _same_number,
        _undeclared_nodata,
        _other_units,
        _odd_plants,
        _below_zero,
        _offset_left_in,
    )
    filled = {name: values for name, values in bands.items() if np.isfinite(values).sum() >= _FEW}
    kinds = [found for check in checks if filled and (found := check(filled, sources))]
    return next((found for found in kinds if found[0].is_clear), kinds[0] if kinds else [])


def offset_left_in(bands: Bands) -> Certainty:
    """Return the certainty that all bands are 0.1 too high: an offset of -0.1 is still to be added.

    Then the darkest pixels (shadow, water, and plants in blue and red) of all bands are near 0.1, and no
    green plants are dark in red. Without plants there must be pixels that are dark in all bands. Deserts are
    redder, snow is dark in the short-wave infrared, clouds are brighter. The limits separate 46 real places
    on five continents, L1C and L2A, from the same places with 0.1 added (tests/scenes/test_plausibility.py).
    """
    if not {"B02", "B04", "B08"} <= bands.keys():
        return "none"
    values = {name: band[np.isfinite(band)] for name, band in bands.items()}
    least = min(float(np.percentile(band, 0.2)) for band in values.values())
    dark = {name: float(np.percentile(band, 1)) for name, band in values.items()}
    if least < -HARMONISED_OFFSET - 0.015:
        return "none"
    red = _red_of_plants(bands)
    if red is not None:
        return "clear" if red > _RED_OF_PLANTS and least >= -HARMONISED_OFFSET - 0.005 else "none"
    pixels = min(len(band) for band in values.values())
    if least < -HARMONISED_OFFSET - 0.003 or pixels < _SMALL_PX:
        return "none"
    if dark["B08"] < 0.145 and dark.get("B12", 1.0) < 0.125:
        return "clear" if pixels >= _LARGE_PX else "doubtful"
    is_grey = dark["B04"] <= min(0.2, dark["B02"] + 0.03) and dark["B02"] <= 0.24
    return "doubtful" if is_grey else "none"


def _read(scene: Scene) -> dict[str, NDArray[np.float32]]:
    bands = {name: thinned(source) for name, source in scene.bands.items() if name not in _NOT_CHECKED}
    for shape in {values.shape for values in bands.values()}:
        alike = {name: values for name, values in bands.items() if values.shape == shape}
        for number in scene.blanks:
            found = [has_number(values, number, scene.bands[name]) for name, values in alike.items()]
            blank = np.logical_and.reduce(found)
            _warn_of_mixed_edges(scene, number, int(blank.sum()))
            blank = ndimage.binary_dilation(blank, np.ones((3, 3)))
            for values in alike.values():
                values[blank] = np.nan
    return bands


def _warn_of_mixed_edges(scene: Scene, number: float, pixels: int) -> None:
    """Warn if a warp mixes pixels with others beside them that have no data and don't say so."""
    warps = [source.warp for source in scene.bands.values() if source.warp]
    if pixels >= _FEW and any(warp.nodata != number for warp in warps):
        warn(
            f"{scene.id}: pixels with {number:g} in all bands have no data, but the file does not say so. It "
            f"is warped, which mixes the pixels beside them with {number:g}: give --nodata {number:g}."
        )


def _warn_of_different_tags(scene: Scene) -> None:
    """Warn if bands state different scales or offsets: in Sentinel-2 products they are the same."""
    bands = [source for name, source in scene.bands.items() if name not in _NOT_CHECKED]
    for option in ("scale", "offset"):
        names: dict[str, list[str]] = {}
        for source in bands:
            names.setdefault(f"{getattr(source, option):g}", []).append(source.name)
        if len(names) > 1:
            stated = "; ".join(f"{value} of {', '.join(those)}" for value, those in names.items())
            warn(f"{scene.id}: bands state different values of {option}: {stated}. --{option} sets all.")


def _with_likelier_offset(scene: Scene, other: float) -> tuple[Scene, dict[str, NDArray[np.float32]]]:
    """Return the scene with the likelier of its two offsets, and its bands; warns which it is, and why."""
    stated = next(iter(scene.bands.values())).offset
    higher, lower = max(stated, other), min(stated, other)
    bands = _read(_with_offset(scene, higher))
    certainty = offset_left_in(bands)
    if certainty != "none":
        chosen, why = lower, f"without it the darkest pixels are {_dark(bands)}"
    elif _share_below(_BELOW_ZERO[1] - lower + higher, bands) > 0.005:
        chosen, why = higher, f"with {lower:g} dark pixels would be below zero; they are {_dark(bands)}"
    else:
        chosen, why = stated, "the pixels fit both, since no dark ones are in the scene"
    warn(
        f"{scene.id}: metadata disagree about the offset of reflectance, {stated:g} or {other:g}; {chosen:g} "
        f"is used: {why}. --offset overrides."
    )
    added = np.float32(chosen - higher)
    return _with_offset(scene, chosen), {name: values + added for name, values in bands.items()}


def _with_offset(scene: Scene, offset: float) -> Scene:
    bands = {name: replace(source, offset=offset) for name, source in scene.bands.items()}
    return replace(scene, bands=bands, other_offset=None)


def _undeclared_nodata(bands: Bands, sources: Mapping[str, BandSource]) -> list[Finding]:
    low, high = _IMPOSSIBLE
    for name, values in bands.items():
        odd = values[(values < low) | (values > high)]
        share = odd.size / np.isfinite(values).sum()
        if not _SHARE_OF_NODATA < share < 0.5:
            continue
        value, count = _most_common(odd)
        if count < 0.5 * odd.size:
            continue
        return [_nodata_finding(share, name, value, sources[name])]
    return []


def _same_number(bands: Bands, sources: Mapping[str, BandSource]) -> list[Finding]:
    """Return a finding where many pixels have one number in all bands that is below zero or very bright.

    Numbers are compared as they are in the file. Nothing on the ground looks so, but 0 does from which an
    offset was taken off.
    """
    if len(bands) < _BANDS_TO_COMPARE or len({values.shape for values in bands.values()}) > 1:
        return []
    first = next(iter(bands))
    numbers = {name: _numbers(values, sources[name]) for name, values in bands.items()}
    same = np.logical_and.reduce([np.isclose(each, numbers[first], 1e-5) for each in numbers.values()])
    values = bands[first][same]
    odd = values[(values < 0) | (values > _BRIGHTEST)]
    if odd.size < max(20, _SHARE_OF_NODATA * bands[first].size):
        return []
    value, count = _most_common(odd)
    share = count / np.isfinite(bands[first]).sum()
    return [_nodata_finding(share, "all bands", value, sources[first])] if share > _SHARE_OF_NODATA else []


def _nodata_finding(share: float, where: str, value: float, source: BandSource) -> Finding:
    number = _digital_number(value, source)
    return Finding(
        f"{share:.1%} of the pixels of {where} have the value {number}, reflectance {value:g}. It looks like "
        f"a nodata value that the file does not declare: give --nodata {number}.",
        ("nodata",),
    )


def _other_units(bands: Bands, sources: Mapping[str, BandSource]) -> list[Finding]:
    high = {name: float(np.nanpercentile(values, 98)) for name, values in bands.items()}
    bright = [name for name, value in high.items() if value > _BRIGHTEST]
    if bright:
        name = max(bright, key=high.__getitem__)
        seen = f"reflectance of {', '.join(bright)} is up to {high[name]:.4g}, where clouds have about 1."
        shown = {name: bands[name] for name in bright}
    elif max(high.values()) < _DARK and _share_below(_BELOW_ZERO[1], bands) < _FEW_BELOW_ZERO:
        seen = f"reflectance of all bands is below {max(high.values()):.2g}, darker than deep water."
        shown = dict(bands)
    else:
        return []
    others = [value for name_of, value in high.items() if name_of not in bright]
    if bright and others and max(others) * _OTHER_UNIT < min(high[each] for each in bright):
        advice = "The other bands are in another unit. Write all in one, or leave bands out with --bands."
        return [Finding(f"{seen} {advice}", ("bands",))]
    is_clear = bool(bright) or max(high.values()) < _DARKEST
    return [Finding(f"{seen} {units_advice(shown, sources, _offset_option)}", ("scale",), is_clear)]


def _odd_plants(bands: Bands, sources: Mapping[str, BandSource]) -> list[Finding]:
    """Return a finding if green plants, which any scale shows, are too dark or too bright in infrared."""
    if not {"B02", "B04", "B08"} <= bands.keys():
        return []
    blue, red, infrared = (bands[name] for name in ("B02", "B04", "B08"))
    if not blue.shape == red.shape == infrared.shape:
        return []
    total = np.maximum(red, 0) + infrared
    plants = infrared[(infrared - red > _NDVI_OF_PLANTS * total) & (infrared > 1.5 * blue) & (infrared > 0)]
    if plants.size < max(_FEW, _SHARE_OF_PLANTS * np.isfinite(red).sum()):
        return []
    median = float(np.median(plants))
    too_dark, dark, bright, too_bright = _INFRARED_OF_PLANTS
    if dark <= median <= bright:
        return []
    return [
        Finding(
            f"green plants have {median:.2g} in B08, where 0.2 to 0.5 is usual. "
            f"{units_advice(bands, sources, _offset_option)}",
            ("scale",),
            is_clear=not too_dark <= median <= too_bright,
        )
    ]


def _offset_option(bands: Bands) -> str:
    return "" if offset_left_in(bands) == "none" else f" --offset {HARMONISED_OFFSET:g}"


def _below_zero(bands: Bands, sources: Mapping[str, BandSource]) -> list[Finding]:
    clear, doubtful = (_share_below(limit, bands) for limit in _BELOW_ZERO)
    infrared = {name: values for name, values in bands.items() if name not in VISIBLE}
    beyond = _share_below(_INFRARED_BELOW_ZERO, infrared, infrared)
    if beyond >= 0.2 > clear:  # water under haze is bright in the visible bands only
        clear, doubtful = beyond, beyond
    if clear < 0.2 and doubtful < _FEW_BELOW_ZERO:
        return []
    is_in_file = all(source.offset == 0 for source in sources.values())
    advice = (
        f"An offset seems to have been taken off twice: give --offset {-HARMONISED_OFFSET:g} to undo one."
        if is_in_file
        else "An offset seems to be taken off twice: give --offset 0, or the one that is still to be added."
    )
    return [
        Finding(
            f"{doubtful:.0%} of the pixels of a band are below {_BELOW_ZERO[1]:g}, where few can be. "
            f"{advice}",
            ("offset",),
            is_clear=clear >= 0.2,
        )
    ]


def _offset_left_in(bands: Bands, _: Mapping[str, BandSource]) -> list[Finding]:
    certainty = offset_left_in(bands)
    if certainty == "none":
        return []
    red = _red_of_plants(bands)
    plants = "" if red is None else f", and green plants have {red:.2f} in red (0.02 to 0.06 is usual)"
    seems = "seems to be" if certainty == "clear" else "may be"
    return [
        Finding(
            f"the darkest pixels of all bands are near 0.1 ({_dark(bands)}){plants}. The offset of baseline "
            f"04.00 {seems} in the values: give --offset {HARMONISED_OFFSET:g}, or --offset 0 if they are "
            "right.",
            ("offset",),
            is_clear=certainty == "clear",
        )
    ]


def _red_of_plants(bands: Bands) -> float | None:
    """Return the red reflectance of the darker green plants; None if there are almost no plants."""
    red, infrared = bands["B04"], bands["B08"]
    if red.shape != infrared.shape:
        return None
    plants = red[(infrared - red > _VEGETATION) & (red < _RED_OF_CLOUDS)]
    return float(np.percentile(plants, 10)) if plants.size >= max(20, 0.005 * red.size) else None


def _share_below(limit: float, bands: Bands, names: Collection[str] = VISIBLE) -> float:
    """Return the largest share of pixels below a limit among some bands."""
    shares = [(values[np.isfinite(values)] < limit).mean() for name, values in bands.items() if name in names]
    return float(max(shares, default=0.0))


def _dark(bands: Bands) -> str:
    shown = (name for name in ("B02", "B04", "B08", "B12") if name in bands)
    return ", ".join(f"{name} {np.nanpercentile(bands[name], 1):.2f}" for name in shown)


def _most_common(values: NDArray[np.float32]) -> tuple[float, int]:
    unique, counts = np.unique(values, return_counts=True)
    return float(unique[counts.argmax()]), int(counts.max())


def _numbers(values: NDArray[np.float32], source: BandSource) -> NDArray[np.float64]:
    return (values.astype(np.float64) - source.offset) / source.scale


def _digital_number(reflectance: float, source: BandSource) -> str:
    """Return the number that a band has in the file, in the digits that a 32-bit float needs."""
    number = (reflectance - source.offset) / source.scale
    whole = round(number)
    is_whole = number == whole if source.scale == 1 else math.isclose(number, whole, abs_tol=1e-2)
    return str(whole) if is_whole else f"{number:.7g}"
