"""Names of bands, dates and tiles, as people and agencies write them."""

import pytest

from pipeline.scenes.readers.naming import band_name


@pytest.mark.parametrize(
    ("text", "name"),
    [("B2", "B02"), ("B02", "B02"), ("b08", "B08"), ("B8A", "B8A"), ("b8a", "B8A"), ("Band 4", "B04"),
     ("B12_20m", "B12"), ("B13", None), ("B0", None), ("red", None), ("", None), (None, None),
     ("B08A", "B8A")],
)  # fmt: skip
def test_band_names_as_people_write_them(text, name):
    assert band_name(text) == name
