"""A batch and its ledger as tables, for terminals and for Prefect's pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from pipeline.operations.ledger.scenes import Entry
from pipeline.operations.ledger.schema import State
from pipeline.report.markdown import code, plain

if TYPE_CHECKING:
    from pipeline.operations.batch import Summary

_COLUMNS: Mapping[str, Callable[[Entry], str]] = {
    "scene": lambda entry: entry.scene,
    "state": lambda entry: entry.state,
    "attempts": lambda entry: str(entry.attempts),
    "acquired": lambda entry: (entry.acquired or "")[:10],
    "trucks": lambda entry: _number(entry.trucks),
    "per km": lambda entry: _number(entry.trucks_per_km, 2),
    "seen km²": lambda entry: _number(entry.seen_km2, 1),
    "Mpx/s": lambda entry: _number(entry.megapixels_per_s, 2),
    "skipped": lambda entry: "" if entry.tiles is None else f"{entry.tiles_skipped} of {entry.tiles} tiles",
    "s": lambda entry: _number(entry.seconds, 1),
    "MB": lambda entry: _number(entry.peak_rss_mb),
    "reason": lambda entry: entry.reason or "",
}
_RIGHT = {"attempts", "trucks", "per km", "seen km²", "Mpx/s", "s", "MB"}
_LEFT_OUT = "left out, can't be read"
RETRY = "truckscape batch --retry-quarantined"


def summary_page(summary: Summary) -> Group:
    """Return the summary of a batch for a terminal: counts, failed and remaining scenes, files."""
    left_out = ["", *summary.left_out] if summary.left_out else []
    return Group(_counts(summary), *_not_done(summary.entries), *left_out)


def ledger_page(entries: Sequence[Entry], counts: Mapping[State, int], all_of_them: bool) -> Group:
    """Return a ledger for a terminal: number of scenes by state; all scenes, or the unfinished ones."""
    head = Table("state", "scenes", box=None, header_style="bold")
    head.columns[1].justify = "right"
    for state, count in counts.items():
        head.add_row(state, str(count))
    if all_of_them:
        return Group(head, "", _scenes(entries), *_advice(entries))
    return Group(head, *_not_done(entries))


def summary_markdown(summary: Summary) -> str:
    """Return the summary of a batch for Prefect's pages."""
    lines = ["## Batch", "", "| scenes | |", "|---|---|"]
    lines += [f"| {what} | {count} |" for what, count in summary.counts.items()]
    if summary.left_out:
        lines += [f"| {_LEFT_OUT} | {len(summary.left_out)} |"]
    lines += ["", f"{summary.seconds:.0f} s, of them {summary.working_seconds:.0f} s in scenes.", ""]
    names = list(_used(summary.entries))
    lines += [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for entry in summary.entries:
        cells = (plain(_COLUMNS[name](entry)) for name in names)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {plain(reason)}" for reason in summary.left_out)]
    lines += ["", *(f"- {code(path)}" for path in summary.outputs.values())]
    return "\n".join(lines)


def _counts(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for what, count in summary.counts.items():
        if count or what == "done":
            table.add_row(what, str(count))
    if summary.left_out:
        table.add_row(_LEFT_OUT, str(len(summary.left_out)))
    table.add_row("trucks in all that is done", str(sum(entry.trucks or 0 for entry in summary.of("done"))))
    table.add_row("seconds", f"{summary.seconds:.0f}")
    return table


def _not_done(entries: Sequence[Entry]) -> list[Table | str]:
    left = [entry for entry in entries if entry.state != "done"]
    return ["", _scenes(left), *_advice(left)] if left else []


def _scenes(entries: Sequence[Entry]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in _used(entries):
        table.add_column(name, justify="right" if name in _RIGHT else "left", overflow="fold")
    for entry in entries:
        table.add_row(*(_COLUMNS[name](entry) for name in _used(entries)))
    return table


def _used(entries: Sequence[Entry]) -> list[str]:
    """Return the columns with values."""
    return [name for name, cell in _COLUMNS.items() if any(cell(entry) for entry in entries)]


def _advice(entries: Sequence[Entry]) -> list[str]:
    quarantined = [entry for entry in entries if entry.state == "quarantined"]
    advice = []
    if any(entry.is_transient for entry in quarantined):
        advice.append("Where the cause may pass, the next batch tries again by itself.")
    if not all(entry.is_transient for entry in quarantined):
        advice.append(f"When the others are fixed: the same {RETRY}; a changed input is tried without it.")
    return ["", *advice] if advice else []


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:.{digits}f}"
