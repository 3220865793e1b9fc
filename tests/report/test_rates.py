"""Tables of changes: on the terminal and as CSV."""

import numpy as np
import pandas as pd
from rich.console import Console

from pipeline.report.rates import rates_table, write_rates
from pipeline.traffic.days import Days
from pipeline.traffic.rates import compare, trends

DATES = pd.date_range("2023-06-01", periods=10, freq="7D")
TABLE = pd.DataFrame(
    {
        "road": np.repeat(["A7", "B2", "C1"], 10),
        "direction": "forward",
        "date": [*DATES] * 3,
        "expected": [*[10.0] * 5, *[30.0] * 5, *[4.0] * 10, *[0.0] * 10],
        "km": 2.0,
    }
).assign(trucks=lambda frame: frame["expected"])


def shown(rates):
    console = Console(width=150)
    with console.capture() as captured:
        console.print(rates_table(rates))
    return captured.get()


def test_a_comparison_on_the_terminal():
    text = shown(compare(TABLE, Days.parse("2023-06"), Days.parse("2023-07..2023-08")))
    assert "1 of 2 roads and directions changed" in text
    assert "1 can't be tested" in text
    rows = text.splitlines()
    assert [row.split()[0] for row in rows[3:5]] == ["A7", "B2"]
    assert "5" in rows[3]
    assert "3.0" in rows[3] or " 3 " in rows[3]


def test_trends_on_the_terminal_name_roads():
    text = shown(trends(TABLE.assign(name="Ring")))
    assert "Ring (A7)" in text
    assert "per year" in text


def test_the_csv_has_every_road(tmp_path):
    rates = trends(TABLE)
    path = write_rates(rates, tmp_path / "new" / "trends.csv")
    read = pd.read_csv(path)
    assert read["road"].tolist() == ["A7", "B2", "C1"]
    np.testing.assert_allclose(read["per_year"][:2], rates["per_year"][:2], rtol=1e-5)
    assert np.isnan(read["p"][2])
