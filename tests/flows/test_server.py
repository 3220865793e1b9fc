"""Whether Prefect's server is lost, and that it is told once. What runs do then: test_server_killed.py."""

import subprocess
from collections.abc import Callable

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import FlowRecord, is_lost_server, server_answers
from pipeline.errors import OrchestratorError
from tests.flows.processes import PYTHON, environment, free_port


@pytest.fixture
def nobody():
    """The address of a server that is not there is set."""
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        yield


def test_what_prefect_raises_without_a_server_is_known(nobody):
    with get_client(sync_client=True) as client:
        with pytest.raises(RuntimeError) as at_first:
            client.raise_for_api_version_mismatch()
        with pytest.raises(httpx.ConnectError) as later:
            client.read_flow_runs()
    assert is_lost_server(at_first.value)
    assert is_lost_server(later.value)
    assert not is_lost_server(RuntimeError("the scene's own"))


def test_nobody_answers(nobody):
    assert not server_answers()


def test_a_server_of_the_runs_own_that_can_not_start_is_one_line(tmp_path):
    """Its database is in a folder that is not there, as on a disk that is full."""
    env = environment(
        tmp_path,
        PREFECT_SERVER_DATABASE_CONNECTION_URL=f"sqlite+aiosqlite:///{tmp_path}/gone/prefect.db",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="2",
    )
    enter = "from flows.server import FlowRecord; FlowRecord(print).__enter__()"
    done = subprocess.run([PYTHON, "-c", enter], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "OrchestratorError: Prefect's own server did not start (" in last
    assert f"no room in {tmp_path}, say. Or give --no-prefect." in last


def test_a_loss_is_told_once_by_the_run_and_by_what_it_is_part_of():
    reported, told_by_batch = [], []
    batch = FlowRecord(told_by_batch.append)
    for _ in range(2):
        FlowRecord(reported.append, batch).lose()
    batch.lose()
    assert len(reported) == 2
    assert len(told_by_batch) == 1
    assert batch.is_lost


def fails_with(error: Exception) -> Callable[[], str]:
    def flow() -> str:
        raise error

    return flow


def test_what_was_made_before_the_server_was_lost_is_the_result():
    reported = []
    record = FlowRecord(reported.append)
    assert record.result_of(lambda: "of the flow", lambda: "made") == "of the flow"
    assert not record.is_lost
    assert record.result_of(fails_with(httpx.ConnectError("refused")), lambda: "made") == "made"
    assert record.is_lost
    assert len(reported) == 1


def test_where_nothing_was_made_there_was_no_server_to_begin_with():
    """Told in one line, though Prefect's error has several."""
    lost = RuntimeError("Failed to reach API\nat http://127.0.0.1")
    with pytest.raises(OrchestratorError, match=r"\(Failed to reach API at http://127\.0\.0\.1\); start it"):
        FlowRecord(print).result_of(fails_with(lost), lambda: None)


def test_an_error_that_is_not_the_servers_is_passed_on():
    with pytest.raises(RuntimeError, match="the scene's own"):
        FlowRecord(print).result_of(fails_with(RuntimeError("the scene's own")), lambda: "made")


def test_artifacts_that_fail_are_reported_and_the_run_goes_on():
    reported, kept = [], []
    record = FlowRecord(reported.append)
    record.keep(
        [lambda: kept.append("first"), fails_with(ValueError("no\nJSON")), lambda: kept.append("third")]
    )
    assert kept == ["first"]
    assert reported == ["Prefect's pages lack results of this run (no JSON); its layers are complete."]
    assert not record.is_lost
    record.keep([fails_with(httpx.ConnectError("refused"))])
    assert record.is_lost


def test_ctrl_c_counts_though_nobody_could_be_told():
    def flow() -> str:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise httpx.ConnectError("refused")  # noqa: B904 as Prefect has it

    with pytest.raises(KeyboardInterrupt):
        FlowRecord(print).result_of(flow, lambda: "made")
