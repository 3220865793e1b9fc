import pytest

from pipeline.errors import LabelsError
from pipeline.labelling.formats.label_format import finite, reading


def test_bounds_are_finite_numbers():
    assert finite("1", 2, 3.5, 4) == (1, 2, 3.5, 4)
    for wrong in (float("nan"), "inf"):
        with pytest.raises(ValueError, match="expected finite ones"):
            finite(1, 2, 3, wrong)


def test_a_malformed_document_is_one_line(tmp_path):
    with (
        pytest.raises(LabelsError, match=r"a.json can't be read as COCO: no 'bbox'\."),
        reading(tmp_path / "a.json", "COCO"),
    ):
        {}["bbox"]
