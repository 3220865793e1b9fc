"""`truckscape models`: lists, cards and anatomies."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import cli
from pipeline.models.bundle import open_bundle, save_bundle, shipped_bundles
from pipeline.models.halo import with_halo
from pipeline.models.registry import build_network


def test_models_are_listed_shown_and_taken_apart():
    listed = CliRunner().invoke(cli.app, ["models", "list"], env={"COLUMNS": "200"}).output
    assert "centernet2" in listed
    assert "separable_fcn" in listed
    shown = CliRunner().invoke(cli.app, ["models", "show", "trucks"]).output
    for expected in ("centernet2", "a detection counts from", "Learned from", "licence", "f1", "GMAC; halo"):
        assert expected in shown
    anatomy = CliRunner().invoke(cli.app, ["models", "anatomy", "landcover"], env={"COLUMNS": "200"}).output
    assert "halo 20 px; stride 2 px" in anatomy


def test_a_network_is_inspected_at_a_place(tmp_path, scene):
    page = tmp_path / "inside.html"
    command = ["models", "inspect", "trucks", scene, "--at", "3,4", "--out", str(page)]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0
    assert "inside.html" in done.output.replace("\n", "")
    assert "centres.stem.0" in page.read_text()


@pytest.mark.parametrize(
    ("bundle", "place", "said"),
    [
        ("trucks", "20,0", "outside of scene, which has 20 x 20 pixels"),
        ("trucks", "here", "like 310,220. Received: here"),
        ("missing", "3,4", "missing"),
        ("landcover", "3,4", "needs band B05"),
    ],
)
def test_what_can_not_be_inspected_is_one_line(tmp_path, scene, bundle, place, said):
    if bundle == "landcover":
        card = open_bundle("landcover").card.model_copy(update={"optional_bands": ()})
        bundle = str(save_bundle(tmp_path / "strict", card, open_bundle("landcover").state_dict()).folder)
    page = tmp_path / "inside.html"
    command = ["models", "inspect", bundle, scene, "--at", place, "--out", str(page)]
    done = CliRunner().invoke(cli.app, command, env={"COLUMNS": "300"})
    failure = f"{done.output} {done.exception}"
    assert done.exit_code
    assert said in failure
    assert "Traceback" not in failure
    assert not page.exists()


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


def test_a_model_is_exported_for_other_programs(tmp_path):
    out = tmp_path / "exported"
    done = CliRunner().invoke(
        cli.app, ["models", "export", "landcover", "--tile-px", "100", "--out", str(out)]
    )
    assert done.exit_code == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["card.yaml", "item.json", "model.onnx", "weights.safetensors"]
    again = CliRunner().invoke(cli.app, ["models", "export", "landcover", "--out", str(out)])
    assert again.exit_code == 1
    assert "not an empty folder" in str(again.exception)
