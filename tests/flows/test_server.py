"""Whether Prefect's server is lost, and that it is told once. What runs do then: test_server_killed.py."""

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import Record, is_lost_server, missing_server, server_answers
from tests.flows.processes import free_port


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


def test_a_loss_is_told_once_by_the_run_and_by_what_it_is_part_of():
    told, told_by_batch = [], []
    batch = Record(told_by_batch.append)
    for _ in range(2):
        Record(told.append, batch).lose()
    batch.lose()
    assert len(told) == 2
    assert len(told_by_batch) == 1
    assert batch.is_lost


def test_an_error_of_several_lines_is_told_in_one():
    assert "(Failed to reach API)" in str(missing_server(RuntimeError("Failed\nto reach API")))
