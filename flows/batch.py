"""Many scenes under Prefect: a flow whose sub-flows are the scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.context import AsyncClientContext
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.blocks import storage_of_blocks
from flows.handover import last_part, named_by, run_as_flow
from flows.scene import run_requested
from flows.server import FlowRecord, server_answers
from pipeline.errors import OrchestratorError
from pipeline.fields import fields_of
from pipeline.operations.attempt import Say, scene_directly
from pipeline.operations.batch import Summary, run_batch
from pipeline.operations.parameters import BatchParameters
from pipeline.operations.request import BatchRequest
from pipeline.operations.tables import summary_markdown
from pipeline.operations.worker_pool import RunInPool
from pipeline.processes import configure_process
from pipeline.run import Job, Request, Result


@flow(name="batch", flow_run_name=named_by("out", unique=True))
@fields_of(BatchParameters)
def batch(parameters: BatchParameters) -> dict[str, int]:
    """Detect trucks and map land cover in many scenes; return the number of scenes by result.

    Parameters are as in `truckscape batch`. For deployments: all are plain text, and none is a credential.
    """
    configure_process()
    say = get_run_logger().info
    with storage_of_blocks(parameters.request()) as request, FlowRecord(say) as record:
        return _work(request, say, record).counts


def run_listed(request: BatchRequest, say: Say) -> Summary:
    """Run the flow for the command line, which lists the scenes before Prefect starts."""
    run_name = f"{request.out.name}-{uuid4().hex[:4]}"
    return run_as_flow(partial(_work, request, say), say, name="batch", run_name=run_name)


def _work(request: BatchRequest, say: Say, record: FlowRecord) -> Summary:
    with _light_sub_flows():
        summary = run_batch(request, partial(_scene, record), say, prefetch=1)
    record.summarise(summary_markdown(summary), "batch-summary", str(request.out))
    return summary


def _scene(
    record: FlowRecord, request: Request, opened: Callable[[Job], None], say: Say, run_in_pool: RunInPool
) -> Result:
    """Run a scene as a sub-flow, or without Prefect while its server is lost: the scene is not at fault."""
    if not record.is_lost or server_answers():
        try:
            name = last_part(request.scene)
            return run_requested(request, opened, say, name, record, run_in_pool)
        except OrchestratorError:
            record.lose()
    return scene_directly(request, opened, say, run_in_pool)


@contextmanager
def _light_sub_flows() -> Iterator[None]:
    """Make once what is the same for the sub-flows of all scenes: 0.2 s each, a tenth of a small scene.

    The heartbeat of the batch shows that this process is alive. One for every scene would show no more, and
    Prefect takes a second to stop it. Prefect also opens a client for each sub-flow, certificates, handshake
    and all, unless there is one in its event loop.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        context = AsyncClientContext()
        run_coro_as_sync(context.client.__aenter__())
        try:
            with context:
                yield
        finally:
            run_coro_as_sync(context.client.__aexit__(None, None, None))
