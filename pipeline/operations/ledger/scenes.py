"""The ledger of a batch: what became of every scene, in a table that many processes share.

Every change of a row is one conditional UPDATE, which a database does as a whole or not at all. So a claim
needs no lock, and any database that SQLAlchemy speaks to will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from pipeline.config import Config
from pipeline.errors import LedgerError
from pipeline.operations.ledger.damage import damage_of
from pipeline.operations.ledger.database import Database, database_url
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.schema import SCENES, STATES, State, create_tables
from pipeline.storage.out_folder import LEDGER


@dataclass(frozen=True)
class Entry:
    """A row. Times are RFC 3339 in UTC, so that they sort as text whatever the database and its time zone."""

    scene: str
    """The scene's name in the ledger: its id, as far as known without opening it."""
    href: str
    state: State
    attempts: int
    """Since it was registered, its inputs or settings changed, or a retry was asked for."""
    reason: str | None
    """Reason of the last failure; of a duplicate, the scene that counts instead."""
    is_transient: bool | None
    """Whether the error is transient: the next batch tries again."""
    input_version: str
    """Version of its inputs."""
    config_hash: str
    """The hash of settings, models and roads."""
    registered: str
    begun: str | None
    ended: str | None
    owner: str | None
    heartbeat: int
    """Grows while its owner lives."""
    heartbeat_at: str | None
    acquired: str | None
    updated: str | None
    """Time at which the catalogue published or changed it; for scenes of a search."""
    scene_id: str | None
    folder: str | None
    outputs: dict[str, str] | None
    """Files by name, relative to `--out`."""
    inputs: dict[str, str] | None
    """SHA-256 of every local input file."""
    models: dict[str, str] | None
    simulated: bool | None
    trucks: int | None
    seen_km2: float | None
    road_km: float | None
    """Searched kilometres of road, if roads were given."""
    megapixels: float | None
    tiles: int | None
    tiles_skipped: int | None
    seconds: float | None
    peak_rss_mb: int | None
    """Peak memory of the process up to the end of this scene."""
    acquisition: dict[str, Any] | None
    """Satellite, place, time and version, as `Acquisition.as_json`."""

    @property
    def megapixels_per_s(self) -> float | None:
        """Speed of the scene."""
        return self.megapixels / self.seconds if self.megapixels and self.seconds else None

    @property
    def trucks_per_km(self) -> float | None:
        """Trucks per searched kilometre of road."""
        return self.trucks / self.road_km if self.trucks is not None and self.road_km else None


@dataclass(frozen=True)
class Registration:
    """A scene to be entered."""

    scene: str
    href: str
    input_version: str
    config_hash: str
    acquired: str | None = None
    updated: str | None = None
    acquisition: dict[str, Any] | None = None


def now() -> str:
    """Return the present time as text of the ledger."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Ledger:
    """The rows of one batch in a database.

    Every method may raise LedgerError. Safe to use from several threads and processes.
    """

    def __init__(self, url: URL | str, batch: str = "batch") -> None:
        """Open the database; create its table, or rename the columns of an older version.

        Raises MissingExtraError where the database's driver is not installed.
        """
        self.batch = batch
        self.damaged: dict[str, str] = {}
        """Rows that were read and left out, since truckscape can't have written them: a message by scene."""
        self._database = Database(url)
        with self._database.explained():
            create_tables(self._database)

    def close(self) -> None:
        """Give up all connections."""
        self._database.close()

    # --- reading ----------------------------------------------------------------------------------------

    def entries(self, state: State | None = None) -> list[Entry]:
        """All rows but `damaged` ones, or those of a state, by time of acquisition and name."""
        query = select(SCENES).where(SCENES.c.batch == self.batch).order_by(SCENES.c.acquired, SCENES.c.scene)
        if state:
            query = query.where(SCENES.c.state == state)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [entry for row in rows if (entry := self._entry(row))]

    def entry(self, scene: str) -> Entry | None:
        """Return a row; None for one that is damaged."""
        query = select(SCENES).where(SCENES.c.batch == self.batch, SCENES.c.scene == scene)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        return self._entry(row) if row else None

    def _entry(self, row: Mapping[Any, Any]) -> Entry | None:
        damage = damage_of(row)
        if damage:
            scene = str(row["scene"])
            self.damaged[scene] = f"ledger: the row of scene {scene} is damaged ({damage}) and left out."
            return None
        return Entry(**{field.name: row[field.name] for field in fields(Entry)})

    def counts(self) -> dict[State, int]:
        """Return the number of rows in each state."""
        query = (
            select(SCENES.c.state, func.count()).where(SCENES.c.batch == self.batch).group_by(SCENES.c.state)
        )
        with self._database.reading() as connection:
            found = dict(connection.execute(query).tuples().all())
        return {state: found.get(state, 0) for state in STATES}

    # --- writing ----------------------------------------------------------------------------------------

    def register(self, scenes: Sequence[Registration]) -> None:
        """Enter scenes that are not there yet, or whose row is damaged; the others stay as they are.

        Raises LedgerError if a row can't be entered, as where the file of SQLite is damaged.
        """
        known = {entry.scene for entry in self.entries()}
        damaged = [scene.scene for scene in scenes if scene.scene in self.damaged]
        if damaged:
            with self._database.writing() as connection:
                for name in damaged:
                    connection.execute(
                        delete(SCENES).where(SCENES.c.batch == self.batch, SCENES.c.scene == name)
                    )
        rows = [self._row(scene) for scene in scenes if scene.scene not in known]
        if not rows:
            return
        if not self._insert(rows):  # another batch enters some of the same
            for row in rows:
                self._insert([row])  # or it exists already
        lost = {row["scene"] for row in rows} - {entry.scene for entry in self.entries()}
        if lost:
            raise LedgerError(
                f"The ledger {self._database.shown} is damaged: it has and takes no row of {min(lost)}. "
                "Move it away: finished scenes are found by their files."
            )

    def _insert(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Enter all rows, or none and return False if one exists."""
        with self._database.explained():
            try:
                with self._database.engine.begin() as connection:
                    connection.execute(SCENES.insert(), rows)
            except IntegrityError:
                return False
        return True

    def _row(self, scene: Registration) -> dict[str, Any]:
        reported = {field.name: getattr(scene, field.name) for field in fields(scene)}
        return {
            "batch": self.batch,
            **reported,
            "state": "waiting",
            "attempts": 0,
            "registered": now(),
            "heartbeat": 0,
        }

    def register_again(self, seen: Entry, scene: Registration) -> bool:
        """Set a scene to wait with its present inputs; False if its row has changed since it was `seen`.

        Its acquisition stays as known until it is opened.
        """
        known = {field.name: getattr(scene, field.name) for field in fields(scene)}
        reported = {name: value for name, value in known.items() if name != "scene"}
        if scene.acquisition is None:
            del reported["acquisition"]
        return self._change(
            seen.scene,
            {**reported, "state": "waiting", "attempts": 0, "reason": None, "is_transient": None},
            state=seen.state,
            owner=seen.owner,
        )

    def claim(self, scene: str, owner: Owner, version: Registration | None = None) -> Entry | None:
        """Take a scene that waits, and begin an attempt; None if it does not wait.

        `version` is what the owner is going to do, where that may differ from what was entered.
        """
        begun = {
            "state": "running",
            "owner": str(owner),
            "attempts": SCENES.c.attempts + 1,
            "begun": now(),
            "ended": None,
            "heartbeat": 0,
            "heartbeat_at": now(),
        }
        if version:
            begun |= {
                "href": version.href,
                "input_version": version.input_version,
                "config_hash": version.config_hash,
            }
        return self.entry(scene) if self._change(scene, begun, state="waiting") else None

    def free(self, seen: Entry, reason: str, quarantine: bool) -> bool:
        """Take a scene from an owner that has gone; False if it has shown life since it was `seen`."""
        values: dict[str, Any] = {"state": "waiting", "reason": reason, "owner": None}
        if quarantine:
            values |= {"state": "quarantined", "is_transient": False, "ended": now()}
        return self._change(seen.scene, values, state="running", owner=seen.owner, heartbeat=seen.heartbeat)

    def identify(self, scene: str, scene_id: str, acquisition: dict[str, Any] | None = None) -> str | None:
        """Note the id that an opened scene turned out to have; the other scene's name if another has it.

        `acquisition` is noted with it.
        """
        values = {"scene_id": scene_id, "acquisition": acquisition}
        with self._database.explained():
            try:
                with self._database.engine.begin() as connection:
                    connection.execute(self._update(scene).values(values))
            except IntegrityError:
                query = select(SCENES.c.scene).where(
                    SCENES.c.batch == self.batch, SCENES.c.scene_id == scene_id
                )
                with self._database.engine.connect() as connection:
                    return connection.execute(query).scalar_one_or_none()
        return None

    def done(self, scene: str, owner: Owner, reported: Mapping[str, Any]) -> bool:
        """Enter what came out, columns by name; False if the claim was lost."""
        values = {
            **reported,
            "state": "done",
            "reason": None,
            "is_transient": None,
            "owner": None,
            "ended": now(),
        }
        return self._change(scene, values, state="running", owner=str(owner))

    def failed(self, scene: str, owner: Owner, reason: str, *, is_transient: bool, quarantine: bool) -> bool:
        """Enter why an attempt failed; False if the claim was lost."""
        values = {
            "state": "quarantined" if quarantine else "waiting",
            "reason": reason,
            "is_transient": is_transient,
            "owner": None,
            "ended": now(),
        }
        return self._change(scene, values, state="running", owner=str(owner))

    def set_state(self, seen: Entry, state: State, reason: str | None) -> bool:
        """Make a scene a duplicate, or let one wait again; False if it has changed since it was `seen`."""
        values = {"state": state, "reason": reason, "is_transient": None, "owner": None}
        return self._change(seen.scene, values, state=seen.state, owner=seen.owner)

    def release(self, owner: Owner) -> None:
        """Release the claims of an owner that was stopped, as if it had made none."""
        statement = (
            update(SCENES)
            .where(SCENES.c.batch == self.batch, SCENES.c.state == "running", SCENES.c.owner == str(owner))
            .values(state="waiting", owner=None, attempts=SCENES.c.attempts - 1)
        )
        with self._database.writing() as connection:
            connection.execute(statement)

    def heartbeat(self, owner: Owner) -> None:
        """Show that an owner lives."""
        statement = (
            update(SCENES)
            .where(SCENES.c.batch == self.batch, SCENES.c.state == "running", SCENES.c.owner == str(owner))
            .values(heartbeat=SCENES.c.heartbeat + 1, heartbeat_at=now())
        )
        with self._database.writing() as connection:
            connection.execute(statement)

    def _update(self, scene: str) -> Any:
        return update(SCENES).where(SCENES.c.batch == self.batch, SCENES.c.scene == scene)

    def _change(self, scene: str, values: Mapping[str, Any], **expected: Any) -> bool:
        """Change a row if it is as expected."""
        statement = self._update(scene).values(values)
        for name, value in expected.items():
            statement = statement.where(SCENES.c[name] == value)
        with self._database.writing() as connection:
            return bool(connection.execute(statement).rowcount)


def open_ledger(out: Path, config: Config) -> Ledger:
    """Open the ledger of a folder, or the one that is set. Raises LedgerError, MissingExtraError."""
    return Ledger(database_url(out, config), config.batch.name)


def existing_ledger(out: Path, config: Config) -> Ledger:
    """Open the ledger of a folder with a batch. Raises LedgerError without one; else as `open_ledger`."""
    if config.batch.ledger is None and not (out / LEDGER).is_file():
        raise LedgerError(f"No batch ran into {out}: it has no {LEDGER}; give the --out of a batch.")
    return open_ledger(out, config)
