"""BASt's hourly counts: hours, flags, missing values."""

from zoneinfo import ZoneInfo

import pandas as pd

from pipeline.input_warnings import collected_warnings
from pipeline.traffic.counters.bast import BAST
from pipeline.traffic.counters.read import read_counter

FILE = (
    "TKNR;Zst;Land;Strklas;Strnum;Datum;Wotag;Fahrtzw;Stunde;KFZ_R1;K_KFZ_R1;KFZ_R2;K_KFZ_R2;"
    "Lkw_R1;K_Lkw_R1;Lkw_R2;K_Lkw_R2\n"
    "3624;3403;03;A;    2;230613; 2;w;12;  2500;-;  2400;-;   610;-;   590;-\n"
    "3624;3403;03;A;    2;230613; 2;w;13;  2600;-;    -1;-;   620;s;      ;-\n"
)


def read(tmp_path):
    (tmp_path / "zst3403.csv").write_text(FILE)
    with collected_warnings() as warnings:
        counts, kind = read_counter(tmp_path / "zst3403.csv", ZoneInfo("Europe/Berlin"))
    assert kind is BAST
    return counts, warnings


def test_hour_12_begins_at_11_on_the_clock(tmp_path):
    first = read(tmp_path)[0].iloc[0]
    assert first["start"] == pd.Timestamp("2023-06-13T11:00", tz="Europe/Berlin")
    assert (first["station"], first["road"], first["direction"]) == ("3403", "A 2", "R1")
    assert (first["minutes"], first["vehicles"], first["heavy"]) == (60, 2500, 610)


def test_missing_and_estimated_values_do_not_count(tmp_path):
    counts, warnings = read(tmp_path)
    assert counts["direction"].tolist() == ["R1", "R1", "R2"]  # R2 has no value in the second hour
    assert counts["heavy"].isna().tolist() == [False, True, False]
    assert "1 values of Lkw_R1 are not used: their flag K_Lkw_R1" in warnings[0]
