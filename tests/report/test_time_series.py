from dataclasses import dataclass, replace

import pytest
from PIL import Image

from pipeline.errors import OutputError
from pipeline.report.time_series import write_time_series


@dataclass(frozen=True)
class Scene:
    acquired: str | None = "2023-06-01T10:20:31Z"
    trucks: int | None = 12
    seen_km2: float | None = 800.0
    road_km: float | None = None
    simulated: bool | None = False


def test_a_picture_of_scenes_that_tell_when_and_how_many(tmp_path):
    scenes = [Scene(), replace(Scene(), acquired="2023-06-11T10:20:31Z", trucks=0), Scene(acquired=None)]
    path = write_time_series(scenes, tmp_path / "series.png")
    assert path == tmp_path / "series.png"
    with Image.open(path) as picture:
        assert picture.size == (1200, 540)
    assert write_time_series(scenes, tmp_path / "again.png").read_bytes() == path.read_bytes()


def test_dates_and_times_share_the_axis(tmp_path):
    scenes = [Scene(), replace(Scene(), acquired="2023-06-11"), replace(Scene(), acquired="2023-05-30")]
    at_begin = [scenes[0], *(replace(scene, acquired=f"{scene.acquired}T00:00:00Z") for scene in scenes[1:])]
    assert (
        write_time_series(scenes, tmp_path / "dates.png").read_bytes()
        == write_time_series(at_begin, tmp_path / "times.png").read_bytes()
    )


def test_no_picture_without_a_scene_that_can_be_shown(tmp_path):
    nothing = [Scene(acquired=None), Scene(trucks=None), Scene(seen_km2=0.0)]
    assert write_time_series(nothing, tmp_path / "series.png") is None
    assert not (tmp_path / "series.png").exists()


def test_scenes_with_roads_are_counted_by_their_length(tmp_path):
    """A scene without roads has no place in a picture by kilometre."""
    with_roads = [replace(Scene(), road_km=80.0)]
    mixed = [*with_roads, Scene(acquired="2023-06-11T10:20:31Z")]
    one = write_time_series(with_roads, tmp_path / "one.png").read_bytes()
    assert write_time_series(mixed, tmp_path / "mixed.png").read_bytes() == one


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_time_series([Scene()], tmp_path / "nowhere" / "series.png")


def test_rows_of_others_leave_the_picture(tmp_path):
    odd = [
        replace(Scene(), **{name: value})
        for name in ("acquired", "trucks", "seen_km2")
        for value in (
            "x",
            [],
            {},
            float("nan"),
            float("inf"),
            -1,
            b"1",
            "0001-01-01",
            "9999-12-31T23:59:59-12:00",
        )
    ]
    picture = write_time_series([Scene()], tmp_path / "one.png").read_bytes()
    shown = [scene for scene in odd if write_time_series([scene], tmp_path / "odd.png")]
    assert shown == []
    assert write_time_series([Scene(), *odd], tmp_path / "all.png").read_bytes() == picture
