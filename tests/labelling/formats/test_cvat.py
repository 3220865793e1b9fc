import pytest
from affine import Affine
from defusedxml.ElementTree import parse

from pipeline.errors import LabelsError
from pipeline.labelling.formats.cvat import FORMAT
from pipeline.labelling.images import CATEGORIES, Box, ImageIndex, ImagePlace

PLACE = ImagePlace("a.png", "s", "EPSG:32632", Affine.identity(), 100, 100, (0, 0, 100, 100))
INDEX = ImageIndex([PLACE])


def read(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    return FORMAT.read(tmp_path / "a.xml", INDEX)


def test_a_written_file_states_its_labels_as_exports_of_cvat_do(tmp_path):
    FORMAT.write(tmp_path, "x", [PLACE], [Box("a.png", "truck", (1, 2, 3, 4), {"id": "t0"})])
    root = parse(tmp_path / "annotations.xml").getroot()
    labels = root.findall("meta/task/labels/label")
    assert [label.findtext("name") for label in labels] == list(CATEGORIES)
    assert [each.findtext("name") for each in labels[0].findall("attributes/attribute")] == ["id"]
    assert root.find("image/box").get("label") == "truck"


def test_rotated_boxes_and_other_shapes(tmp_path):
    box = '<box label="truck" xtl="10" ytl="20" xbr="14" ybr="22" rotation="90"/>'
    found = read(
        tmp_path,
        f'<annotations><image name="sub/a.png" width="100" height="100">{box}<polygon label="truck"/></image>'
        '<image name="b.png"/></annotations>',
    )
    assert found.boxes[0].bounds == pytest.approx((11, 19, 13, 23))
    assert found.left_out == {"shapes that are no boxes": 1, "images that the sidecar does not list": 1}
    assert found.images == {"a.png"}


def test_an_image_of_another_size_is_scaled(tmp_path):
    box = '<box label="truck" xtl="20" ytl="40" xbr="28" ybr="44"/>'
    found = read(
        tmp_path, f'<annotations><image name="a.png" width="200" height="200">{box}</image></annotations>'
    )
    assert found.boxes[0].bounds == (10, 20, 14, 22)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<annotations><track/></annotations>", "export the task as 'CVAT for images 1.1'"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>', "no XML that can be used"),
        ("<annotations", "no XML that can be used"),
        ('<annotations><image name="a.png"><box label="t"/></image></annotations>', "no 'xtl'"),
        (
            '<annotations><image name="a.png"><box label="t" xtl="nan" ytl="1" xbr="2" ybr="3"/></image>'
            "</annotations>",
            "expected finite ones",
        ),
    ],
)
def test_damaged_files_are_one_line(tmp_path, text, why):
    with pytest.raises(LabelsError, match=why):
        read(tmp_path, text)
