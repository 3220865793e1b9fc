"""Watermarks of searches, kept by batch and search."""

import pytest

from pipeline.errors import LedgerError
from pipeline.operations.ledger.watermarks import Watermark, Watermarks, earlier

LATEST = "2023-06-15T10:20:31Z"


def test_a_watermark_only_rises():
    mark = Watermark().raised("2023-06-15T10:20:31Z", None)
    assert mark.raised("2023-06-15T10:20:30.900Z", "2023-07-01T00:00:00Z") == Watermark(
        "2023-06-15T10:20:31Z", "2023-07-01T00:00:00Z"
    )
    assert earlier("2023-03-01T00:00:00Z", 1.5) == "2023-02-27T12:00:00Z"


def test_watermarks_are_kept_by_batch_and_search(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    north, south = Watermarks(url, "north"), Watermarks(url, "south")
    north.put("a", Watermark(LATEST))
    north.put("a", Watermark(LATEST, LATEST))
    assert north.get("a") == Watermark(LATEST, LATEST)
    assert north.get("b") == south.get("a") == Watermark()
    north.close()
    south.close()
    with pytest.raises(LedgerError, match="can't be used"):
        Watermarks(f"sqlite:///{tmp_path}/nowhere/ledger.sqlite", "north")


def test_times_at_the_ends_of_the_calendar(tmp_path):
    first, last = "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"
    assert {earlier(moment, 1e10) for moment in (first, last)} == {"1970-01-01T00:00:00Z"}
    assert earlier(first, 0) == "1970-01-01T00:00:00Z"
    assert earlier(last, 36_500).startswith("9900-01-24T23:59:59")


def test_an_item_of_the_future_does_not_hide_those_to_come(tmp_path):
    """One with a wrong year, say."""
    assert Watermark(LATEST).raised("2323-06-15T10:20:31Z", LATEST) == Watermark(LATEST, LATEST)
    marks = Watermarks(f"sqlite:///{tmp_path}/ledger.sqlite", "north")
    marks.put("a", Watermark("2323-06-15T10:20:31Z", LATEST))
    assert marks.get("a") == Watermark(None, LATEST)
    marks.close()
