import json
import logging

import numpy as np
import pytest

from pipeline.errors import RunsError
from pipeline.labelling.runs import read_run_boxes
from tests.labelling.runs import BOXES, write_run


def test_boxes_are_in_pixels_of_the_scene(tmp_path):
    found = read_run_boxes(write_run(tmp_path / "runs" / "scene") / "run.json", cases=False)
    assert found.boxes == pytest.approx(np.array(BOXES), abs=1e-6)
    assert found.attributes[0] == {"id": "t0", "score": 0.75}
    assert set(found.categories) == {"truck"}


def test_an_old_evaluation_is_a_warning(tmp_path, caplog):
    cases = [{"id": f"fn-{n}", "outcome": "FN"} for n in range(3)]
    path = write_run(tmp_path / "runs" / "scene", cases=cases) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"evaluation": {"is_current": False}}))
    with caplog.at_level(logging.WARNING):
        read_run_boxes(path, cases=True)
    assert "its evaluation is older than its layers" in caplog.text


def test_another_scene_is_refused(tmp_path):
    path = write_run(tmp_path / "runs" / "scene") / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shape": [1, 2]}))
    with pytest.raises(RunsError, match=r"scene of \[1, 2\] pixels; .* has \[90, 120\]"):
        read_run_boxes(path, cases=False)


def test_a_scene_that_was_moved_can_be_named(tmp_path):
    path = write_run(tmp_path / "runs" / "scene") / "run.json"
    moved = (tmp_path / "runs" / "scene.tif").rename(tmp_path / "moved.tif")
    with pytest.raises(RunsError, match=r"its scene is not at .*scene.tif. Give it with --scene"):
        read_run_boxes(path, cases=False)
    assert len(read_run_boxes(path, cases=False, source=str(moved)).boxes) == 3
