import json

import geopandas as gpd
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipeline import cli
from pipeline.errors import ConfigError, LabelsError, OutputError
from pipeline.report.areas import areas_figure, areas_table, draw_points, evaluate_areas_files, strata_table
from tests.evaluation.areas.test_estimates import COUNTS, LEGEND, PIXEL_HA, PIXELS, estimate_areas
from tests.evaluation.landcover.test_labels import write_raster


@pytest.fixture
def run(tmp_path):
    """The folder of a scene whose map has 2 ha of water in 40 ha of trees."""
    values = np.ones((60, 70), np.uint8)
    values[:10, :20] = 0
    (tmp_path / "SCENE").mkdir()
    write_raster(tmp_path / "SCENE" / "landcover.tif", values)
    return tmp_path / "SCENE"


def shown(table):
    console = Console(width=150)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def interpret(points, wrong=()):
    """Trees everywhere but at the top left, where the water is; and at some ids it is grass."""
    frame = gpd.read_file(points, layer="points")
    water = (frame.geometry.x < 600_200) & (frame.geometry.y > 5_799_900)
    frame["reference"] = np.where(frame["id"].isin(wrong), 2, np.where(water, 0, 1))
    frame.to_file(points, layer="points")


def test_a_sample_goes_out_and_comes_back_as_estimates(run, tmp_path):
    drawn, paths = draw_points(run, tmp_path / "points.gpkg", size=100, at_least=30)
    assert {kind: path.name for kind, path in paths.items()} == {
        "points": "points.gpkg",
        "geojson": "points.geojson",
        "design": "points.design.json",
    }
    assert "water" in shown(strata_table(drawn))
    tree = int(np.flatnonzero(drawn.stratum == 1)[0]) + 1
    interpret(paths["points"], wrong=[tree])
    estimates = evaluate_areas_files(paths["points"], tmp_path / "out")
    assert estimates.area_ha.value[:3] == pytest.approx([2, 40 * 69 / 70, 40 / 70])
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["areas"]
    assert metrics["classes"]["trees"]["users_accuracy"] == pytest.approx(69 / 70)
    assert (tmp_path / "out" / "areas.png").stat().st_size > 10_000
    layer = gpd.read_file(tmp_path / "out" / "area_points.gpkg", layer="area_points")
    assert layer.loc[layer["agrees"] == 0, ["id", "map_class", "reference_class"]].values.tolist() == [
        [tree, "trees", "grass"]
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "area_points.gpkg",
        "areas.png",
        "metrics.json",
    ]


def test_metrics_that_are_there_stay(run, tmp_path):
    _, paths = draw_points(run, tmp_path / "points.gpkg", size=100)
    interpret(paths["points"])
    (tmp_path / "metrics.json").write_text('{"trucks": {"f1": 0.9}}')
    evaluate_areas_files(paths["points"], tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics) == {"trucks", "areas"}
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(OutputError, match="has no metrics to add to"):
        evaluate_areas_files(paths["points"], tmp_path)


def test_nothing_is_written_for_points_that_are_not_filled_in(run, tmp_path):
    _, paths = draw_points(run, tmp_path / "points.gpkg", size=100)
    with pytest.raises(LabelsError, match="100 of 100 points have no reference class yet"):
        evaluate_areas_files(paths["points"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_table_of_olofssons_example():
    table = shown(areas_table(estimate_areas(LEGEND, COUNTS, PIXELS * PIXEL_HA)))
    assert "21,158 ± 6,158" in table
    assert "0.947 ± 0.018" in table
    assert "0.75 ± 0.21" in table


def test_the_figure_shows_what_is_mapped_or_seen():
    figure = areas_figure(estimate_areas(LEGEND, np.diag([9, 9, 0, 0]), [1.0, 2.0, 0.0, 0.0]))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["deforestation", "forest gain"]


def test_expected_accuracies_are_read(run, tmp_path):
    drawn, _ = draw_points(run, tmp_path / "points.gpkg", expected=["trees=0.95", "water = 0.7"])
    assert drawn.expected_accuracy[:2].tolist() == [0.7, 0.95]
    with pytest.raises(ConfigError, match=r"given as class=0\.9\. Received: trees"):
        draw_points(run, tmp_path / "p.gpkg", expected=["trees"])


def test_on_the_command_line(run, tmp_path):
    points = str(tmp_path / "points.gpkg")
    result = CliRunner().invoke(cli.app, ["sample", str(run), "--out", points, "--size", "100"])
    assert result.exit_code == 0, result.output
    assert "expected standard error" in result.output
    interpret(points)
    result = CliRunner().invoke(cli.app, ["evaluate", "areas", points, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "1.000 ± 0.000" in result.output
