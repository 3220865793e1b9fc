import pytest
from affine import Affine

from pipeline.errors import LabelsError
from pipeline.labelling.formats.yolo import FORMAT
from pipeline.labelling.images import ImageIndex, ImagePlace

PLACE = ImagePlace("a.png", "s", "EPSG:32632", Affine.identity(), 200, 100, (0, 0, 200, 100))


def read(tmp_path, text, names="names: [truck]"):
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text(names)
    (tmp_path / "labels" / "train" / "a.txt").write_text(text)
    return FORMAT.read(tmp_path / "data.yaml", ImageIndex([PLACE]))


@pytest.mark.parametrize("names", ["names: [truck]", "names: {0: truck}"])
def test_shares_of_the_image_are_pixels(tmp_path, names):
    found = read(tmp_path, "0 0.5 0.25 0.04 0.1\n\n", names)
    assert found.boxes[0].bounds == pytest.approx((96, 20, 104, 30))
    assert found.boxes[0].category == "truck"


def test_a_file_without_lines_is_an_image_without_boxes(tmp_path):
    found = read(tmp_path, "")
    assert (found.boxes, found.images) == ([], {"a.png"})


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "7 0.5 0.5 0.1 0.1", "0 0.5 nan 0.1 0.1", "truck 1 1 1 1"])
def test_damaged_lines_are_named(tmp_path, line):
    with pytest.raises(LabelsError, match=r"a.txt can't be read as YOLO"):
        read(tmp_path, line)


@pytest.mark.parametrize("names", ["a: b", "names: [", "- a"])
def test_a_damaged_list_of_classes_is_an_error(tmp_path, names):
    with pytest.raises(LabelsError, match=r"data.yaml can't be read as YOLO"):
        read(tmp_path, "", names)
