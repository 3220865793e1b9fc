"""Documents of servers that are slow, busy or none: given up in a stated total time."""

import time

import pytest

from pipeline.errors import SceneNotFoundError, UnreachableError
from pipeline.scenes import download
from pipeline.scenes.download import fetch
from tests.servers import SLOW, slow_server

TOTAL_S = 0.5


@pytest.mark.parametrize("kind", SLOW)
def test_a_document_that_does_not_come_is_given_up_in_total_time(kind, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE_S", TOTAL_S)
    begun = time.monotonic()
    with slow_server(kind) as url, pytest.raises(UnreachableError, match="The item can't be fetched"):
        fetch(f"{url}/item", "The item", 1000)
    assert time.monotonic() - begun < TOTAL_S + 2


@pytest.mark.parametrize("url", ["http://[", "http://host:port/x", "http://a b/", "http://" + "a" * 10_000])
def test_what_is_no_address_is_not_fetched(url):
    with pytest.raises(SceneNotFoundError, match=r"The item can't be fetched: .* \(it") as caught:
        fetch(url, "The item", 1000)
    assert not caught.value.is_transient
    assert len(str(caught.value)) < 500
