"""Warnings about inputs are logged, and collected once each."""

from contextvars import copy_context
from threading import Thread

from pipeline.input_warnings import collected_warnings, warn


def test_a_warning_is_logged_without_a_collector(caplog):
    warn("odd.tif: values up to 3")
    assert caplog.messages == ["odd.tif: values up to 3"]


def test_warnings_are_collected_once_in_order(caplog):
    with collected_warnings(["of the preparation"]) as collected:
        warn("first")
        warn("of the preparation")
        warn("first")
        warn("a\nsecond")
    assert collected == ["of the preparation", "first", "a second"]
    assert caplog.messages == ["first", "a second"]


def test_secrets_are_redacted():
    with collected_warnings() as collected:
        warn("https://user:pass@host/x.tif is odd")
    assert "pass" not in collected[0]


def test_threads_in_a_copy_of_the_context_share_the_collection():
    with collected_warnings() as collected:
        thread = Thread(target=copy_context().run, args=(warn, "from a thread"))
        thread.start()
        thread.join()
    assert collected == ["from a thread"]


def test_nested_collections_are_separate():
    with collected_warnings() as outer:
        warn("outer")
        with collected_warnings() as inner:
            warn("inner")
    assert (outer, inner) == (["outer"], ["inner"])
