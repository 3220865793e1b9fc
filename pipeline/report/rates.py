"""Tables of changes and trends of roads: on the terminal, and as CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.storage.atomic import make_folder, replacing

_SHOWN = 20
_SHARE = 0.05
"""False discovery rate of the roads that are named as changed."""


def write_rates(rates: pd.DataFrame, path: Path) -> Path:
    """Write the rows of `traffic.rates.compare` or `trends` as CSV, six digits a number; return the file.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    make_folder(path.parent)
    with replacing(path) as part:
        rates.to_csv(part, index=False, float_format="%.6g")
    return path


def rates_table(rates: pd.DataFrame) -> Group:
    """Return the rows with the least p-values for the terminal, below a line on all."""
    name = "ratio" if "ratio" in rates else "per_year"
    tested = rates["p"].notna()
    changed = int((rates["p_adjusted"] <= _SHARE).sum())
    line = (
        f"{changed} of {tested.sum()} roads and directions changed, at a false discovery rate of "
        f"{_SHARE:.0%}; {(~tested).sum()} can't be tested (no truck, or fewer than three dates)."
    )
    table = Table("road", "direction", box=None, header_style="bold")
    numbers = {"ratio": ["per_km_first", "per_km_second"], "per_year": ["dates", "expected"]}[name]
    for title in (*numbers, name, "95 % interval", "p", "p adjusted"):
        table.add_column(title.replace("_", " "), justify="right")
    for row in rates[tested].head(_SHOWN).to_dict("records"):
        ends = f"{_number(row[f'{name}_low'])} to {_number(row[f'{name}_high'])}"
        shown = (*(_number(row[each]) for each in (*numbers, name)), ends)
        chance = (f"{row[each]:.2g}" for each in ("p", "p_adjusted"))
        road = str(row["road"]) if pd.isna(row.get("name")) else f"{row['name']} ({row['road']})"
        table.add_row(road, str(row["direction"]), *shown, *chance)
    return Group(Text(line), Text(), table) if tested.any() else Group(Text(line))


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "any" if value > 0 else "-"
