"""Sets of dates: periods, weekdays, and both."""

import pandas as pd
import pytest

from pipeline.errors import CountsError
from pipeline.traffic.days import Days

WEEK = pd.date_range("2023-06-26", "2023-07-02")  # Monday to Sunday


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2023-06-28", [28]),
        ("2023-06", [26, 27, 28, 29, 30]),
        ("2023-06-29..2023-07", [29, 30, 1, 2]),
        ("2022..2023", [26, 27, 28, 29, 30, 1, 2]),
        ("2022", []),
        ("Mon-Fri", [26, 27, 28, 29, 30]),
        ("sat, Sunday", [1, 2]),
        ("Sat-Mon", [26, 1, 2]),
        ("2023-06,Fri-Sat", [30]),
        ("2023-06-26,2023-07-01,Mon,Sat", [26, 1]),
    ],
)
def test_dates_of_a_text(text, days):
    assert WEEK[Days.parse(text).include(WEEK)].day.tolist() == days


@pytest.mark.parametrize(
    "text", ["", "Mo-Xy", "2023-13", "June", "2023-06-31", "13.6.2023", "Mon,,Tue", "1.."]
)
def test_other_texts_are_refused(text):
    with pytest.raises(CountsError, match="is no set of dates"):
        Days.parse(text)


def test_a_period_ends_after_it_begins():
    with pytest.raises(CountsError, match="ends before it begins"):
        Days.parse("2023-07..2023-06")
