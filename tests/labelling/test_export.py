import json

import numpy as np
import pytest
from affine import Affine
from faster_coco_eval import COCO
from PIL import Image

from pipeline.errors import OutputError, RunsError
from pipeline.labelling.export import Cut, export_labels
from pipeline.labelling.images import read_sidecar
from tests.labelling.runs import BOXES, write_run

CUT = Cut(size_px=48, margin_px=8)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "runs" / "scene")


def test_coco_loads_and_has_every_box_with_its_fields(run, tmp_path):
    done = export_labels([run], tmp_path / "out", "coco", CUT)
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_default.json"))
    names = {image["file_name"] for image in coco.loadImgs(coco.getImgIds())}
    assert names == {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert {one["attributes"]["id"] for one in coco.loadAnns(coco.getAnnIds())} == {"t0", "t1", "t2"}
    (first,) = (one for one in coco.loadAnns(coco.getAnnIds()) if one["attributes"]["id"] == "t0")
    assert first["bbox"] == pytest.approx([18.25, 20.5, 4.5, 2.5], abs=1e-6)
    assert first["attributes"]["score"] == 0.75
    # t1 and t2 are in the core of one image and in the margin of three others.
    assert (done.boxes, done.annotations) == (3, 9)


def test_an_image_shows_its_part_of_the_scene_and_black_beyond_it(run, tmp_path):
    done = export_labels([run], tmp_path / "out", "coco", CUT)
    index = read_sidecar(tmp_path / "out" / "images.json")
    image = index.find("scene_r00000_c00000.jpg")
    assert image.transform == Affine(10, 0, 600000 - 80, 0, -10, 5800000 + 80)
    assert image.core == (8, 8, 40, 40)
    assert image.padded_px == 48 * 48 - 40 * 40
    pixels = np.asarray(Image.open(tmp_path / "out" / "images" / image.name))
    assert pixels.shape == (48, 48, 3)
    assert pixels.dtype == np.uint8
    assert not pixels[:8].any()
    assert not pixels[:, :8].any()
    assert pixels[8:, 8:].any(axis=2).mean() > 0.9
    assert done.padded_images >= 2
    assert any("filled with black" in line for line in done.lines())


def test_the_last_core_ends_with_the_scene(run, tmp_path):
    export_labels([run], tmp_path / "out", "coco", Cut(48, 8, without_boxes=True))
    images = list(read_sidecar(tmp_path / "out" / "images.json"))
    assert len(images) == 3 * 4
    area = sum((image.core[2] - image.core[0]) * (image.core[3] - image.core[1]) for image in images)
    assert area == 90 * 120


def test_zoom_makes_larger_pixels(run, tmp_path):
    export_labels([run], tmp_path / "out", "coco", Cut(48, 8, zoom=3))
    image = read_sidecar(tmp_path / "out" / "images.json").find("scene_r00000_c00000")
    pixels = np.asarray(Image.open(tmp_path / "out" / "images" / image.name))
    assert pixels.shape == (144, 144, 3)
    assert (pixels[::3, ::3] == pixels[2::3, 1::3]).all()
    assert image.transform * (24, 24) == (600000, 5800000)


def test_boxes_beyond_the_scene_and_larger_than_the_margin_are_counted(tmp_path):
    run = write_run(tmp_path / "runs" / "scene", ((-9.0, 5.0, -3.0, 9.0), (0.0, 0.0, 38.0, 30.0)))
    done = export_labels([run], tmp_path / "out", "coco", Cut(48, 2))
    assert done.boxes == 1
    lines = "\n".join(done.lines())
    assert "1 boxes have their centre outside of the scene" in lines
    run = write_run(tmp_path / "more" / "scene", ((20.0, 20.0, 60.0, 60.0),))
    lines = "\n".join(export_labels([run], tmp_path / "larger", "coco", Cut(48, 2)).lines())
    assert "1 boxes are larger than the margin" in lines


def test_cases_have_outcome_and_cause_and_false_alarms_are_no_trucks(tmp_path):
    cases = [
        {"id": "tp-1", "outcome": "TP", "vehicle": "heavy"},
        {"id": "fp-1", "outcome": "FP", "cause": "near cloud or shadow"},
        {"id": "fp-2", "outcome": "FP", "cause": "light vehicle", "vehicle": "light"},
    ]
    run = write_run(tmp_path / "runs" / "scene", cases=cases)
    export_labels([run], tmp_path / "out", "coco", CUT, cases=True)
    document = json.loads((tmp_path / "out" / "annotations" / "instances_default.json").read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    found = {one["attributes"]["id"]: one for one in document["annotations"]}
    assert {key: names[one["category_id"]] for key, one in found.items()} == {
        "tp-1": "truck",
        "fp-1": "no truck",
        "fp-2": "light vehicle",
    }
    assert found["fp-1"]["attributes"] == {"id": "fp-1", "outcome": "FP", "cause": "near cloud or shadow"}


def test_errors_leave_nothing_behind(run, tmp_path):
    with pytest.raises(RunsError, match="--truck-labels, or export without --cases"):
        export_labels([run], tmp_path / "out", "coco", CUT, cases=True)
    other = write_run(tmp_path / "again" / "scene")
    with pytest.raises(RunsError, match="is another run of scene"):
        export_labels([run, other], tmp_path / "out", "coco", CUT)
    empty = write_run(tmp_path / "empty" / "scene", boxes=())
    with pytest.raises(RunsError, match="is another run of scene"):
        export_labels([empty, run], tmp_path / "out", "coco", CUT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "empty", "runs"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "corrected.json").write_text("")
    with pytest.raises(OutputError, match="is not empty; choose a new --out"):
        export_labels([run], tmp_path / "out", "coco", CUT)
    with pytest.raises(ValueError, match="has no core"):
        Cut(32, 16)


def test_an_export_is_the_same_each_time(run, tmp_path):
    for name in ("a", "b"):
        export_labels([run], tmp_path / name / "out", "cvat", CUT)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) > 3
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_boxes_of_a_scene_are_those_of_the_layer(run, tmp_path):
    export_labels([run], tmp_path / "out", "coco", CUT)
    document = json.loads((tmp_path / "out" / "annotations" / "instances_default.json").read_text())
    names = {one["id"]: one["file_name"] for one in document["images"]}
    index = read_sidecar(tmp_path / "out" / "images.json")
    for one in document["annotations"]:
        left, top, width, height = one["bbox"]
        place = index.find(names[one["image_id"]])
        x, y = place.transform * (left, top)
        expected = BOXES[int(one["attributes"]["id"][1:])]
        assert ((x - 600000) / 10, (5800000 - y) / 10) == pytest.approx(expected[:2], abs=1e-6)
        assert (width, height) == pytest.approx(
            (expected[2] - expected[0], expected[3] - expected[1]), abs=1e-6
        )
