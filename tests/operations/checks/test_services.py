import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata

import pytest

from pipeline.config import load_config
from pipeline.operations.checks import services


@contextmanager
def api(version: str, password: str | None = None):
    """What Prefect's server says of its health and its version."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            known = password is None or self.headers.get("Authorization") == f"Basic {password}"
            body = {"/api/health": True, "/api/admin/version": version}.get(self.path)
            self.send_response(200 if known and body is not None else 404 if known else 401)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody():
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    for name in (
        "PREFECT_PROFILES_PATH",
        "PREFECT_PROFILE",
        "AWS_ENDPOINT_URL",
        "HTTPS_PROXY",
        "https_proxy",
        *("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"),
    ):
        monkeypatch.delenv(name, raising=False)


def test_prefect_as_it_should_be():
    here = metadata.version("prefect")
    with api(here) as url:
        (finding,) = services.prefect({"PREFECT_API_URL": f"{url}/api"})
        assert (finding.state, finding.found) == ("ok", f"{url}/api answers, version {here}")
        (finding,) = services.prefect({"PREFECT_API_URL": url})
        assert finding.state == "fails"
        assert "ends in /api" in finding.fix
    assert services.prefect({})[0].state == "ok"


def test_prefect_of_another_version_or_behind_a_password(nobody):
    with api("2.20.1") as url:
        assert services.prefect({"PREFECT_API_URL": f"{url}/api"})[0].state == "warning"
    with api(metadata.version("prefect"), password="bWU6c2VjcmV0") as url:
        reported = {"PREFECT_API_URL": f"{url}/api"}
        assert "AUTH_STRING" in services.prefect(reported)[0].fix
        assert services.prefect({**reported, "PREFECT_API_AUTH_STRING": "me:secret"})[0].state == "ok"
    (finding,) = services.prefect({"PREFECT_API_URL": f"http://me:secret@{nobody}/api"})
    assert (finding.state, "secret" in finding.found) == ("fails", False)


def test_prefects_active_profile_counts_as_its_environment(tmp_path, nobody):
    (tmp_path / "prefect").mkdir()
    profiles = f'active = "here"\n[profiles.here]\nPREFECT_API_URL = "http://{nobody}/api"\n'
    (tmp_path / "prefect" / "profiles.toml").write_text(profiles)
    assert services.prefect({})[0].state == "fails"


def test_a_ledger_is_counted_or_told_to_be_unusable(tmp_path):
    assert services.ledger(load_config(), tmp_path)[0].state == "ok"
    assert not any(tmp_path.iterdir())
    mine = f"batch.ledger=sqlite:///{tmp_path}/mine.sqlite"
    assert "0 waiting" in services.ledger(load_config(None, [mine]), tmp_path)[0].found
    (tmp_path / "ledger.sqlite").write_text("no database, and long enough to be looked at as one")
    assert services.ledger(load_config(), tmp_path)[0].state == "fails"


def test_only_configured_servers_are_asked(nobody, monkeypatch):
    assert [finding.found for finding in services.network(load_config())] == ["no server is configured"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{nobody}")
    (finding,) = services.network(load_config())
    assert finding.state == "fails"
    assert "AWS_ENDPOINT_URL" in finding.found
    with api("") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert services.network(load_config())[0].state == "ok"


def test_where_results_are_published(tmp_path):
    assert services.published(load_config()) == []
    there = load_config(None, [f"publish.url=file://{tmp_path}"])
    assert services.published(there)[0].state == "ok"
    assert services.published(load_config(None, ["publish.url=nonsense://x"]))[0].state == "fails"


def test_the_store_of_shards(tmp_path, nobody, monkeypatch):
    assert services.shards(load_config()) == []
    there = load_config(None, [f"runner.store=file://{tmp_path}"])
    assert services.shards(there)[0].state == "ok"
    (finding,) = services.shards(load_config(None, ["runner.store=https://host/shards"]))
    assert (finding.state, "unsupported protocol, https" in finding.found) == ("fails", True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{nobody}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    (finding,) = services.shards(load_config(None, ["runner.store=s3://shards"]))
    assert finding.state == "fails"


def test_the_command_for_failures_is_there():
    assert services.hook(load_config()) == []
    assert services.hook(load_config(None, ["batch.on_failure=[sh, tell.sh]"]))[0].state == "ok"
    assert services.hook(load_config(None, ["batch.on_failure=[no-such-command]"]))[0].state == "fails"
