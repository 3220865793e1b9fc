import shutil

from pipeline.config import load_config
from pipeline.models.bundle import SHIPPED
from pipeline.operations.checks.models import models


def test_shipped_models_compute_and_a_broken_one_is_named(tmp_path):
    broken = tmp_path / "mine"
    shutil.copytree(SHIPPED / "trucks", broken)
    with (broken / "weights.safetensors").open("ab") as file:
        file.write(b"0")
    settings = ["engine.threads=1", f"trucks.bundle={broken}", f"landcover.bundle={tmp_path / 'none'}"]
    well, hashed, missing = models(load_config(None, settings))
    assert well.state == "ok"
    assert all(name in well.found for name in ("trucks", "landcover", "hashes right"))
    assert hashed.state == missing.state == "fails"
    assert "SHA-256" in hashed.found
    assert "no card.yaml" in missing.found
