"""End of a process: by a signal, within seconds and without children, or with the process that started it.

Python calls handlers of signals in the main thread, between two of its own instructions, and that thread may
be in a C function for minutes. So a thread reads each signal from a socket, too, and keeps the time limit.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import psutil

from pipeline.processes import start_of

UNWIND_S = 4
"""Time to end in order; Docker kills a container 10 s after SIGTERM."""
_GIVE_BACK_S = 2
_SHOW_CURSOR = b"\x1b[?25h"
"""Control sequence for terminals; a progress bar hides it."""
_PARENT_POLL_S = 1
_PARENT = "TRUCKSCAPE_PARENT"
_SIGNALS = {
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
}
_RECEIVED: list[int] = []
_AT_WORK: list[tuple[Callable[[], None], Callable[[], None]]] = []
_SOCKETS: list[socket.socket] = []
"""Both ends, once this process ends on signals; they stay open as long as it lives."""


def end_on_signals() -> None:
    """Make SIGTERM and SIGHUP interrupt this process as Ctrl-C does, and end it `UNWIND_S` later at most.

    A second signal ends it at once. Either way work is given back (`given_back`) and no child is left. Call
    it in the main thread; signals that are ignored or handled already, as by nohup, stay so.
    """
    if _SOCKETS or threading.current_thread() is not threading.main_thread():
        return
    _SOCKETS.extend(socket.socketpair())
    reader, writer = _SOCKETS
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in _SIGNALS - {signal.SIGINT}:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _as_ctrl_c)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget_in_child)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()


def stopped_by() -> int | None:
    """Return the signal that has asked this process to end, None without one."""
    return _RECEIVED[0] if _RECEIVED else None


def exit_status() -> int | None:
    """Return the exit status after a signal, 128 more than its number as in a shell; None without one."""
    return 128 + _RECEIVED[0] if _RECEIVED else None


def ends_on_signals() -> bool:
    """Return whether `end_on_signals` was called in this process."""
    return bool(_SOCKETS)


@contextmanager
def given_back(stop: Callable[[], None], give_back: Callable[[], None]) -> Iterator[None]:
    """Have another thread call `stop` at the first signal, and `give_back` if the block does not end in time.

    `stop` must let nothing further begin, and not wait. `give_back` is the last act of the process.
    """
    work = (stop, give_back)
    _AT_WORK.append(work)
    try:
        yield
    finally:
        _AT_WORK.remove(work)


def as_parent() -> dict[str, str]:
    """Return the environment of children that call `end_with_parent`, so that they end with this process."""
    return {_PARENT: f"{os.getpid()} {start_of(os.getpid()) or 0}"}


def without_parent(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what `as_parent` added: for commands that are not ours."""
    return {name: value for name, value in environment.items() if name != _PARENT}


ENDING_WITH_PARENT = (
    sys.executable,
    "-c",
    "import runpy, sys; from pipeline.stopping import end_with_parent; end_with_parent(); del sys.argv[0]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)",
)
"""Command of Python, like `python -m` before the name of a module, for a child with `as_parent`."""


def end_with_parent() -> None:
    """End this process within seconds of the one that `as_parent` names, or that started it as a worker.

    Nothing else does, where the parent is killed: workers wait for the next task, and servers for requests.
    """
    process, _, started = os.environ.get(_PARENT, "").partition(" ")
    named = (int(process), int(started)) if process.isdigit() and started.isdigit() else (0, 0)
    if named[0] == os.getpid():
        named = (0, 0)
    is_watched = any(thread.name == "parent" for thread in threading.enumerate())
    if not is_watched and (named[0] or multiprocessing.parent_process()):
        threading.Thread(target=_watch_parents, args=named, name="parent", daemon=True).start()


def end_child(child: subprocess.Popen[bytes], patience_s: float) -> None:
    """End a process that this one started: by SIGTERM, and if it has not ended in time, by SIGKILL."""
    child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _watch_parents(process: int, started: int) -> None:
    starter = multiprocessing.parent_process()
    while starter is None or starter.is_alive():
        if process and start_of(process) not in (started, 0):
            break
        time.sleep(_PARENT_POLL_S)
    os._exit(1)


def _as_ctrl_c(number: int, frame: Any) -> None:
    _note(number)
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:  # ignored, as by shells for commands in the background
        raise KeyboardInterrupt


def _hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _forget_in_child() -> None:
    """Let signals of a forked child, which shares the socket, not end its parent."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        if signal.getsignal(number) is _as_ctrl_c:
            signal.signal(number, signal.SIG_DFL)
    _release()


def _watch(reader: socket.socket) -> None:
    with suppress(TimeoutError):
        _note(_next_signal(reader))
        for stop, _ in tuple(_AT_WORK):
            stop()
        reader.settimeout(UNWIND_S)
        _next_signal(reader)
    end_now(exit_status() or 1)


def _next_signal(reader: socket.socket) -> int:
    while (number := reader.recv(1)[0]) not in _SIGNALS:
        pass
    return number


def _note(number: int) -> None:
    if not _RECEIVED:
        _RECEIVED.append(number)


def end_now(status: int) -> NoReturn:
    """End this process with its children, whatever its other threads do."""
    children = _children()
    for child in children:
        with suppress(psutil.Error):
            child.terminate()
    last = threading.Thread(target=_last_acts, daemon=True)  # a database or a terminal may never answer
    last.start()
    last.join(_GIVE_BACK_S)
    for child in psutil.wait_procs(children, timeout=1)[1]:
        with suppress(psutil.Error):
            child.kill()
    os._exit(status)


def _last_acts() -> None:
    for _, give_back in tuple(_AT_WORK):
        with suppress(Exception):
            give_back()
    with suppress(OSError, ValueError):  # the terminal is gone, say
        sys.stdout.flush()
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
        name = signal.Signals(stopped_by() or 0).name
        os.write(sys.stderr.fileno(), f"Stopped by {name}. The same command resumes from here.\n".encode())


def _children() -> list[psutil.Process]:
    try:
        return psutil.Process().children(recursive=True)
    except psutil.Error:
        return []
