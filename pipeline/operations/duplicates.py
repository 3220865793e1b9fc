"""Scenes of a ledger that are products of one acquisition: one counts, the others name it.

The newest baseline that can be read counts, whatever the order and the number of batches. So a scene that is
done becomes a duplicate once a better product is done, and a duplicate waits again if that one fails.
"""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from pipeline.operations.ledger.scenes import Entry, Ledger
from pipeline.scenes.acquisition import Acquisition, duplicates, is_near, near_in_time
from pipeline.storage.out_folder import TRAFFIC

log = logging.getLogger(__name__)


def settle_duplicates(ledger: Ledger, out: Path) -> list[str]:
    """Make worse products of an acquisition duplicates, in the ledger and in `traffic.parquet`.

    Scenes that are running are left alone. Returns the scenes that were duplicates and wait again.
    """
    entries = {entry.scene: entry for entry in ledger.entries()}
    better = _better(entries)
    released = []
    for name, entry in entries.items():
        other = entries.get(better.get(name, ""))
        if other is None:
            if entry.state == "duplicate" and ledger.set_state(entry, "waiting", None):
                released.append(name)
        elif entry.state == "waiting" or (entry.state == "done" and other.state == "done"):
            reason = _reason(entry, other)
            if ledger.set_state(entry, "duplicate", reason) and entry.state == "done":
                log.warning("%s no longer counts: %s", name, reason)
                _leave_out(entry, out)
    return released


def better_product(ledger: Ledger, scene: str) -> str | None:
    """Return the reason why a scene need not be run: the better product of its acquisition."""
    entries = {entry.scene: entry for entry in ledger.entries()}
    mine = _time(entries[scene])
    if mine is None:
        return None
    near = {
        name: entry for name, entry in entries.items() if (other := _time(entry)) and is_near(mine, other)
    }
    better = entries.get(_better(near).get(scene, ""))
    return _reason(entries[scene], better) if better else None


def _better(entries: dict[str, Entry]) -> dict[str, str]:
    """Return the better product by scene; what is quarantined is none."""
    known = {
        name: acquisition
        for name, entry in entries.items()
        if entry.state != "quarantined" and (acquisition := _acquisition(entry))
    }
    return {
        name: other
        for group in near_in_time(known)
        if len(group) > 1
        for name, other in duplicates(group).items()
    }


def _acquisition(entry: Entry) -> Acquisition | None:
    return Acquisition.from_json(entry.acquisition) if entry.acquisition else None


def _time(entry: Entry) -> datetime | None:
    """Return the time of acquisition, without the areas, which take longer to read."""
    known = entry.acquisition if isinstance(entry.acquisition, dict) else {}
    only = Acquisition.from_json({"acquired": known.get("acquired")})
    return only.acquired if only else None


def _reason(entry: Entry, other: Entry) -> str:
    here, there = ((one.acquisition or {}).get("baseline") or "unknown" for one in (entry, other))
    return (
        f"same acquisition as {other.scene}, which counts instead (baseline {there}, of this one {here}). To "
        "run both, give them different --out."
    )


def parts_left_out(ledger: Ledger, out: Path) -> list[Path]:
    """Return the files of duplicates that were in `traffic.parquet`."""
    parts = (_part(entry, out) for entry in ledger.entries("duplicate"))
    return [part for part in parts if part]


def _leave_out(entry: Entry, out: Path) -> None:
    """Remove a scene's part of `traffic.parquet`; its folder stays."""
    part = _part(entry, out)
    if part:
        part.unlink(missing_ok=True)


def _part(entry: Entry, out: Path) -> Path | None:
    """Return the scene's part of `traffic.parquet`; None without. A ledger may name any other path there."""
    part = entry.outputs.get(TRAFFIC) if isinstance(entry.outputs, dict) else None
    if not isinstance(part, str) or Path(part).parts != (TRAFFIC, Path(part).name):
        return None
    is_inside = Path(part).suffix == ".parquet" and not (out / TRAFFIC).is_symlink()
    return out / part if is_inside else None
