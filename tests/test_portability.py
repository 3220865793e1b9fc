"""Nothing that only Linux has is needed."""

import subprocess
import sys

from tests.compare_runs import differences
from tests.elsewhere import run_scene


def test_a_scene_runs_to_the_same_layers_without_what_only_linux_has(product, tmp_path):
    paths = product.safe, tmp_path / "elsewhere", product.roads
    done = subprocess.run(
        [sys.executable, "-m", "tests.elsewhere", *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run_scene(product.safe, tmp_path / "here", product.roads)
    here, there = (tmp_path / name / product.safe.stem for name in ("here", "elsewhere"))
    assert (here / "landcover.gpkg").is_file()
    assert not list(differences(here, there))
