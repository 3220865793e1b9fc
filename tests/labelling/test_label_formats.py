import pytest

from pipeline.errors import LabelsError
from pipeline.labelling.label_formats import LABEL_FORMATS, find_labels, format_named


def test_names_and_files_are_distinct():
    assert [each.name for each in LABEL_FORMATS] == ["coco", "yolo", "label-studio", "cvat"]
    assert len({each.file for each in LABEL_FORMATS}) == len(LABEL_FORMATS)
    with pytest.raises(LabelsError, match="'voc'; expected one of coco, yolo, label-studio, cvat"):
        format_named("voc")


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("a.json", '{"images": [], "annotations": [], "categories": []}', "coco"),
        ("a.json", '[{"data": {"image": "a.png"}}]', "label-studio"),
        ("a.xml", "<annotations/>", "cvat"),
        ("data.yaml", "names: [truck]", "yolo"),
    ],
)
def test_a_file_has_one_format(tmp_path, file, text, name):
    (tmp_path / file).write_text(text)
    assert find_labels(tmp_path / file)[0].name == name


def test_what_is_no_labels_is_an_error(tmp_path):
    with pytest.raises(LabelsError, match="does not exist"):
        find_labels(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(LabelsError, match=r"a.json is not of a known format of labels; expected COCO JSON"):
        find_labels(tmp_path / "a.json")
    (tmp_path / "annotations").mkdir()
    for name in ("annotations/instances_default.json", "data.yaml"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(LabelsError, match=r"several formats \(instances_default.json, data.yaml\)"):
        find_labels(tmp_path)
    assert find_labels(tmp_path, "yolo")[1].name == "data.yaml"
