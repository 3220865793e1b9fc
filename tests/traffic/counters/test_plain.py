"""Plain tables: length of an interval."""

import pandas as pd
import pytest

from pipeline.errors import CountsError
from pipeline.traffic.counters.plain import PLAIN


def rows(*starts, **more):
    return pd.DataFrame({"start": starts, "heavy": "3"} | more)


def test_an_interval_lasts_to_the_next_start():
    found = PLAIN.counts(rows("2023-06-13T10:00Z", "2023-06-13T10:15Z", "2023-06-13T11:00Z"), None)
    assert found["minutes"].tolist() == [15] * 3
    assert PLAIN.counts(rows("2023-06-13T10:00Z", minutes="60"), None)["minutes"].tolist() == [60]
    with pytest.raises(CountsError, match="Give a column minutes"):
        PLAIN.counts(rows("2023-06-13T10:00Z"), None)


def test_negative_numbers_and_texts_are_missing():
    found = PLAIN.counts(rows(*["2023-06-13T10:00Z"] * 4, minutes="60", vehicles=["-1", "x", "", "7"]), None)
    assert found["vehicles"].fillna(-9).tolist() == [-9, -9, -9, 7]
