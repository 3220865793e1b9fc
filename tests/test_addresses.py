"""Addresses that are none, without a request."""

import pytest

from pipeline.addresses import address_fault, web_fault


@pytest.mark.parametrize(
    "url",
    [
        "https://host/a b?x=1#y",
        "http://127.0.0.1:8080",
        "http://[::1]:9/",
        "https://user:word@host.example.:443/",
        "https://bücher.example/ä",
        "HTTP://HOST/",
        "https://under_score.example/",
    ],
)
def test_addresses_of_web_servers(url):
    assert web_fault(url) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://[", "its host is malformed"),
        ("http://[v1.x]/", "its host"),
        ("http://host:port/", "its port is no number from 1 to 65535"),
        ("http://host:99999/", "its port is no number"),
        ("http://host:0/", "its port is no number"),
        ("http://host:-1/", "its port is no number"),
        ("http://host:" + "9" * 5000, "its port is no number"),
        ("http://", "it names no host"),
        ("http:///path", "it names no host"),
        ("http://:80/", "it names no host"),
        ("http://a b/", "characters that no name has"),
        ("http://*/", "characters that no name has"),
        ("http://.../", "it names no host"),
        ("http://a..b/", "no name"),
        (f"http://{'a' * 70}/", "no name"),
        ("http://host/\x00", "control characters"),
        ("http://ho\nst/", "control characters"),
        ("http://host/\ud800", "control characters"),
        ("http://host/" + "x" * 10_000, "it has 10012 characters, more than 8000"),
    ],
)
def test_addresses_that_no_client_can_use(url, said):
    assert said in str(address_fault(url))
    assert said in str(web_fault(url))


@pytest.mark.parametrize("text", ["ftp://host/", "host", "/path", "http:/host", "http:host", "", "file:///a"])
def test_what_is_no_web_server(text):
    assert "does not begin with" in str(web_fault(text))
