"""Parameters of a scene, without what only batches need."""

import subprocess
import sys
from pathlib import Path

from pipeline.operations.scene_parameters import SceneParameters


def test_a_scene_has_its_settings():
    request = SceneParameters(out="layers", scene="a.tif", settings=["tiling.tile_px=256"]).request()
    assert (request.scene, request.out, request.config.tiling.tile_px) == ("a.tif", Path("layers"), 256)


def test_a_run_of_one_scene_does_not_import_what_batches_need():
    code = (
        "import sys, pipeline.operations.scene_parameters\n"
        "print({'sqlalchemy', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
