import json

import pytest
from affine import Affine

from pipeline.errors import LabelsError
from pipeline.labelling.formats.coco import FORMAT
from pipeline.labelling.images import ImageIndex, ImagePlace

PLACE = ImagePlace("a.png", "s", "EPSG:32632", Affine.identity(), 200, 100, (0, 0, 200, 100))
DOCUMENT = {
    "images": [{"id": 7, "file_name": "images/a.jpg", "width": 400, "height": 200}],
    "categories": [{"id": 3, "name": "truck"}],
    "annotations": [{"image_id": 7, "category_id": 3, "bbox": [20, 40, 8, 4]}],
}


def read(tmp_path, **changes):
    (tmp_path / "a.json").write_text(json.dumps(DOCUMENT | changes))
    return FORMAT.read(tmp_path / "a.json", ImageIndex([PLACE]))


def test_an_image_of_another_size_and_suffix_is_the_same(tmp_path):
    (box,) = read(tmp_path).boxes
    assert (box.image, box.category, box.bounds) == ("a.png", "truck", (10, 20, 14, 22))


@pytest.mark.parametrize(
    "annotation",
    [
        {"image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4]},
        {"image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4]},
        {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]},
        {"image_id": 7, "category_id": 3},
    ],
)
def test_damaged_annotations_are_one_line(tmp_path, annotation):
    with pytest.raises(LabelsError, match=r"a.json can't be read as COCO JSON: "):
        read(tmp_path, annotations=[annotation])
