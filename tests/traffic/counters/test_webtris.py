"""WebTRIS: quarters of an hour, and lengths of vehicles."""

from zoneinfo import ZoneInfo

import pandas as pd

from pipeline.traffic.counters.read import read_counter
from pipeline.traffic.counters.webtris import WEBTRIS

FILE = (
    '"Site Name","Report Date","Time Period Ending","Time Interval","0 - 520 cm","521 - 660 cm",'
    '"661 - 1160 cm","1160+ cm","0 - 10 mph","Avg mph","Total Volume"\n'
    '"M25/4876A","2023-06-13T00:00:00","11:14:00","44","136","11","12","13","","61","172"\n'
    '"M25/4876A","13/06/2023","11:29:00","45","","","","","","",""\n'
    '"M25/4876A","13/06/2023","11:44:00","46","1","0","0","2","","60","3"\n'
)


def test_quarters_of_an_hour_by_length(tmp_path):
    (tmp_path / "site.csv").write_text(FILE)
    counts, kind = read_counter(tmp_path / "site.csv", ZoneInfo("Europe/London"))
    assert kind is WEBTRIS
    assert counts["start"].tolist() == [
        pd.Timestamp("2023-06-13T11:00", tz="Europe/London"),
        pd.Timestamp("2023-06-13T11:30", tz="Europe/London"),
    ]
    assert counts["minutes"].tolist() == [15, 15]
    assert counts["vehicles"].tolist() == [172, 3]
    assert counts["heavy"].tolist() == [25, 2]
    assert counts["direction"].isna().all()
