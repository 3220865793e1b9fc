"""Recurring places with a picture a date."""

import base64
import io
import shutil

import geopandas as gpd
import pandas as pd
import pytest
from PIL import Image
from shapely.geometry import box

from pipeline.report import recurring
from pipeline.report.recurring import CHIP_PX, ZOOM, recurring_places
from pipeline.scenes.open import open_scene
from pipeline.simulation.simulate import simulate
from pipeline.traffic.all_dates import AllDates
from pipeline.traffic.area import AREA_FIELDS

DATES = ["2023-06-01", "2023-06-06", "2023-06-11"]


@pytest.fixture(scope="module")
def safe(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("product"), size=64, seed=3).safe


def every_of(safe, sources):
    """Return one place in the middle of a scene, detected on all dates but the last."""
    grid = open_scene(str(safe)).grid
    x, y = grid.affine * (32, 32)
    crs = grid.crs.to_wkt()
    ids = [f"s{number}" for number in range(len(sources))]
    spot = box(x - 10, y - 10, x + 10, y + 10)
    trucks = gpd.GeoDataFrame(
        {"scene_id": ids[:-1], "place_id": "p", "recurring": True}, geometry=[spot] * (len(ids) - 1), crs=crs
    )
    places = gpd.GeoDataFrame(
        {"place_id": ["p"], "dates": [" ".join(DATES[:-1])], "dates_here": [2], "dates_searched": [3]},
        geometry=[spot], crs=crs,
    )  # fmt: skip
    rows = pd.DataFrame(
        {
            "scene_id": ids,
            "source": [str(each) for each in sources],
            "date": pd.to_datetime(DATES[: len(ids)]),
        },
        columns=list(AREA_FIELDS),
    )
    return AllDates(trucks, trucks, places, (), rows)


def test_each_date_has_a_picture_of_the_place(safe):
    (place,) = recurring_places(every_of(safe, [safe] * 3))
    assert (place.place_id, place.dates, place.searched) == ("p", tuple(DATES[:-1]), 3)
    assert [(chip.date, chip.detected) for chip in place.chips] == [
        (DATES[0], True), (DATES[1], True), (DATES[2], False)
    ]  # fmt: skip
    image = Image.open(io.BytesIO(base64.b64decode(place.chips[0].uri.partition(",")[2])))
    assert image.size == (CHIP_PX * ZOOM,) * 2
    assert len(image.convert("RGB").getcolors(10_000)) > 50


def test_scenes_that_are_gone_damaged_or_remote_have_none(safe, tmp_path):
    damaged = tmp_path / safe.name
    shutil.copytree(safe, damaged)
    for path in damaged.rglob("*_B0*_10m.jp2"):
        path.write_bytes(path.read_bytes()[:200])
    every = every_of(safe, [damaged, tmp_path / "gone.SAFE", "https://example.com/scene.SAFE"])
    assert recurring_places(every)[0].chips == ()


def test_few_scenes_are_opened(safe, monkeypatch):
    monkeypatch.setattr(recurring, "MOST_SCENES", 1)
    assert [chip.date for chip in recurring_places(every_of(safe, [safe] * 3))[0].chips] == DATES[:1]
    monkeypatch.setattr(recurring, "MOST_PLACES", 0)
    assert recurring_places(every_of(safe, [safe] * 3))[0].chips == ()
