import json

import pytest
from affine import Affine

from pipeline.errors import LabelsError
from pipeline.labelling.images import ImageIndex, ImagePlace, read_sidecar, write_sidecar

PLACE = ImagePlace(
    "50% road_r0_c0.png",
    "50% road",
    "EPSG:32632",
    Affine(10, 0, 6e5, 0, -10, 58e5),
    64,
    32,
    (8, 8, 56, 24),
    7,
)


def test_a_sidecar_gives_back_every_place(tmp_path):
    write_sidecar(tmp_path / "images.json", [PLACE])
    assert list(read_sidecar(tmp_path / "images.json")) == [PLACE]


@pytest.mark.parametrize(
    "address",
    [
        "50% road_r0_c0.png",
        "train/50% road_r0_c0.txt",
        "C:\\images\\50% road_r0_c0.jpeg",
        "/data/local-files/?d=out/images/50%25%20road_r0_c0.png",
        "/data/upload/3/0123abcd-50%25%20road_r0_c0.png",
    ],
)
def test_names_that_tools_give_are_found(address):
    assert ImageIndex([PLACE]).find(address) == PLACE


def test_other_names_are_not_found():
    assert ImageIndex([PLACE]).find("other.png") is None


def test_a_core_has_its_left_and_upper_edge_only():
    assert PLACE.has_in_core(8, 8)
    assert not PLACE.has_in_core(56, 8)
    assert not PLACE.has_in_core(8, 24)


@pytest.mark.parametrize(
    "change", [{"kind": "other"}, {"images": [{}]}, {"images": [PLACE.as_json() | {"width": 0}]}]
)
def test_other_files_are_one_line(tmp_path, change):
    path = tmp_path / "images.json"
    write_sidecar(path, [PLACE])
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LabelsError, match=r"Expected the images.json .* give it with --images"):
        read_sidecar(path)
    with pytest.raises(LabelsError, match="No such file"):
        read_sidecar(tmp_path / "none.json")
