"""Sets of dates as text: periods, weekdays, or weekdays of periods."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import CountsError

_WEEKDAYS = [name.lower() for name in calendar.day_abbr]
_DATE = re.compile(r"\d{4}(-\d{2}){0,2}")
EXPECTED = (
    "Expected dates, months or years (2023-06-13, 2023-06, 2023), periods (2023-06-01..2023-06-30), weekdays "
    "(Mon-Fri), or several of them with commas; with both, dates are those weekdays of the periods."
)


@dataclass(frozen=True)
class Days:
    """Dates that are in one of the periods, and of one of the weekdays."""

    text: str
    periods: tuple[tuple[pd.Timestamp, pd.Timestamp], ...]
    """First and last day; empty: any."""
    weekdays: frozenset[int]
    """0 is Monday; empty: any."""

    @classmethod
    def parse(cls, text: str) -> Days:
        """Read a text such as `2023-06..2023-08`, `Sat,Sun` or `2023,Mon-Fri`.

        Raises
        ------
        CountsError
            If a part is neither a date nor a weekday.
        """
        periods: list[tuple[pd.Timestamp, pd.Timestamp]] = []
        weekdays: set[int] = set()
        for part in (each.strip() for each in text.split(",")):
            between = ".." if ".." in part else "-"
            first, last = (end.strip() for end in part.partition(between)[::2])
            named = [name.lower()[:3] for name in (first, last or first)]
            if all(name in _WEEKDAYS for name in named):
                start, end = (_WEEKDAYS.index(name) for name in named)
                weekdays |= {day % 7 for day in range(start, end + 1 + 7 * (end < start))}
            else:
                periods.append(_period(first, last, text) if between == ".." else _period(part, part, text))
        return cls(text, tuple(periods), frozenset(weekdays))

    def include(self, dates: pd.DatetimeIndex) -> NDArray[np.bool_]:
        """Return (D,): which dates belong to the set."""
        here = np.full(len(dates), not self.periods)
        for first, last in self.periods:
            here |= (dates >= first) & (dates <= last)
        return here & (np.isin(dates.weekday, [*self.weekdays]) if self.weekdays else True)


def _period(first: str, last: str, text: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    try:
        if not (_DATE.fullmatch(first) and _DATE.fullmatch(last)):
            raise ValueError
        unit = {4: "Y", 7: "M", 10: "D"}
        ends = pd.Period(first, unit[len(first)]).start_time, pd.Period(last, unit[len(last)]).end_time
    except ValueError:
        raise CountsError(f"{text!r} is no set of dates. {EXPECTED}") from None
    if ends[0] > ends[1]:
        raise CountsError(f"The period of {text!r} ends before it begins.")
    return ends
