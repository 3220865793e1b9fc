"""Checks of services in settings and environment: Prefect's server, ledger, cluster, store, hook."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.config import Config, TrafficSettings
from pipeline.environment import proxy_variables
from pipeline.errors import TruckscapeError
from pipeline.operations.checks.finding import Finding, fails, ok, warning
from pipeline.redaction import without_secrets
from pipeline.storage.object_store import Store, open_store

PATIENCE_S = 4
"""Time limit for an answer."""


def prefect(environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Check that the server of PREFECT_API_URL, or of the active profile, answers, and its version."""
    reported = {**_profile(), **(os.environ if environment is None else environment)}
    url = reported.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        return [ok("prefect", "no PREFECT_API_URL: each run has a server of its own, in its process")]
    import requests

    shown, headers = without_secrets(url), _credentials(reported)
    try:
        health = requests.get(f"{url}/health", timeout=PATIENCE_S, headers=headers)
        answer = requests.get(f"{url}/admin/version", timeout=PATIENCE_S, headers=headers)
    except (requests.RequestException, ValueError) as error:
        fix = "start it: prefect server start; or unset PREFECT_API_URL"
        return [fails("prefect", f"{shown} does not answer ({type(error).__name__})", fix)]
    if answer.status_code in (401, 403):
        fix = "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY as the server requires"
        return [fails("prefect", f"{shown} does not let us in (HTTP {answer.status_code})", fix)]
    if not health.ok:
        fix = "PREFECT_API_URL ends in /api, e.g. http://127.0.0.1:4200/api"
        return [fails("prefect", f"{shown} is not a healthy Prefect server (HTTP {health.status_code})", fix)]
    server, here = answer.text.strip().strip('"') if answer.ok else "", metadata.version("prefect")
    if server and server.split(".")[:2] != here.split(".")[:2]:
        fix = "install the same version there and here"
        return [warning("prefect", f"{shown} has version {server}, here is {here}", fix)]
    return [ok("prefect", f"{shown} answers{f', version {server}' if server else ''}")]


def ledger(config: Config, out: Path) -> list[Finding]:
    """Check the database of batches: as set, or the file in the output folder if there is one."""
    from pipeline.operations.ledger.scenes import open_ledger
    from pipeline.storage.out_folder import LEDGER

    if config.batch.ledger is None and not (out / LEDGER).is_file():
        return [ok("ledger", f"none yet; a batch makes {LEDGER} in its --out")]
    try:
        opened = open_ledger(out, config)
        try:
            states = ", ".join(f"{count} {state}" for state, count in opened.counts().items())
        finally:
            opened.close()
    except TruckscapeError as error:
        fix = "start its server, see whether address, name and password are right, or install its driver"
        return [fails("ledger", str(error), fix)]
    return [ok("ledger", f"scenes: {states}")]


def network(config: Config) -> list[Finding]:
    """Other servers that settings and environment name: whether they take a connection."""
    named = {
        "runner.address": config.runner.address,
        "AWS_ENDPOINT_URL": os.environ.get("AWS_ENDPOINT_URL"),
        **proxy_variables(),
    }
    if config.traffic.overpass_url != TrafficSettings().overpass_url:
        named["traffic.overpass_url"] = config.traffic.overpass_url
    findings = [_connection(name, url) for name, url in named.items() if url and "://" in url]
    return findings or [ok("network", "no server is configured")]


def _connection(name: str, url: str) -> Finding:
    parts, shown = urlsplit(url), without_secrets(url)
    try:
        named = {"http": 80, "https": 443, "ray": 10001, "socks": 1080, "socks5": 1080, "socks5h": 1080}
        port = parts.port or named.get(parts.scheme, 8786)
        with socket.create_connection((parts.hostname or "", port), PATIENCE_S):
            return ok("network", f"{name}: {shown} takes connections")
    except (OSError, ValueError) as error:
        return fails("network", f"{name}: {shown} does not answer ({error})", f"start it, or correct {name}")


def published(config: Config) -> list[Finding]:
    """Check access to the store of published results, if one is set."""
    from pipeline.storage.publish import SETTING

    return _store("publish", config.publish.url, partial(open_store, setting=SETTING))


def shards(config: Config) -> list[Finding]:
    """Check access to the store of shards that workers share, if one is set."""
    from pipeline.inference.shard_store import open_shared

    return _store("shards", config.runner.store, open_shared)


def _store(name: str, url: str | None, opened: Callable[[str], Store]) -> list[Finding]:
    if not url:
        return []
    shown = without_secrets(url)
    try:
        store = opened(url)
        store.fs.ls(store.root)
    except FileNotFoundError:  # nothing was written there yet, and a bucket that is not there looks alike
        return [ok(name, f"{shown} answers; nothing is there yet")]
    except Exception as error:  # noqa: BLE001 each store has its own errors
        why = " ".join(without_secrets(str(error)).split())[:200]
        fix = "see docs/operations.md, remote data: address, credentials and endpoint are the environment's"
        return [fails(name, f"{shown}: {type(error).__name__}: {why}", fix)]
    return [ok(name, f"{shown} can be read")]


def hook(config: Config) -> list[Finding]:
    """Check the command for scenes that fail, if one is set."""
    command = config.batch.on_failure
    if not command:
        return []
    if shutil.which(command[0]) is None:
        return [
            fails("on_failure", f"{command[0]} is no command here", "give its whole path in batch.on_failure")
        ]
    return [ok("on_failure", command[0])]


def _profile() -> dict[str, str]:
    """Prefect's settings of the active profile, as far as they are written down."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
        reported = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    name = os.environ.get("PREFECT_PROFILE", reported.get("active"))
    return {key: str(value) for key, value in reported.get("profiles", {}).get(name, {}).items()}


def _credentials(reported: Mapping[str, str]) -> dict[str, str]:
    if key := reported.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := reported.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}
