"""Values that can't be reflectance are refused or reported, and true reflectance never is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pipeline.errors import RadiometryError
from pipeline.input_warnings import collected_warnings
from pipeline.scenes.open import open_scene
from pipeline.scenes.plausibility import findings, offset_left_in, plausible
from pipeline.scenes.raster.thin import thinned
from pipeline.scenes.scene import BANDS_10M, BandSource
from pipeline.simulation.simulate import simulate_scene
from tests.scenes.products import write_raster

ALL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


def sources(bands, scale=1.0, offset=0.0):
    return {name: BandSource(name, "", scale=scale, offset=offset) for name in bands}


def ground(*values: float, noise=0.05, px=256) -> dict[str, np.ndarray]:
    """One kind of ground: the mean of each band of ALL, with noise in proportion."""
    rng = np.random.default_rng(3)
    return {
        name: (value * (1 + noise * rng.standard_normal((px, px)))).astype(np.float32)
        for name, value in zip(ALL, values, strict=True)
    }


NATURAL = {
    "desert": ground(0.14, 0.22, 0.32, 0.35, 0.37, 0.39, 0.40, 0.42, 0.52, 0.46),
    "sea": ground(0.04, 0.025, 0.01, 0.009, 0.008, 0.007, 0.006, 0.005, 0.003, 0.002),
    "sea at the top of the atmosphere": ground(0.12, 0.08, 0.05, 0.04, 0.035, 0.03, 0.025, 0.02, 0.01, 0.006),
    "snow": ground(0.85, 0.85, 0.84, 0.83, 0.82, 0.8, 0.78, 0.75, 0.08, 0.06),
    "cloud": ground(0.6, 0.58, 0.58, 0.6, 0.6, 0.6, 0.62, 0.6, 0.4, 0.3, noise=0.2),
    "lava": ground(0.05, 0.05, 0.055, 0.06, 0.06, 0.06, 0.065, 0.07, 0.09, 0.09),
}


@pytest.fixture(scope="module")
def simulated():
    """Simulated ground of several seasons by seed, 160 px."""
    return {
        seed: dict(zip(ALL, simulate_scene(160, seed, ALL, traffic=False).reflectance, strict=True))
        for seed in (1, 4, 14)
    }


def four(bands):
    return {name: bands[name] for name in BANDS_10M}


def shifted(bands, by):
    return {name: values + np.float32(by) for name, values in bands.items()}


@pytest.mark.parametrize("kind", NATURAL)
@pytest.mark.parametrize("choose", [dict, four])
def test_true_reflectance_is_never_doubted(kind, choose):
    assert findings(choose(NATURAL[kind]), sources(ALL)) == []


def test_simulated_ground_with_the_offset_left_in_is_clear_and_without_it_is_not(simulated):
    for bands in simulated.values():
        for choose in (dict, four):
            assert offset_left_in(choose(bands)) == "none"
            assert offset_left_in(shifted(choose(bands), 0.1)) == "clear"


def test_the_finding_names_the_option(simulated):
    found = findings(shifted(simulated[4], 0.1), sources(ALL))
    assert [(each.options, each.is_clear) for each in found] == [(("offset",), True)]
    assert "--offset -0.1" in found[0].seen


def test_sea_with_the_offset_left_in_is_doubtful_in_four_bands_and_clear_in_all():
    sea = shifted(NATURAL["sea"], 0.1)
    assert offset_left_in(four(sea)) == "doubtful"
    assert offset_left_in(sea) == "clear"


def test_a_small_place_of_one_kind_is_not_doubted():
    field = ground(0.105, 0.11, 0.12, 0.13, 0.14, 0.15, 0.17, 0.18, 0.25, 0.2, noise=0.01, px=64)
    assert offset_left_in(four(field)) == "none"


def test_an_offset_taken_off_twice_is_below_zero(simulated):
    found = findings(shifted(simulated[1], -0.1), sources(ALL))
    assert found[0].is_clear
    assert "--offset 0.1" in found[0].seen


@pytest.mark.parametrize(
    ("factor", "whole", "advice"),
    [
        (100, False, "per cent: give --scale 0.01."),
        (255, True, "8-bit values: give --scale 0.00392157."),
        (10_000, True, "digital numbers (reflectance x 10000): give --scale 0.0001."),
        (65_535, True, "16-bit values: give --scale 1.5259e-05."),
    ],
)
def test_other_units_are_named_with_their_scale(simulated, factor, whole, advice):
    bands = {name: values * np.float32(factor) for name, values in simulated[1].items()}
    if whole:
        bands = {name: np.round(values) for name, values in bands.items()}
    found = findings(bands, sources(ALL))
    assert found[0].is_clear
    assert advice in found[0].seen


def test_digital_numbers_with_their_offset_get_both_options(simulated):
    numbers = {name: np.round(values * 1e4 + 1000) for name, values in simulated[1].items()}
    assert "--scale 0.0001 --offset -0.1" in findings(numbers, sources(ALL))[0].seen


def test_reflectance_that_was_scaled_again_is_too_small(simulated):
    bands = {name: values * np.float32(1e-4) for name, values in simulated[1].items()}
    found = findings(bands, sources(ALL, scale=1e-4))
    assert found[0].is_clear
    assert "reflectance from 0 to 1: give --scale 1." in found[0].seen


def test_one_band_in_other_units_is_named(simulated):
    bands = simulated[1] | {"B08": simulated[1]["B08"] * np.float32(1e4)}
    assert findings(bands, sources(ALL))[0].seen.startswith("reflectance of B08 is up to")


@pytest.mark.parametrize("value", [-9999.0, 65535.0])
def test_a_nodata_value_that_the_file_does_not_declare_is_found(simulated, value):
    bands = {name: values.copy() for name, values in simulated[1].items()}
    for values in bands.values():
        values[:40] = value * 1e-4 if value > 0 else value
    scale = 1e-4 if value > 0 else 1.0
    found = findings(bands, sources(ALL, scale=scale))
    assert found[0].options == ("nodata",)
    assert f"--nodata {value:g}" in found[0].seen


def test_few_pixels_say_nothing():
    assert findings({"B02": np.full((4, 4), 30, np.float32)}, sources(["B02"])) == []


def written(path: Path, bands, offset_in_file=0.1) -> Path:
    """A GeoTIFF of digital numbers of four bands, 0 = nodata."""
    numbers = np.stack([np.round((bands[name] + offset_in_file) * 1e4) for name in BANDS_10M])
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=4,
        height=160,
        width=160,
        dtype="uint16",
        crs="EPSG:32632",
        transform=from_origin(600000, 5900000, 10, 10),
        nodata=0,
    ) as file:
        file.write(np.clip(numbers, 1, 65535).astype(np.uint16))
        for index, name in enumerate(BANDS_10M, 1):
            file.set_band_description(index, name)
    return path


def test_a_file_with_the_offset_left_in_is_refused_unless_the_user_says_so(tmp_path, simulated):
    scene = open_scene(str(written(tmp_path / "raw.tif", simulated[4])))
    with pytest.raises(RadiometryError, match=r"raw: the darkest pixels of all bands .* --offset -0.1"):
        plausible(scene)
    assert plausible(scene, given=["offset"]) is scene


def test_a_product_that_states_its_offset_is_only_warned_about(tmp_path, simulated):
    scene = replace(open_scene(str(written(tmp_path / "raw.tif", simulated[4]))), radiometry="product")
    with collected_warnings() as warnings:
        assert plausible(scene) is scene
    assert len(warnings) == 1


@pytest.mark.parametrize(("in_file", "right"), [(0.1, -0.1), (0.0, 0.0)])
@pytest.mark.parametrize("stated_first", [True, False])
def test_pixels_decide_between_two_offsets(tmp_path, simulated, in_file, right, stated_first):
    scene = open_scene(str(written(tmp_path / "item.tif", simulated[4], in_file)))
    stated, other = (0.0, -0.1) if stated_first else (-0.1, 0.0)
    bands = {name: replace(source, offset=stated) for name, source in scene.bands.items()}
    with collected_warnings() as warnings:
        chosen = plausible(replace(scene, bands=bands, other_offset=other))
    assert {source.offset for source in chosen.bands.values()} == {right}
    assert chosen.other_offset is None
    assert "metadata disagree" in warnings[0]
    assert len(warnings) == 1


def test_a_simulated_product_is_not_doubted(product):
    with collected_warnings() as warnings:
        plausible(open_scene(str(product.safe)))
    assert warnings == []


def test_no_real_place_is_doubted_and_most_are_with_an_offset(shared_data):
    files = [*sorted((shared_data / "scenes").glob("*.tif")), *sorted((shared_data / "trucks").glob("*.tif"))]
    folders = [shared_data / "landcover" / name for name in ("virginia", "brandenburg")]
    seen = []
    for path in [*files, *folders]:
        scene = open_scene(str(path))
        bands = {name: thinned(scene.bands[name]) for name in ALL if name in scene.bands}
        assert findings(bands, scene.bands) == [], path
        seen.append(bool(findings(shifted(bands, 0.1), scene.bands)))
    assert len(seen) > 45
    assert np.mean(seen) > 0.85


def floats(tmp_path, bands) -> str:
    """A GeoTIFF of floats without a nodata value."""
    numbers = np.stack([bands[name] for name in BANDS_10M]).astype(np.float32)
    return str(write_raster(tmp_path / "floats.tif", numbers, descriptions=BANDS_10M))


def test_zeros_outside_of_a_swath_do_not_count(tmp_path, simulated):
    """They would be the darkest pixels, and half of the median."""
    bands = {name: simulated[4][name].copy() for name in BANDS_10M}
    for values in bands.values():
        values[:, :80] = 0
    units = {name: values * np.float32(1e4) for name, values in bands.items()}
    offset = {name: np.where(values == 0, 0, values + np.float32(0.1)) for name, values in bands.items()}
    plausible(open_scene(floats(tmp_path, bands)))
    with pytest.raises(RadiometryError, match=r"--scale 0\.0001"):
        plausible(open_scene(floats(tmp_path, units)))
    with pytest.raises(RadiometryError, match=r"--offset -0\.1"):
        plausible(open_scene(floats(tmp_path, offset)))


@pytest.mark.parametrize("value", [-1.0, -999.0, -1000.0, 32767.0])
def test_a_number_that_all_bands_have_and_no_ground_has_is_nodata(simulated, value):
    """Among them 0 from which an offset was taken off: it is no offset that was taken off twice."""
    bands = {name: values.copy() for name, values in simulated[1].items()}
    for values in bands.values():
        values[:40] = value * 1e-4
    found = findings(bands, sources(ALL, scale=1e-4))
    assert [(each.options, each.is_clear) for each in found] == [(("nodata",), True)]
    assert f"give --nodata {value:.0f}." in found[0].seen


def test_a_nodata_value_with_decimals_has_them_in_the_advice(simulated):
    bands = {name: values.copy() for name, values in simulated[1].items()}
    for values in bands.values():
        values[:40] = 6.5535
    assert "--nodata 6.5535." in findings(bands, sources(ALL))[0].seen


@pytest.mark.parametrize(
    ("factor", "scale", "advice"),
    [(255, 1e-4, 1 / 255), (1000, 1e-4, 1e-3), (65_535, 1e-4, 1 / 65535)],
)
def test_green_plants_show_another_unit_in_whole_numbers(simulated, factor, scale, advice):
    """As in files of 16 bits: the usual scale gives values that deep water, or snow, could have."""
    bands = {name: np.round(values * factor) * np.float32(scale) for name, values in simulated[4].items()}
    found = findings(bands, sources(ALL, scale=scale))
    assert found[0].is_clear
    assert f"--scale {advice:.6g}" in found[0].seen


def test_units_of_bright_ground_are_named_too():
    bands = {name: values * np.float32(100) for name, values in NATURAL["snow"].items()}
    assert "per cent: give --scale 0.01" in findings(bands, sources(ALL))[0].seen


def test_an_offset_that_is_taken_off_in_the_file_is_to_be_added(simulated):
    assert "--offset 0.1 " in findings(shifted(simulated[1], -0.1), sources(ALL))[0].seen
    assert "--offset 0," in findings(shifted(simulated[1], -0.1), sources(ALL, offset=-0.1))[0].seen


def test_water_below_zero_is_no_other_unit():
    found = findings(shifted(NATURAL["sea"], -0.1), sources(ALL, scale=1e-4, offset=-0.1))
    assert found[0].options == ("offset",)
    hazy = NATURAL["sea at the top of the atmosphere"]
    assert findings(shifted(hazy, -0.1), sources(ALL, offset=-0.1))[0].is_clear


def test_bands_in_two_units_have_no_scale_for_all(simulated):
    """The scale of some would make the others dark, as water is."""
    for factor in (100, 10_000):
        bands = simulated[1] | {"B08": simulated[1]["B08"] * np.float32(factor)}
        (found,) = findings(bands, sources(ALL))
        assert found.is_clear
        assert "The other bands are in another unit" in found.seen
        assert "--scale" not in found.seen


def test_bands_that_state_different_offsets_are_a_warning(tmp_path, simulated):
    scene = open_scene(str(written(tmp_path / "tags.tif", simulated[4], 0.0)))
    bands = dict(scene.bands) | {"B08": replace(scene.bands["B08"], offset=0.02)}
    with collected_warnings() as warnings:
        plausible(replace(scene, bands=bands, radiometry="tags"))
        plausible(replace(scene, radiometry="tags"))
    assert warnings == [
        "tags: bands state different values of offset: 0 of B02, B03, B04; 0.02 of B08. --offset sets all."
    ]


def test_undeclared_zeros_that_a_warp_mixes_with_their_neighbours_are_said(tmp_path, simulated):
    numbers = np.stack([simulated[4][name] for name in BANDS_10M]).astype(np.float32)
    numbers[:, :, :60] = 0
    degrees = {"crs": "EPSG:4326", "transform": from_origin(9.0, 0.2, 9e-5, 9e-5)}
    for nodata, count in ((None, 1), (0, 0)):
        path = write_raster(
            tmp_path / f"{nodata}.tif", numbers, descriptions=BANDS_10M, nodata=nodata, **degrees
        )
        with collected_warnings() as warnings:
            plausible(open_scene(str(path)))
        assert len(warnings) == count
        assert all("give --nodata 0." in text for text in warnings)
