"""PostgreSQL of Debian's package, on loopback, for the time of a test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60
PASSWORD = "not-for-logs"


@contextmanager
def postgresql() -> Iterator[str]:
    """The address `user:password@host:port` of a server that is gone afterwards.

    It refuses to be root's, so root starts it as `postgres`.
    """
    programs = _programs()
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="truckscape-postgresql-"))
    try:
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if account:
            options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        make = [
            "--auth=scram-sha-256",
            "--username=truckscape",
            f"--pwfile={secret}",
            "--no-sync",
            "--locale=C",
        ]
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "--encoding=UTF8", *make, data], check=True, timeout=PATIENCE_S, **options
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            programs / "postgres",
            "-D",
            data,
            "-p",
            port,
            "-h",
            "127.0.0.1",
            "-k",
            folder,
            "-c",
            "fsync=off",
        ]
        with subprocess.Popen([str(part) for part in command], **options) as process:
            try:
                _wait_for(programs, port, process)
                yield f"truckscape:{PASSWORD}@127.0.0.1:{port}"
            finally:
                process.send_signal(signal.SIGINT)  # open connections don't keep it
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb", path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)]))
    if found is None or sys.platform == "win32":
        pytest.skip("needs PostgreSQL's server (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="needs the extra postgresql (pip install 'truckscape[postgresql]')")
    return Path(found).resolve().parent


def _account() -> Any:
    """Whose server it is, where it can't be ours."""
    if sys.platform == "win32" or os.geteuid():
        return None
    import pwd

    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("needs the user postgres, since PostgreSQL does not run as root")


def _wait_for(programs: Path, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    ask = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while process.poll() is None and time.monotonic() < deadline:
        if subprocess.run(ask, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL does not start (exit status {process.poll()})")
