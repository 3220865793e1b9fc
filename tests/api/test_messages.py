"""Options of the command line in messages become arguments of Python."""

import pytest

from pipeline.api.messages import in_python, python_names
from pipeline.errors import RadiometryError


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("give --scale 0.0001 --offset -0.1.", "give scale=0.0001 offset=-0.1."),
        ("give --nodata 65535, or leave out with --bands.", "give nodata=65535, or leave out with bands=."),
        ("or --set engine.memory_mb=4000.", 'or settings={"engine.memory_mb": 4000}.'),
        ("choose another --out.", "choose another out=."),
        ("--scale overrides, --scale and --offset", "scale= overrides, scale= and offset="),
        ("--nodata none, --acquired 2023-06-13T10:20Z.", 'nodata="none", acquired="2023-06-13T10:20Z".'),
        ("gdal_edit.py -a_srs EPSG:326xx", "gdal_edit.py -a_srs EPSG:326xx"),
    ],
)  # fmt: skip
def test_options_become_arguments(message, expected):
    assert in_python(message) == expected


def test_the_class_of_the_error_stays():
    with pytest.raises(RadiometryError, match=r"give scale=0.01"), python_names():
        raise RadiometryError("give --scale 0.01")
