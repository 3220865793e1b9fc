"""A scene as on a system that is not Linux: `python -m tests.elsewhere SCENE OUT ROADS`.

Before truckscape is imported, calls that only some systems have are taken away: `resource`, positioned reads
and writes, forks, affinity, the kernel's folders, the C library. As on Windows, an open file can be neither
replaced nor removed, and names hold none of the characters that are reserved there.
"""

import builtins
import ctypes
import importlib
import io
import os
import shutil
import sys
import time
from pathlib import Path

MODULES = ("fcntl", "grp", "pwd", "resource", "syslog", "termios")
CALLS = (
    "fork",
    "forkpty",
    "geteuid",
    "getgid",
    "getpgid",
    "getuid",
    "killpg",
    "posix_fallocate",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
    "register_at_fork",
    "sched_getaffinity",
    "setsid",
    "statvfs",
    "sysconf",
    "uname",
    "waitid",
)
KERNEL = ("/dev", "/proc", "/sys")
RESERVED = set('<>:"|?*')


def leave_linux() -> None:
    """Take away what other systems lack; libraries that ask the system in their own ways come first."""
    for library in (
        "geopandas",
        "matplotlib.pyplot",
        "openvino",
        "pandas",
        "psutil",
        "rasterio",
        "torchvision",
    ):
        importlib.import_module(library)
    for name in MODULES:
        sys.modules[name] = None
    for name in CALLS:
        if hasattr(os, name):
            delattr(os, name)
    builtins.open = io.open = without_kernel(io.open)
    for name in ("listdir", "readlink", "scandir", "stat"):
        setattr(os, name, without_kernel(getattr(os, name)))
    for name in ("remove", "rename", "replace", "unlink"):
        setattr(os, name, of_closed_files(getattr(os, name)))
    os.kill, ctypes.CDLL = without_call(os.kill), without_call(ctypes.CDLL)
    shutil._use_fd_functions = False


def without_call(call):
    """Wrap a call that fails on Windows, or ends the process that it asks about, if truckscape makes it."""

    def wrapped(*args, **kwargs):
        if is_ours():
            raise TypeError("bad argument type for built-in operation")
        return call(*args, **kwargs)

    return wrapped


def without_kernel(call):
    """Wrap a call that takes a path, so that truckscape finds no folder of the kernel."""

    def wrapped(path=".", *args, **kwargs):
        if isinstance(path, str | Path) and str(path).startswith(KERNEL) and is_ours():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return call(path, *args, **kwargs)

    return wrapped


def is_ours() -> bool:
    """Return True if truckscape itself called, maybe through Python's own modules for files."""
    frame = sys._getframe(2)
    while (package := frame.f_globals["__name__"].partition(".")[0]) in ("pathlib", "shutil", "tempfile"):
        frame = frame.f_back
    return package in ("flows", "pipeline")


def of_closed_files(call):
    """Wrap a call that replaces or removes files."""

    def wrapped(*paths, **kwargs):
        for path in map(Path, paths):
            if RESERVED & set(path.name):
                raise OSError(
                    22, "The filename, directory name, or volume label syntax is incorrect", str(path)
                )
            # Another thread may be about to close it; a file that stays open is the fault.
            for _ in range(20):
                if not (path.is_file() and any(is_open(descriptor, path) for descriptor in range(3, 256))):
                    break
                time.sleep(0.1)
            else:
                raise PermissionError(13, "The file is used by another process", str(path))
        return call(*paths, **kwargs)

    return wrapped


def is_open(descriptor: int, path: Path) -> bool:
    """Return True if a descriptor of this process is that of a file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def run_scene(scene: Path, out: Path, roads: Path) -> None:
    """Run a scene as a batch of one, without Prefect."""
    from pipeline.config import load_config
    from pipeline.operations.batch import run_batch
    from pipeline.operations.request import BatchRequest
    from pipeline.operations.scene_list import list_scenes

    settings = [
        "engine.threads=1",
        "tiling.tile_px=128",
        "tiling.shards=2",
        "export.formats=[geojson,parquet]",
    ]
    request = BatchRequest(tuple(list_scenes([str(scene)])), out, load_config(None, settings), roads=roads)
    summary = run_batch(request)
    assert summary.is_complete, [entry.reason for entry in summary.entries]


if __name__ == "__main__":
    leave_linux()
    run_scene(*map(Path, sys.argv[1:]))
