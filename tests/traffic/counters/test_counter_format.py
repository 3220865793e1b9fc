"""What all formats share."""

import pandas as pd
import pytest

from pipeline.errors import CountsError
from pipeline.traffic.counters.counter_format import COLUMNS, counts_of, whole_numbers


def test_a_format_without_places_has_null_ones():
    found = counts_of({"vehicles": 5.0}, pd.RangeIndex(2))
    assert tuple(found) == COLUMNS
    assert found["vehicles"].tolist() == [5, 5]
    assert found["lon"].isna().all()


def test_numbers_of_files():
    found = whole_numbers(pd.Series([" 610", "1,200", "-1", "", "nan", "inf", "a"]))
    assert found[:2].tolist() == [610, 1200]
    assert found[2:].isna().all()


@pytest.mark.parametrize("text", ["1.500", "2.5", "12.3456"])
def test_a_point_may_be_of_thousands(text):
    assert whole_numbers(pd.Series(["12.0"])).tolist() == [12]
    with pytest.raises(CountsError, match="no whole number"):
        whole_numbers(pd.Series(["3", text]))
