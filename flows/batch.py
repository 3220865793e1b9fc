"""Many scenes under Prefect: a flow whose sub-flows are the scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.context import AsyncClientContext
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.scene import run_requested
from flows.server import FlowRecord, server_answers
from pipeline.config import load_config
from pipeline.errors import OrchestratorError
from pipeline.operations.batch import BatchRequest, InTurn, Say, Summary, run_batch, scene_directly
from pipeline.operations.search import COLLECTION, Search
from pipeline.operations.sources import Sources, find_scenes
from pipeline.operations.tables import summary_markdown
from pipeline.processes import configure_process
from pipeline.redaction import without_secrets
from pipeline.run import Job, Request, Result


@flow(name="batch")
def batch(
    out: str,
    scenes: tuple[str, ...] = (),
    scene_list: str | None = None,
    folder: str | None = None,
    stac: str | None = None,
    collections: tuple[str, ...] = (COLLECTION,),
    area: str | None = None,
    time: str | None = None,
    cloud_cover: float | None = None,
    most: int | None = None,
    config: str | None = None,
    settings: tuple[str, ...] = (),
    roads: str | None = None,
    bands: tuple[str, ...] | None = None,
    retry_quarantined: bool = False,
) -> dict[str, int]:
    """Trucks and land cover of many scenes; returns how many were done, were done before, failed.

    Everything is as in `truckscape batch`. For deployments: all parameters are plain text, and credentials
    are none of them. `stac` is the URL of an API, and what follows it what is searched there.
    """
    configure_process()
    tree = load_config(_path(config), settings)
    search = Search(stac, tuple(collections), area, time, cloud_cover, most) if stac else None
    sources = Sources(tuple(scenes), _path(scene_list), _path(folder), search)
    request = BatchRequest(
        scenes=find_scenes(sources, tree.batch),
        out=Path(out),
        config=tree,
        bands=tuple(bands) if bands else None,
        roads=_path(roads),
        retry_quarantined=retry_quarantined,
    )
    say = get_run_logger().info
    with FlowRecord(say) as record:
        return _work(_Errand(request, say, record)).counts


def run_listed(request: BatchRequest, say: Say) -> Summary:
    """The flow for the command line, which lists the scenes before Prefect starts."""
    token = uuid4().hex
    with FlowRecord(say) as record:
        errand = _HANDED_OVER[token] = _Errand(request, say, record)
        named = _batch.with_options(flow_run_name=f"{request.out.name}-{token[:4]}")
        try:
            return record.result_of(lambda: named(token), lambda: errand.summary)
        finally:
            del _HANDED_OVER[token]


class _Errand:
    """A batch on its way through a flow, and what it did."""

    def __init__(self, request: BatchRequest, say: Say, record: FlowRecord) -> None:
        self.request, self.say, self.record = request, say, record
        self.summary: Summary | None = None

    def scene(self, request: Request, opened: Callable[[Job], None], say: Say, in_turn: InTurn) -> Result:
        """A scene as a sub-flow, or without Prefect while its server is gone: the scene is not at fault."""
        if not self.record.is_lost or server_answers():
            try:
                name = Path(without_secrets(request.scene)).name
                return run_requested(request, opened, say, name, self.record, in_turn)
            except OrchestratorError:
                self.record.lose()
        return scene_directly(request, opened, say, in_turn)


_HANDED_OVER: dict[str, _Errand] = {}
"""Errands on their way into the flow, whose parameters Prefect stores as JSON, by token."""


@flow(name="batch", persist_result=False, validate_parameters=False)
def _batch(token: str) -> Summary:
    return _work(_HANDED_OVER[token])


def _work(errand: _Errand) -> Summary:
    with _light_sub_flows():
        summary = errand.summary = run_batch(errand.request, errand.scene, errand.say, ahead=1)
    errand.record.summarise(summary_markdown(summary), "batch-summary", str(errand.request.out))
    return summary


@contextmanager
def _light_sub_flows() -> Iterator[None]:
    """What is the same for the sub-flows of all scenes is made once: 0.2 s of each, with small ones a tenth.

    The heartbeat of the batch tells that this process lives: one of every scene would tell no more, and
    Prefect takes a second to stop it. And Prefect enters a sub-flow by a client of its own, certificates,
    handshake and all, where none is at hand in the loop that it does that in.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        context = AsyncClientContext()
        run_coro_as_sync(context.client.__aenter__())
        try:
            with context:
                yield
        finally:
            run_coro_as_sync(context.client.__aexit__(None, None, None))


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
