"""A comparison as a table, as Markdown and as a picture."""

import json
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from pipeline.errors import OutputError
from pipeline.report.model_comparison import (
    Compared,
    Proposals,
    comparison_figure,
    comparison_markdown,
    comparison_table,
    write_comparison,
)

LINES = (
    Compared("trucks-2", "faster_rcnn", "detection", 624_000, 65, 44, 94.7, 312.4, {"AP": 0.8, "F1": 0.75}),
    Compared("mine-1", "fcos", "detection", 489_502, None, 44, 139.4, 401.0, {"AP": 0.5, "F1": float("nan")}),
)


def test_markdown_has_a_row_for_each_model():
    assert comparison_markdown(LINES).splitlines() == [
        "| model | family | AP | F1 | ms per Mpx | parameters | receptive field | halo | kMAC per px |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| trucks-2 | faster_rcnn | 0.80 | 0.75 | 312 | 624,000 | 65 px | 44 px | 95 |",
        "| mine-1 | fcos | 0.50 | none | 401 | 489,502 | all | 44 px | 139 |",
    ]


def test_proposals_have_columns_if_a_model_has_any():
    two = replace(LINES[0], proposals=Proposals(0.987, 1980.4, 6201.6))
    assert comparison_markdown([two, LINES[1]]).splitlines() == [
        "| model | family | AP | F1 | ms per Mpx | parameters | receptive field | halo | kMAC per px "
        "| recall of proposals | proposals per Mpx | kMAC per proposal |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| trucks-2 | faster_rcnn | 0.80 | 0.75 | 312 | 624,000 | 65 px | 44 px | 95 "
        "| 0.99 | 1,980 | 6,202 |",
        "| mine-1 | fcos | 0.50 | none | 401 | 489,502 | all | 44 px | 139 |  |  |  |",
    ]


def test_the_terminal_shows_the_same_in_eighty_columns():
    console = Console(width=80)
    with console.capture() as shown:
        console.print(comparison_table(LINES))
    words = [line.split() for line in shown.get().splitlines()]
    assert ["parameters", "624,000", "489,502"] in words
    assert ["family", "faster_rcnn", "fcos"] in words


def test_a_line_joins_the_models_than_which_no_cheaper_one_is_as_good():
    points = [(300, 0.7), (100, 0.5), (200, 0.4), (400, 0.7), (250, 0.65), (100, 0.45)]
    costs = dict(enumerate(points))
    lines = [
        Compared(f"m-{i}", "unet", "segmentation", 9, 5, 2, 1.0, cost, {"agreement": quality, "mIoU": 0.1})
        for i, (cost, quality) in costs.items()
    ]
    plot, _ = comparison_figure(lines).axes
    assert plot.get_ylabel() == "agreement"
    (line,) = plot.get_lines()
    assert line.get_xydata().tolist() == [[100, 0.5], [250, 0.65], [300, 0.7]]


def test_files_are_written_and_json_has_no_nan(tmp_path):
    lines = [LINES[0], replace(LINES[1], proposals=Proposals(float("nan"), 5.0, 6.0))]
    paths = write_comparison(lines, tmp_path / "out")
    rows = json.loads(paths["json"].read_text())
    assert [row["proposals"] for row in rows] == [None, {"recall": None, "per_mpx": 5.0, "kilomacs": 6.0}]
    assert rows[1]["scores"] == {"AP": 0.5, "F1": None}
    with Image.open(paths["png"]) as picture:
        assert picture.width > 800
    assert paths["md"].read_text() == comparison_markdown(lines)


def test_a_folder_that_can_t_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="can't be created"):
        write_comparison(LINES, tmp_path / "file" / "out")
