"""`truckscape models`: lists, cards and anatomies."""

from pathlib import Path

from typer.testing import CliRunner

from pipeline import cli
from pipeline.models.bundle import shipped_bundles
from pipeline.models.halo import with_halo
from pipeline.models.registry import build_network


def test_models_are_listed_shown_and_taken_apart():
    listed = CliRunner().invoke(cli.app, ["models", "list"], env={"COLUMNS": "200"}).output
    assert "faster_rcnn" in listed
    assert "separable_fcn" in listed
    shown = CliRunner().invoke(cli.app, ["models", "show", "trucks"]).output
    for expected in ("faster_rcnn", "a detection counts from", "Learned from", "licence", "f1", "GMAC; halo"):
        assert expected in shown
    anatomy = CliRunner().invoke(cli.app, ["models", "anatomy", "landcover"], env={"COLUMNS": "200"}).output
    assert "halo 20 px; stride 2 px" in anatomy


def test_anatomy_card_and_documentation_agree():
    root = Path(__file__).resolve().parents[2]
    pages = ("docs/engine.md", "docs/models.md", "README.md")
    engine, models, readme = ((root / page).read_text(encoding="utf-8") for page in pages)
    for bundle in shipped_bundles():
        card = bundle.card
        lines = CliRunner().invoke(cli.app, ["models", "anatomy", bundle.folder.name], env={"COLUMNS": "200"})
        totals = lines.output.splitlines()[-1]
        parameters = sum(part.numel() for part in build_network(card).parameters())
        assert f"parameters {parameters:,}" in totals
        assert f"halo {card.halo} px; stride {card.stride} px" in totals
        assert with_halo(card).halo <= card.halo
        assert "too small" not in totals
        what = "trucks" if card.task == "detection" else "land cover"
        assert f"{card.halo} px for {what}" in engine
        assert f"{parameters / 1e6:.1f} M parameters" in readme
        for line in models.splitlines():
            if line.startswith(f"| {card.id}-{card.version} "):
                assert f"| {parameters:,} |" in line
                assert f"| {card.halo} px |" in line
