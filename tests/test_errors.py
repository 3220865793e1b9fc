"""Errors: which are transient, and what their messages leave out."""

import errno
import inspect

import pytest

from pipeline import errors
from pipeline.errors import LabelsError, TruckscapeError, is_transient

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, TruckscapeError) and kind is not TruckscapeError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_error_has_its_meaning_in_one_line(kind):
    assert "\n" not in kind.__doc__
    assert kind.__doc__.endswith(".")


def test_an_error_of_labels_is_of_labels():
    assert not LabelsError.__subclasses__()


def test_transient_errors():
    assert {kind.__name__ for kind in KINDS if is_transient(kind(""))} == {
        "IncompleteReadError",
        "InputChangedError",
        "InstallationError",
        "OpenDataUnreachableError",
        "OrchestratorError",
        "OutputError",
        "RoadsUnreachableError",
        "UnreachableError",
        "WorkerLostError",
    }
    assert is_transient(ConnectionResetError())
    assert not is_transient(ValueError())


def test_a_machine_that_fails_is_no_fault_of_the_input():
    assert is_transient(OSError(errno.ENOSPC, "No space left on device"))
    assert is_transient(PermissionError(errno.EACCES, "Permission denied"))
    assert is_transient(ImportError("libstdc++.so.6: version not found"))
    assert is_transient(MemoryError())
    assert not is_transient(FileNotFoundError(errno.ENOENT, "No such file"))
    assert not is_transient(OSError("of GDAL, without a number"))


def test_an_address_in_a_message_loses_its_signature():
    assert "secret" not in str(TruckscapeError("https://host/a?X-Amz-Signature=secret failed"))
