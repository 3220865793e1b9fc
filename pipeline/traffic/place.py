"""Finished runs of one place, combined: trucks of all dates, and traffic by road where there are roads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import RunsError
from pipeline.traffic.agreement import Correction, corrected_traffic
from pipeline.traffic.all_dates import AllDates, all_dates
from pipeline.traffic.area import area_summary
from pipeline.traffic.runs import Records
from pipeline.traffic.summary import PlaceSummary, summary_of
from pipeline.traffic.table import TrafficByRoad, traffic_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Runs of one place."""

    every: AllDates
    by_road: TrafficByRoad | None
    """None if no run has roads."""
    without_roads: str = ""
    """Reason why there is no traffic by road."""
    keep_recurring: bool = False
    """True if recurring detections count."""

    def summary(self) -> PlaceSummary:
        """Return the summary by road, or by area without roads."""
        if self.by_road is not None:
            return summary_of(self.by_road)
        every = self.every
        return area_summary(every.acquisitions, every.trucks, every.left_out, self.keep_recurring)

    def corrected(self, correction: Correction) -> Place:
        """Return the place with corrected traffic by road."""
        if self.by_road is None:
            return self
        return replace(self, by_road=corrected_traffic(self.by_road, correction))


def read_place(
    places: Sequence[Path], keep_recurring: bool = False, say: Callable[[str], None] = log.info
) -> Place:
    """Combine the finished runs in folders. Recurring detections do not count, unless `keep_recurring`.

    `say` is called with a line for each run. Memory: the layers of all runs.

    Raises
    ------
    RunsError
        If a folder is missing, or if no run has trucks.
    """
    records = Records.of(places)
    every = all_dates(records, say)
    try:
        found = traffic_of(records, None if keep_recurring else every.is_recurring, say)
    except RunsError as error:
        return Place(every, None, str(error), keep_recurring)
    return Place(every, found, keep_recurring=keep_recurring)
