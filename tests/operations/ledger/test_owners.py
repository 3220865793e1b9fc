import os
import signal
import subprocess
import sys

import pytest

from pipeline.operations.ledger.owners import Owner
from pipeline.processes import start_of
from tests.conftest import only_on

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def owner_of(process: int) -> Owner:
    here = Owner.this_process()
    return Owner(here.host, process, start_of(process), "token")


def test_it_comes_back_from_text():
    owner = Owner("a host with spaces", 12, 345, "ab")
    assert Owner.parse(str(owner)) == owner
    here = Owner.this_process()
    assert Owner.parse(str(here)) == here
    assert here.process == os.getpid()


def test_batches_of_one_process_are_different_owners():
    assert Owner.this_process() != Owner.this_process()


@only_on("linux", "darwin", why="processes that have ended and were not waited for")
def test_a_process_is_gone_once_it_is_killed_even_before_anybody_waited_for_it():
    with subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        owner = owner_of(process.pid)
        assert owner.is_gone() is False
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert owner.is_gone() is True
    assert owner.is_gone() is True


def test_another_process_that_got_the_same_number_is_not_the_owner():
    here = Owner.this_process()
    earlier = Owner(here.host, here.process, here.started - 1, here.token)
    with here.at_work():
        assert here.is_gone() is False
        assert earlier.is_gone() is True


def test_a_batch_that_ended_is_gone_though_its_process_lives():
    first, second = Owner.this_process(), Owner.this_process()
    with first.at_work():
        with second.at_work():
            assert (first.is_gone(), second.is_gone()) == (False, False)
        assert (first.is_gone(), second.is_gone()) == (False, True)
    assert first.is_gone() is True


def test_of_other_machines_nothing_is_known():
    assert Owner("elsewhere", os.getpid(), 1, "token").is_gone() is None


@pytest.mark.parametrize(
    "text",
    ["", "x", "a b c d", "h 1 abc def", "h 0 1 t", "h -5 1 t", "h 1e3 1 t", f"h {10**18} 1 t", "h 1 -1 t"],
)
def test_an_owner_that_no_truckscape_has_written_is_none(text):
    assert Owner.parse(text) is None
