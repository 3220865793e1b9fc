"""Ends of processes: by signals at any moment, also within a function of C, and with their parents."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from pipeline import stopping
from tests.conftest import only_on

pytestmark = only_on("linux", "darwin", why="signals of POSIX")

GIVING_BACK = """
import hashlib, os, signal, subprocess, sys, time
from pipeline import stopping
stopping.UNWIND_S = float(sys.argv[1])
stopping.end_on_signals()
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
say = lambda *what: print(*what, flush=True)
try:
    with stopping.given_back(lambda: say("stop"), lambda: say("given back")):
        say(child.pid)
        {work}
except KeyboardInterrupt:
    say("interrupted")
    time.sleep(0.2)  # the thread may be slower
finally:
    if stopping.stopped_by():
        stopping.end_now(stopping.exit_status())
"""
SLEEP = "time.sleep(60)"
IN_C = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**30)"
"""A function that takes minutes, and that no signal interrupts."""


@contextmanager
def started(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A script once it has said its first line, which is `first` afterwards."""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            process.first = process.stdout.readline().strip()
            yield process
        finally:
            process.kill()


def wait_until_in_c(process: subprocess.Popen[str]) -> None:
    """Return once a script has computed in its function of C for a while: what it says before takes less."""
    script = psutil.Process(process.pid)
    before = script.cpu_times().user
    while script.cpu_times().user < before + 0.3:
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_interrupts_and_the_exit_status_is_that_of_a_shell(name):
    with started(GIVING_BACK.format(work=SLEEP), "60") as process:
        process.send_signal(getattr(signal, name))
        said, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, name)
    assert "interrupted" in said and "given back" not in said
    assert errors == f"Stopped by {name}. The same command resumes from here.\n"
    assert not psutil.pid_exists(int(process.first))


def test_a_function_of_c_does_not_keep_a_process_that_is_to_end():
    with started(GIVING_BACK.format(work=IN_C), "0.2") as process:
        wait_until_in_c(process)
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said.split("\n")[:-1] == ["stop", "given back"]
    assert not psutil.pid_exists(int(process.first))


def test_a_second_signal_ends_it_at_once():
    begun = time.monotonic()
    with started(GIVING_BACK.format(work=IN_C), "60") as process:
        wait_until_in_c(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stop\n"
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "given back\n")
    assert time.monotonic() - begun < 30


def test_a_process_whose_database_does_not_answer_ends_all_the_same():
    script = GIVING_BACK.replace('say("given back")', "time.sleep(60)")
    with started(script.format(work=IN_C), "0.1") as process:
        wait_until_in_c(process)
        process.terminate()
        assert process.wait(30) == 143


def test_a_signal_that_is_ignored_stays_so():
    script = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom pipeline import stopping"
    script = GIVING_BACK.format(work=SLEEP).replace("from pipeline import stopping", script)
    with started(script, "60") as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 143


def test_where_ctrl_c_is_ignored_sigterm_interrupts():
    script = GIVING_BACK.format(work=SLEEP).replace(
        "say(child", "signal.signal(2, signal.SIG_IGN); say(child"
    )
    with started(script, "60") as process:
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert (process.returncode, "interrupted" in said) == (143, True)


def test_a_signal_of_a_forked_child_is_its_own():
    work = (
        "pid = os.fork()\n        if pid == 0: time.sleep(60)\n"
        "        os.kill(pid, 15); say(os.WTERMSIG(os.waitpid(pid, 0)[1])); time.sleep(0.3); say('alive')"
    )
    with started(GIVING_BACK.format(work=work), "0.1") as process:
        said, _ = process.communicate("\n", timeout=30)
    assert said.split() == ["15", "alive"]


ENDS_WITH_PARENT = """
import time
from pipeline import stopping
stopping.end_with_parent()
print(1, flush=True)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
from pipeline import stopping
command = [*stopping.ENDING_WITH_PARENT, "timeit", "-n1", "-r1", "import time; time.sleep(60)"]
env = {{**os.environ, **stopping.as_parent()}}
children = [
    subprocess.Popen([sys.executable, "-c", {ENDS_WITH_PARENT!r}], stdout=subprocess.PIPE, env=env),
    subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env),
]
children[0].stdout.readline()
time.sleep(float(sys.argv[1]))
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""


def test_children_end_with_a_parent_that_is_killed():
    with started(PARENT, "0.5") as process:
        children = [psutil.Process(int(pid)) for pid in process.first.split()]
        process.kill()
        process.wait()
        assert len(children) == 2
        _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_a_command_that_is_not_ours_does_not_learn_of_its_parent(monkeypatch):
    assert stopping.without_parent({**stopping.as_parent(), "HOME": "/x"}) == {"HOME": "/x"}


def test_no_process_watches_itself(monkeypatch):
    (name, value), *_ = stopping.as_parent().items()
    monkeypatch.setenv(name, value)
    stopping.end_with_parent()
    assert "parent" not in {thread.name for thread in threading.enumerate()}


def test_a_child_that_ignores_sigterm_is_killed():
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"import signal, time; {ignore}; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.read(1)
        stopping.end_child(child, 0.1)
        assert child.returncode == -signal.SIGKILL
