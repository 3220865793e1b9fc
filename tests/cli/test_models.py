"""`truckscape models`: lists, cards and anatomies."""

from typer.testing import CliRunner

from pipeline import cli


def test_models_are_listed_shown_and_taken_apart():
    listed = CliRunner().invoke(cli.app, ["models", "list"]).output
    assert "faster_rcnn" in listed
    assert "unet" in listed
    shown = CliRunner().invoke(cli.app, ["models", "show", "trucks"]).output
    for expected in ("faster_rcnn", "a detection counts from", "Learned from", "licence", "f1", "GMAC; halo"):
        assert expected in shown
    anatomy = CliRunner().invoke(cli.app, ["models", "anatomy", "landcover"], env={"COLUMNS": "200"}).output
    assert "halo 112 px; stride 16 px" in anatomy
