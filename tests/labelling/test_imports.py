import json
import logging

import numpy as np
import pytest

from pipeline.errors import LabelsError
from pipeline.evaluation.features import read_polygons
from pipeline.evaluation.labels import read_truck_labels
from pipeline.labelling.export import Cut, export_labels
from pipeline.labelling.imports import import_labels, write_labels
from pipeline.labelling.label_formats import LABEL_FORMATS
from tests.labelling.runs import BOXES, on_map, write_run

CUT = Cut(size_px=48, margin_px=8, zoom=2)


def annotated(folder):
    """Submit the predictions of Label Studio's tasks, as a person would."""
    path = folder / "label-studio.json"
    tasks = json.loads(path.read_text())
    for number, task in enumerate(tasks):
        address = task["data"]["image"]
        task["data"]["image"] = f"/data/upload/1/0a1b2c3d-{address.rsplit('/', 1)[1]}"
        results = task.pop("predictions")[0]["result"]
        task["annotations"] = [{"id": number, "was_cancelled": False, "result": results}]
    path.write_text(json.dumps(tasks))


def exported(tmp_path, name="coco", **changes):
    run = write_run(tmp_path / "runs" / "scene", **changes)
    out = tmp_path / "out"
    export_labels([run], out, name, CUT, cases="cases" in changes)
    if name == "label-studio":
        annotated(out)
    return out


def corners(frame):
    """Bounds in pixels of the scene, in a fixed order."""
    bounds = frame.geometry.bounds.to_numpy()
    pixels = np.stack(
        [bounds[:, 0] - 600000, 5800000 - bounds[:, 3], bounds[:, 2] - 600000, 5800000 - bounds[:, 1]], axis=1
    )
    return pixels[np.argsort(pixels[:, 0])] / 10


@pytest.mark.parametrize("name", [each.name for each in LABEL_FORMATS])
def test_the_way_there_and_back_keeps_boxes_to_a_hundredth_of_a_pixel(tmp_path, name, caplog):
    out = exported(tmp_path, name)
    write_labels(tmp_path / "boxes.gpkg", import_labels(out))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        labels = read_truck_labels(tmp_path / "boxes.gpkg")
    assert not caplog.records
    assert np.abs(corners(labels) - np.array(BOXES)).max() < 0.01
    assert labels.crs == "EPSG:32632"
    assert set(labels["confidence"]) == {"high"}
    assert set(labels["vehicle"]) == {"heavy"}
    assert set(labels["scene_id"]) == {"scene"}
    area = read_polygons(tmp_path / "boxes.gpkg:labelled_area", "Area")
    assert area.contains(on_map(BOXES[0])).any()


def changed(out, change):
    path = out / "annotations" / "instances_default.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_what_people_changed_counts(tmp_path):
    out = exported(tmp_path)

    def correct(document):
        kept = [one for one in document["annotations"] if one["attributes"]["id"] != "t2"]
        (first,) = (one for one in kept if one["attributes"]["id"] == "t0")
        first["bbox"][2] += 2
        document["annotations"] = kept
        document["categories"][0]["name"] = "lorry"

    path = changed(out, correct)
    with pytest.raises(LabelsError, match=r"has the class 'lorry'; expected truck.*--category lorry=truck"):
        import_labels(path)
    found = import_labels(path, categories={"lorry": "truck"})
    assert sorted(found.labels["id"]) == ["t0", "t1"]
    assert corners(found.labels)[0] == pytest.approx([10.25, 12.5, 15.75, 15.0], abs=1e-6)
    assert len(found.area) == 8  # an image that lost its boxes is labelled, too


def test_the_image_of_a_place_decides_and_a_margin_only_without_it(tmp_path):
    out, decided = exported(tmp_path), "boxes in the margin of an image, where a neighbouring image decides"

    def delete_in_core(document):
        names = {one["id"]: one["file_name"] for one in document["images"]}
        document["annotations"] = [
            one
            for one in document["annotations"]
            if one["attributes"]["id"] != "t1" or names[one["image_id"]] != "scene_r00032_c00000.png"
        ]

    found = import_labels(changed(out, delete_in_core))
    assert sorted(found.labels["id"]) == ["t0", "t2"]
    assert found.left_out == {decided: 6}

    def delete_image(document):
        document["images"] = [
            one for one in document["images"] if one["file_name"] != "scene_r00032_c00000.png"
        ]

    found = import_labels(changed(out, delete_image))
    assert sorted(found.labels["id"]) == ["t0", "t1", "t2"]
    assert found.left_out == {decided: 3, "boxes in margins that another image has, too": 2}


def test_boxes_that_can_not_be_used_are_counted(tmp_path):
    def spoil(document):
        first, second = document["annotations"][:2]
        first["bbox"][2] = 0
        second["bbox"][0] = 400

    found = import_labels(changed(exported(tmp_path), spoil))
    assert found.left_out["boxes without an extent"] == 1
    assert found.left_out["boxes with their centre outside of their image"] == 1
    assert any("left out: 1 boxes without an extent" in line for line in found.lines())


def test_false_alarms_are_no_labels_and_ignored_cases_are_ignored(tmp_path):
    cases = [
        {"id": "fp-1", "outcome": "FP"},
        {"id": "ignored-1", "outcome": "ignored", "confidence": "low"},
        {"id": "fp-2", "outcome": "FP", "vehicle": "light", "confidence": "medium"},
    ]
    labels = import_labels(exported(tmp_path, cases=cases)).labels.set_index("id")
    assert sorted(labels.index) == ["fp-2", "ignored-1"]
    assert labels.loc["fp-2", ["vehicle", "confidence"]].tolist() == ["light", "medium"]
    assert labels.loc["ignored-1", "confidence"] == "ignore"


def test_scenes_of_two_zones_are_one_file(tmp_path):
    runs = [
        write_run(tmp_path / "runs" / name, crs=crs)
        for name, crs in (("a", "EPSG:32632"), ("b", "EPSG:32633"))
    ]
    export_labels(runs, tmp_path / "out", "yolo", CUT)
    labels = import_labels(tmp_path / "out").labels
    assert len(labels) == 6
    own = labels[labels["scene_id"] == "b"].to_crs("EPSG:32633")
    assert np.abs(corners(own) - np.array(BOXES)).max() < 0.01


def test_labels_of_another_export_or_without_its_images_are_an_error(tmp_path):
    out = exported(tmp_path)
    moved = tmp_path / "labels.json"
    written = (out / "annotations" / "instances_default.json").read_text()
    moved.write_text(written)
    with pytest.raises(LabelsError, match=r"No images.json beside .*Give it with --images"):
        import_labels(moved)
    assert len(import_labels(moved, out / "images.json").labels) == 3
    moved.write_text(
        (out / "annotations" / "instances_default.json").read_text().replace("scene_r", "other_r")
    )
    with pytest.raises(LabelsError, match=r"has no labelled image that images.json lists"):
        import_labels(moved, out / "images.json")
