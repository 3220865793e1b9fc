import io

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.errors import OutputError
from pipeline.report.chips import CHIP_PX, ZOOM, band_difference, case_chips, cases_with_chips, write_chips
from pipeline.scenes.open import open_scene
from tests.conftest import write_geotiff
from tests.evaluation.trucks.test_scores import boxes

SIDE = CHIP_PX * ZOOM


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A grey plain with a truck at (200, -200) m from the corner, blue in the west and red in the east."""
    numbers = np.random.default_rng(0).integers(780, 820, (4, 50, 50), dtype=np.uint16)
    numbers[0, 20, 19] = numbers[2, 20, 21] = 2500
    return open_scene(str(write_geotiff(tmp_path_factory.mktemp("chips") / "scene.tif", numbers)))


def picture(chip):
    return np.asarray(Image.open(io.BytesIO(chip)).convert("RGB")).astype(int)


def test_a_chip_shows_colour_motion_and_the_boxes_of_both_sides(scene):
    cases = boxes((205, -205), size=70.0, id=["tp-00001"], outcome=["TP"])
    reference = boxes((215, -205), size=70.0)
    ((name, chip),) = case_chips(scene, cases.to_crs(4326), cases, reference)
    assert name == "tp-00001"
    assert len(chip) < 4000
    image = picture(chip)
    assert image.shape == (SIDE, 2 * SIDE + 6, 3)
    middle = SIDE + 6 + SIDE // 2, SIDE // 2
    blue, orange = image[middle[1], middle[0] - 5], image[middle[1], middle[0] + 5]
    assert blue[2] > blue[0] + 80
    assert orange[0] > orange[2] + 80
    white = (image > 230).all(axis=2)
    yellow = (image[..., 0] > 220) & (image[..., 1] > 190) & (image[..., 2] < 130)
    assert white.sum() > 4 * 2 * 30
    assert yellow.sum() > 2 * 30


def test_there_is_one_for_each_case_on_the_scene(scene):
    cases = boxes((5, -5), (250, -250), (90_000, 0), id=["a", "b", "c"], outcome=["FP", "FN", "TN"])
    assert sorted(name for name, _ in case_chips(scene, cases)) == ["a", "b"]


def test_without_colours_or_cases_there_are_none(scene):
    assert list(case_chips(scene, boxes(id=[], outcome=[]))) == []


def test_equal_bands_have_no_difference():
    flat = np.full((3, 9, 9), 0.1, np.float32)
    assert set(band_difference(flat, np.ones((9, 9), bool)).ravel().tolist()) == {20, 255}
    assert not band_difference(flat, np.zeros((9, 9), bool)).any()


def test_mistakes_come_first_and_others_evenly():
    outcomes = ["TP"] * 50 + ["FP"] * 5 + ["TN"] * 5 + ["FN"] * 5
    cases = gpd.GeoDataFrame(pd.DataFrame({"outcome": outcomes}))
    assert cases_with_chips(cases, 18)["outcome"].value_counts().to_dict() == {
        "FP": 5,
        "TN": 5,
        "FN": 5,
        "TP": 3,
    }
    assert cases_with_chips(cases, 18).index[:3].tolist() == [0, 24, 49]
    assert len(cases_with_chips(cases, 4)) == 4
    assert len(cases_with_chips(cases)) == 65


def test_chips_replace_those_of_an_earlier_evaluation(tmp_path):
    folder = tmp_path / "chips"
    write_chips(folder, [("fp-00001", b"old"), ("fp-00002", b"old")])
    assert write_chips(folder, iter([("fp-00001", b"new")])) == {"fp-00001": b"new"}
    assert [path.name for path in folder.iterdir()] == ["fp-00001.webp"]
    assert [path.name for path in tmp_path.iterdir()] == ["chips"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        write_chips(tmp_path / "file" / "chips", [])


def test_a_folder_with_other_files_is_kept(tmp_path):
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "thesis.odt").write_text("")
    with pytest.raises(OutputError, match=r"no folder of chips \(it has thesis\.odt\)"):
        write_chips(tmp_path / "chips", [("fp-00001", b"new")])
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "empty").symlink_to(tmp_path / "elsewhere")
    for name in ("linked", "empty"):
        with pytest.raises(OutputError, match="no folder of chips"):
            write_chips(tmp_path / name, [])
    assert (tmp_path / "chips" / "thesis.odt").exists()
