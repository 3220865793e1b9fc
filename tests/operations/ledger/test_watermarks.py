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
