"""Facts about processes, as every system reports them."""

import os
import subprocess
import sys

from pipeline import processes


def test_a_process_has_one_start_and_none_once_it_has_ended():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = processes.start_of(child.pid)
    assert start == processes.start_of(child.pid)
    assert start >= processes.start_of(os.getpid())
    child.communicate(b"\n")
    assert processes.start_of(child.pid) is None


def test_peak_memory_does_not_fall():
    before = processes.peak_memory_mb()
    held = bytearray(64 * 2**20)
    peak = processes.peak_memory_mb()
    del held
    assert 0 < before <= peak <= processes.peak_memory_mb()


def test_without_the_module_resource_the_memory_of_now_counts(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert processes.peak_memory_mb() > 0


def test_a_process_is_configured_once(monkeypatch):
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    processes.configure_process.cache_clear()
    processes.configure_process()
    assert os.environ["GDAL_CACHEMAX"] == "32"
    monkeypatch.setenv("GDAL_CACHEMAX", "64")
    processes.configure_process()
    assert os.environ["GDAL_CACHEMAX"] == "64"
    processes.give_back_memory()


def test_imports_are_not_searched_for_garbage():
    code = (
        "import gc\nfrom pipeline.processes import configure_process\nconfigure_process()\n"
        "before = gc.get_stats()\nimport geopandas\n"
        "print(sum(g['collections'] for g in gc.get_stats()) - sum(g['collections'] for g in before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1
