"""Addresses of servers: faults that no request is needed to find."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_LONGEST = 8000
_MOST_PORT = 65_535
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def address_fault(url: str) -> str | None:
    """Return why no client can use a URL such as `https://host:port/path`; None if it is well-formed.

    The text has no part of the address that may be secret.
    """
    if len(url) > _LONGEST:
        return f"it has {len(url)} characters, more than {_LONGEST}"
    if _CONTROL.search(url):
        return "it has control characters"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if "[" in parts.netloc:
            ipaddress.IPv6Address(host)
    except ValueError:
        return "its host is malformed"
    try:
        port = parts.port
    except ValueError:
        port = 0
    return f"its port is no number from 1 to {_MOST_PORT}" if port == 0 else _host_fault(host)


def web_fault(url: str) -> str | None:
    """Return why a text is no URL of a web server; None if it is one."""
    if not re.match(r"https?://", url, re.IGNORECASE):
        return "it does not begin with https:// or http://"
    return address_fault(url)


def _host_fault(host: str) -> str | None:
    if not host.strip("."):
        return "it names no host"
    if re.search(r"[\s\\<>^`{|}*]", host):
        return "its host has characters that no name has"
    if ":" not in host:  # an address of IPv6, which urlsplit has checked
        try:
            host.rstrip(".").encode("idna")
        except UnicodeError:
            return "its host is no name"
    return None
