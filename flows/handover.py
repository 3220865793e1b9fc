"""Values on their way into flows and tasks, whose parameters Prefect stores as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from prefect import flow
from prefect.runtime import flow_run

from flows.runners import on_fresh_workers, one_server_for_all, task_runner
from flows.server import FlowRecord
from pipeline.config import Runner
from pipeline.printable import printable
from pipeline.redaction import without_secrets

if TYPE_CHECKING:
    from pipeline.inference.engine import OnTile
    from pipeline.run import Job

T = TypeVar("T")


def run_as_flow(
    work: Callable[[FlowRecord], T],
    say: Callable[[str], None],
    *,
    name: str,
    run_name: str,
    runner: Runner | None = None,
    within: FlowRecord | None = None,
) -> T:
    """Do work as a flow run whose tasks run on the runner of the settings.

    Where Prefect's server is lost before the flow ends, return what the work has returned by then. Where a
    worker is lost, run the flow again on fresh ones, a few times.

    Raises OrchestratorError if Prefect's server is not there to begin with.
    """
    settings = runner or Runner()
    with FlowRecord(say, within) as record, _Handover(lambda: work(record)) as handover:

        def run() -> T:
            named = _handed_over.with_options(
                name=name, flow_run_name=literal(run_name), task_runner=task_runner(settings)
            )
            with one_server_for_all(settings):
                result: T = named(handover.token)  # type: ignore[assignment]
            return result

        return record.result_of(lambda: on_fresh_workers(run, say), lambda: handover.result)


def literal(name: str) -> str:
    """Return a name of a flow run, in which Prefect fills in parameters by `str.format`."""
    return printable(name).replace("{", "{{").replace("}", "}}")


def named_by(*names: str, unique: bool = False) -> Callable[[], str]:
    """Return a function that names a flow run by the last parts of these parameters.

    With a suffix if `unique`. Prefect calls it within the run.
    """

    def name() -> str:
        given = flow_run.get_parameters()
        suffix = [uuid4().hex[:4]] if unique else []
        return "-".join([*(last_part(given[each]) for each in names), *suffix])

    return name


def last_part(address: object) -> str:
    """Return the name of a file, folder, block or scene from its path or URL, without credentials."""
    return printable(PurePath(without_secrets(str(address)).rstrip("/")).name)


class _Handover(Generic[T]):
    """Work that a flow finds by its token, for the time of the block."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.token, self.result = uuid4().hex, None
        self._work = work

    result: T | None

    def __enter__(self) -> _Handover[T]:
        _HANDED_OVER[self.token] = self
        return self

    def __exit__(self, *_: object) -> None:
        del _HANDED_OVER[self.token]

    def do(self) -> T:
        self.result = result = self._work()
        return result


class _OfThisProcess(dict[str, _Handover[Any]]):
    """Prefect pickles a flow with the globals it uses for other processes: there it is empty."""

    def __reduce__(self) -> tuple[type[_OfThisProcess], tuple[()]]:
        return _OfThisProcess, ()


_HANDED_OVER = _OfThisProcess()


@flow(persist_result=False, validate_parameters=False)
def _handed_over(token: str) -> Any:
    return _HANDED_OVER[token].do()


class OpaqueJob:
    """Job on its way to a task: Prefect and its runners inspect the types they know, and not this one.

    `on_tile` stays in this process.
    """

    def __init__(self, job: Job, on_tile: OnTile | None = None) -> None:
        self.job, self.on_tile = job, on_tile

    def __reduce__(self) -> tuple[type[OpaqueJob], tuple[Job]]:
        return OpaqueJob, (self.job,)
