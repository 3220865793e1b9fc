"""Objects on their way into flows and tasks, which Prefect must not look into."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flows.server import FlowRecord
from pipeline.inference.engine import OnTile
from pipeline.run import (
    Job,
    Result,
)

if TYPE_CHECKING:
    from pipeline.operations.batch import InTurn


class OpaqueJob:
    """A job on its way to a worker: Prefect and its runners look into what they know, and not into this.

    `on_tile` stays in this process.
    """

    def __init__(self, job: Job, on_tile: OnTile | None = None) -> None:
        self.job, self.on_tile = job, on_tile

    def __reduce__(self) -> tuple[type[OpaqueJob], tuple[Job]]:
        return OpaqueJob, (self.job,)


class FlowContext:
    """A job on its way through a flow: how it is made, and what came out."""

    def __init__(
        self,
        make: Callable[[], Job],
        say: Callable[[str], None],
        record: FlowRecord,
        in_turn: InTurn,
        on_tile: OnTile | None,
    ) -> None:
        self.make, self.say, self.record, self.in_turn, self.on_tile = make, say, record, in_turn, on_tile
        self.job: Job | None = None
        self.result: Result | None = None


class Handover(dict[str, FlowContext]):
    """Errands on their way into a flow, whose parameters Prefect stores as JSON, by token.

    Prefect pickles a flow with the globals it uses for other processes: there it is empty.
    """

    def __reduce__(self) -> tuple[type[Handover], tuple[()]]:
        return Handover, ()
