from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rasterio.windows import Window

from pipeline.errors import CorruptImageError, MissingBandError
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.cache import BlockCache
from pipeline.scenes.raster.prefetch import Sweep, bytes_of, prefetch
from pipeline.scenes.raster.read import read_classes, read_pixels
from pipeline.tiling import plan
from tests.scenes.products import write_raster, write_safe

BLOCK = {"tiled": True, "BLOCKXSIZE": 256, "BLOCKYSIZE": 256}


@pytest.fixture(autouse=True)
def cache() -> Iterator[BlockCache]:
    """An empty cache for each test."""
    with BlockCache() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Two bands of 5 x 4 blocks at 10 m, one of 3 x 2 at 20 m, one block at 60 m."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(0)
    for band, gsd in {"B02": 10, "B03": 10, "B05": 20, "B09": 60}.items():
        shape = (-(-1200 * 10 // gsd), -(-1000 * 10 // gsd))
        array = rng.integers(0, 5000, shape).astype(np.uint16)
        write_raster(folder / f"T32UPD_20240615T102021_{band}.jp2", array, gsd, **BLOCK)
    return open_scene(str(folder))


@pytest.fixture
def pool():
    with ThreadPoolExecutor(3) as threads:
        yield threads


def wait(futures) -> None:
    for future in futures:
        future.result(20)


def test_what_was_prefetched_is_not_decoded_again(scene, pool, cache):
    window = Window(200, 300, 300, 300)
    wait(prefetch(scene, window, ["B02", "B09"], pool))
    assert cache.decoded == 2 * 2 + 1
    assert prefetch(scene, window, ["B02", "B09"], pool) == []
    read_pixels(scene, window, ["B02", "B09"])
    assert cache.decoded == 5


def test_bytes_of_a_window_are_those_that_its_blocks_take(scene, pool, cache):
    for window in (Window(0, 0, 1, 1), Window(250, 700, 20, 500), Window(0, 0, 1000, 1200)):
        cache.clear()
        bands = ["B02", "B05", "B09"]
        expected = bytes_of(scene, window, bands)
        wait(prefetch(scene, window, bands, pool))
        assert cache.held == expected
    assert expected == (1200 * 1000 + 600 * 500 + 200 * 167) * 2


def test_the_scene_classification_can_be_prefetched(tmp_path, pool, cache):
    scene = open_scene(str(write_safe(tmp_path, "L2A", images={
        "B02": np.ones((240, 240), np.uint16), "SCL": np.ones((120, 120), np.uint8)
    })))  # fmt: skip
    wait(prefetch(scene, Window(0, 0, 9, 9), ["B02", "SCL"], pool))
    assert cache.decoded == 2
    assert (read_classes(scene, scene.scl, Window(0, 0, 9, 9)) == 1).all()
    assert cache.decoded == 2


def test_a_missing_band_is_named(scene, pool):
    for band in ("B04", "SCL"):
        with pytest.raises(MissingBandError, match=f"lacks {band}"):
            prefetch(scene, Window(0, 0, 1, 1), [band], pool)


def test_an_error_surfaces_where_the_pixels_are_read(tmp_path, pool):
    array = np.random.default_rng(0).integers(1, 5000, (300, 300)).astype(np.uint16)
    path = write_raster(tmp_path / "T32UPD_20240615T102021_B02.jp2", array, **BLOCK)
    data = path.read_bytes()
    last = data.rindex(b"\xff\x90\x00\x0a") + 14  # the pixels of the last tile
    path.write_bytes(data[:last] + b"\xff" * (len(data) - last - 2) + data[-2:])
    scene = open_scene(str(tmp_path))
    wait(prefetch(scene, Window(0, 0, 300, 300), ["B02"], pool))
    with pytest.raises(CorruptImageError, match="B02 can't be decoded in block row 1, column 1"):
        read_pixels(scene, Window(0, 0, 300, 300), ["B02"])


@pytest.mark.parametrize(("tile_px", "halo"), [(256, 28), (200, 60), (2000, 0), (150, 8)])
@pytest.mark.parametrize("prefetched", [0, 2])
def test_with_the_bytes_it_needs_a_sweep_decodes_each_block_once(
    scene, pool, cache, tile_px, halo, prefetched
):
    bands = ["B02", "B03", "B05", "B09"]
    windows = [tile.window for tile in plan(scene.shape, tile_px, halo, 4)]
    held = 0
    with Sweep(scene, windows, bands) as sweep:
        cache.budget = sweep.bytes_needed(prefetched)
        for number, window in enumerate(windows):
            for further in range(number, min(number + prefetched + 1, len(windows))):
                wait(sweep.prefetch(further, pool))
            held = max(held, cache.held)
            read_pixels(scene, window, bands)
            sweep.done(number)
    assert cache.decoded == 2 * 5 * 4 + 3 * 2 + 1
    assert held <= cache.budget
    assert cache.budget <= bytes_of(scene, Window(0, 0, 1000, 1200), bands)


def test_blocks_of_a_sweep_that_was_given_up_are_not_kept_before_others(scene, pool, cache):
    with pytest.raises(KeyError), Sweep(scene, [Window(0, 0, 600, 600)] * 3, ["B02"]) as sweep:
        wait(sweep.prefetch(0, pool))
        raise KeyError
    cache.budget = cache.held
    read_pixels(scene, Window(600, 600, 400, 400), ["B03"])
    assert cache.held <= cache.budget
    decoded = cache.decoded
    read_pixels(scene, Window(600, 600, 400, 400), ["B03"])
    assert cache.decoded == decoded
