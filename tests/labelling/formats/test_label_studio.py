import json

import pytest
from affine import Affine

from pipeline.errors import LabelsError
from pipeline.labelling.formats.label_studio import FORMAT
from pipeline.labelling.images import ImageIndex, ImagePlace

PLACE = ImagePlace("a.png", "s", "EPSG:32632", Affine.identity(), 200, 100, (0, 0, 200, 100))


def region(**value):
    given = {"x": 5, "y": 20, "width": 2, "height": 2, "rotation": 0, "rectanglelabels": ["truck"]}
    return {"id": "r1", "type": "rectanglelabels", "value": given | value}


def read(tmp_path, *tasks):
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    return FORMAT.read(tmp_path / "a.json", ImageIndex([PLACE]))


def task(*annotations):
    return {"data": {"image": "/data/upload/3/0123abcd-a.png"}, "annotations": list(annotations)}


def test_the_last_annotation_that_was_not_skipped_counts(tmp_path):
    first = {"id": 1, "updated_at": "2026-01-01", "result": [region(x=50)]}
    last = {"id": 2, "updated_at": "2026-01-02", "result": [region()]}
    skipped = {"id": 3, "updated_at": "2026-01-03", "was_cancelled": True, "result": []}
    found = read(tmp_path, task(first, last, skipped))
    assert found.boxes[0].bounds == pytest.approx((10, 20, 14, 22))
    assert found.left_out["earlier annotations of an image, of which the last counts"] == 1


def test_a_rotated_box_is_turned_around_its_corner(tmp_path):
    found = read(tmp_path, task({"id": 1, "result": [region(rotation=90)]}))
    assert found.boxes[0].bounds == pytest.approx((8, 20, 10, 24))


def test_predictions_are_no_labels(tmp_path):
    given = {"data": {"image": "a.png"}, "predictions": [{"result": [region()]}]}
    found = read(tmp_path, given)
    assert not found.boxes
    assert not found.images
    assert found.left_out == {"images that nobody has annotated": 1}


def test_damaged_files_are_one_line(tmp_path):
    with pytest.raises(LabelsError, match="can't be read as Label Studio JSON: no 'value'"):
        read(tmp_path, task({"id": 1, "result": [{"type": "rectanglelabels"}]}))
