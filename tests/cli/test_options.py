"""Values of options that several commands share."""

from pipeline.cli.options import band_list


def test_bands_are_split_at_commas():
    assert band_list("B04, B03,B02") == ("B04", "B03", "B02")
    assert band_list(None) is None
