"""What Prefect does not document and our flows use: a test that fails here names what an upgrade broke."""

import importlib
import inspect

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.context import AsyncClientContext
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.utilities.asyncutils import run_coro_as_sync


def test_a_client_is_entered_once_for_all_sub_flows():
    async def answer() -> int:
        return 5

    assert run_coro_as_sync(answer()) == 5
    assert AsyncClientContext.model_fields["client"].annotation is PrefectClient


def test_the_client_of_events_takes_the_number_of_attempts():
    assert {"client_type", "client_kwargs"} <= set(
        inspect.signature(EventsWorker.set_client_override).parameters
    )
    assert "reconnection_attempts" in inspect.signature(PrefectEventsClient).parameters


def test_a_server_that_can_not_be_reached_is_known_by_this_text():
    module = importlib.import_module("prefect.client.orchestration")
    assert 'f"Failed to reach API at' in inspect.getsource(module)


def test_flows_take_sigterm_over_by_a_name_that_can_be_replaced():
    engine = importlib.import_module("prefect.flow_engine")
    assert "with capture_sigterm():" in inspect.getsource(engine.FlowRunEngine)
    assert callable(engine.capture_sigterm)


@pytest.mark.parametrize("name", ["FlowRunCancellingObserver", "FlowRunSuspendingObserver"])
def test_observers_log_under_their_names(name):
    observers = importlib.import_module("prefect._internal.observers")
    assert f'get_logger("{name}")' in inspect.getsource(getattr(observers, name))


def test_leases_are_kept_in_files_by_a_module_that_the_server_can_be_told():
    assert importlib.import_module(
        "prefect.server.concurrency.lease_storage.filesystem"
    ).ConcurrencyLeaseStorage
    settings = importlib.import_module("prefect.settings.models.server.concurrency")
    assert "lease_storage" in settings.ServerConcurrencySettings.model_fields


def test_prefect_starts_its_own_server_by_a_method_of_one_instance():
    server = importlib.import_module("prefect.server.api.server")
    assert server.SubprocessASGIServer() is server.SubprocessASGIServer()
    assert "self._run_uvicorn_command()" in inspect.getsource(server.SubprocessASGIServer.start)
    assert '"prefect.server.api.server:create_app"' in inspect.getsource(
        server.SubprocessASGIServer._run_uvicorn_command
    )
