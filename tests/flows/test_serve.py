"""The process of a run's own server serves only where no other server is set."""

import pytest
import uvicorn
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

from flows.serve import serve


@pytest.fixture
def served(monkeypatch):
    calls = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: calls.append((app, options["port"])))
    return calls


@pytest.mark.parametrize(
    ("url", "allowed", "expected"),
    [(None, True, 1), ("http://127.0.0.1:4200/api", True, 0), (None, False, 0)],
)
def test_it_serves_unless_a_server_is_set_or_none_may_start(served, url, allowed, expected):
    with temporary_settings({PREFECT_API_URL: url, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: allowed}):
        serve(4321)
    assert served == [("prefect.server.api.server:create_app", 4321)] * expected
