"""Traffic of several runs as one table."""

import shutil

import pytest

import truckscape as ts
from pipeline.traffic.table import TABLE_FIELDS
from tests.api.conftest import FAST


@pytest.fixture(scope="module")
def folders(scene, product, tmp_path_factory):
    """The folders of two runs: of one scene, and of the same scene as of another date."""
    out = tmp_path_factory.mktemp("runs")
    later = ts.open(product.safe, acquired="2023-08-29T10:25:31Z")
    return [ts.run(each, out / name, roads=product.roads, settings=FAST).folder
            for name, each in (("a", scene), ("b", later))]  # fmt: skip


def test_a_row_for_each_road_direction_and_acquisition(folders):
    steps = []
    table = ts.traffic(folders, progress=lambda *call: steps.append(call))
    assert list(table.columns) == list(TABLE_FIELDS)
    assert not table.duplicated(["road", "direction", "acquired"]).any()
    assert table["date"].astype(str).unique().tolist() == ["2023-08-24", "2023-08-29"]
    assert table["trucks"].sum() > 0
    assert len(steps) == 4


def test_one_folder_above_the_runs(folders):
    assert ts.traffic(str(folders[0].parents[1])).equals(ts.traffic([str(folder) for folder in folders]))


def test_a_run_that_is_not_used_is_named(folders, tmp_path, caplog):
    shutil.copytree(folders[0], tmp_path / "copy")
    assert len(ts.traffic([folders[0], tmp_path / "copy"])) == len(ts.traffic(folders[0]))
    assert [text for text in caplog.messages if "Not used" in text and "the same acquisition" in text]


def test_no_runs(tmp_path):
    with pytest.raises(ts.Error, match="has no finished run"):
        ts.traffic(tmp_path)
    with pytest.raises(ts.RunsError, match="does not exist"):
        ts.traffic([tmp_path / "nothing"])
