import os
import shutil
import subprocess

import pytest

from pipeline.config import load_config
from pipeline.operations.checks import machine
from tests.conftest import only_on


def test_a_folder_that_is_to_be_made_is_judged_by_the_one_that_is_there(tmp_path):
    output, temporary = machine.disk(tmp_path / "a" / "b")
    assert {output.state, temporary.state} == {"ok"}
    assert "GB free" in output.found
    assert not any(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte, in memory."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() or mount is None:
        pytest.skip("needs root, to mount a small tmpfs")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", mounted], check=False).returncode:
        pytest.skip("needs the right to mount")
    yield mounted, mount
    subprocess.run(["umount", mounted], check=True)


@only_on("linux", why="a tmpfs")
def test_a_disk_that_is_full_or_read_only(small_disk):
    folder, mount = small_disk
    full = machine.disk(folder)[0]
    assert (full.state, full.fix) == ("fails", "clear space, or choose another --out")
    subprocess.run([mount, "-o", "remount,ro", folder], check=True)
    locked = machine.disk(folder)[0]
    assert locked.state == "fails"
    assert "can't be written (Read-only file system)" in locked.found


def test_memory_counts_every_process_that_takes_it():
    assert machine.memory(load_config(None, ["engine.memory_mb=600"]))[0].state == "ok"
    many = ["engine.memory_mb=100000", "runner.kind=processes", "runner.workers=3", "batch.concurrency=10"]
    (finding,) = machine.memory(load_config(None, many))
    assert finding.state == "fails"
    assert "3000000" in finding.found


def test_threads_beyond_the_cores():
    (finding,) = machine.processor(load_config(None, ["engine.threads=1024"]))
    assert finding.state == "warning"
    assert machine.processor(load_config())[0].state == "ok"
