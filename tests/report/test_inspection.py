"""The page of an inspection: one file, with the sums of its layers."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.models.registry import FAMILIES
from pipeline.report.inspection import write_inspection
from tests.inference.test_inspection import PROPOSING, inspected, scene, small_window

__all__ = ["scene", "small_window"]


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
@pytest.mark.usefixtures("small_window")
def test_every_family_has_a_page_without_other_files(tmp_path, scene, name):
    found = inspected(tmp_path, scene, name)
    write_inspection(tmp_path / "new" / "page.html", found)
    page = (tmp_path / "new" / "page.html").read_text()
    assert "default-src 'none'" in page
    assert "http" not in re.sub(r"data:image/webp;base64,[\w+/=]+", "", page).replace("http-equiv", "")
    assert ('id="regions"' in page) == (name in PROPOSING)
    for layer in found.convolutions:
        assert f'<th scope="row">{layer.name}</th>' in page
    shown = sum(layer.maps is not None for layer in found.convolutions)
    assert page.count('class="stage"') == shown
    assert page.count("<img") == 2 + (name in PROPOSING) + shown


def test_the_sums_of_a_layer_and_the_kernels(tmp_path, scene):
    found = inspected(tmp_path, scene, "fcn")
    write_inspection(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    assert "(128 - 3 + 2 x 1) / 1 + 1 = 128" in page
    assert "3^2 x 4 x 4 + 4 = 148" in page
    assert '<td class="number">144.0</td>' in page  # MACs a pixel: 3 x 3 x 4 x 4
    assert "Column 60, row 70 of the scene: chosen by --at" in page
    kernels = Image.open(io.BytesIO(base64.b64decode(re.findall(r"base64,([\w+/=]+)", page)[1])))
    assert kernels.size == (4 * (3 * 8 + 4), 4 * (3 * 8 + 4))
    red, _, blue = np.asarray(kernels.convert("RGB"), np.int64)[4, 4]
    assert (red >= blue) == (found.kernels[0, 0, 0, 0] >= 0)
