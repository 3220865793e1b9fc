"""Refusals of servers and object stores: what they said, and what to do. Retries don't help against them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from pipeline.private_interfaces import gdal_error_name

PASSING = frozenset({408, 425, 429, *range(500, 600)})
"""HTTP statuses of transient errors."""

_GONE = (404, 410)
_TAG = re.compile(r"<[^>]*>")
_STATUS = re.compile(r"HTTP response code: (\d{3})")
_BUSY = re.compile(
    r"try again|request rate|slow ?down|internal error|unavailable|time-?d? ?out|temporar|too many requests"
    r"|\b(?:408|425|429|5\d\d)\b",
    re.IGNORECASE,
)
"""What S3-compatible stores say with such a status, which GDAL does not pass on."""
_KEYS: Mapping[str, str] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_NO_SIGN_REQUEST=YES for a public "
    "bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GS_ACCESS_KEY_ID and GS_SECRET_ACCESS_KEY; "
    "GS_NO_SIGN_REQUEST=YES for a public bucket",
}
_MISSING = "nothing is there. Check the address; a catalogue that names it may be out of date."


def gdal_refusal(href: str, error: Exception) -> str | None:
    """Return what a store answered to GDAL, and what to do; None if it is transient, or no refusal.

    `href` is a name for GDAL (`/vsis3/...`), `error` what rasterio raised when it opened that.
    """
    said, name = " ".join(_TAG.sub(" ", str(error)).split())[:300], gdal_error_name(error)
    status = _STATUS.search(said)
    if status:
        return http_refusal(address(href), int(status[1]))
    if said.startswith("CURL error") and "certificate" in said:
        return f"{said}. Check the address, or set CURL_CA_BUNDLE to the certificates to trust."
    if not name.startswith("CPLE_AWS") or _BUSY.search(said):
        return None
    scheme = urlsplit(address(href)).scheme
    if name == "CPLE_AWSInvalidCredentialsError":
        return f"no credentials found. Set {_KEYS[scheme]}."
    if name == "CPLE_AWSObjectNotFoundError":
        return f"the store says: {said.rstrip('.')}. {_MISSING.capitalize()}"
    return f"the store says: {said.rstrip('.')}. {_check_store(scheme)}"


def http_refusal(url: str, status: int, said: str = "") -> str | None:
    """Return why a server refuses an address, and what to do; None for a status of transient errors.

    `url` may also be an address in an object store, `said` is text from the server's answer.
    """
    if status in PASSING:
        return None
    answer = f"HTTP status {status}{f': {said[:200]}' if said else ''}"
    if status in _GONE:
        return f"{answer}, {_MISSING}"
    parts = urlsplit(url)
    if parts.scheme in _KEYS:
        return f"{answer}. {_check_store(parts.scheme)}"
    expiry = _expiry(parts.query)
    if expiry and expiry < datetime.now(UTC):
        return (
            f"{answer}; the signature of the address expired at {expiry:%Y-%m-%d %H:%M} UTC. Sign it again."
        )
    if status not in (401, 403, 407, 409):
        return f"{answer}, request refused. Check the address."
    return (
        f"{answer}, access refused. Sign the address (again, if that was long ago), or give credentials: a "
        ".netrc file, or GDAL_HTTP_HEADERS='Authorization: Bearer ...' for rasters."
    )


def address(href: str) -> str:
    """Return the URL behind a remote name for GDAL."""
    scheme, _, rest = href.removeprefix("/vsi").partition("/")
    return rest if scheme == "curl" else f"{scheme}://{rest}"


def _check_store(scheme: str) -> str:
    if scheme == "gs":
        return f"Check the credentials ({_KEYS[scheme]})."
    endpoint = os.environ.get("AWS_S3_ENDPOINT") or "not set, so Amazon's"
    return (
        f"Check the endpoint (AWS_S3_ENDPOINT, now {endpoint}; that of s3://eodata is "
        f"eodata.dataspace.copernicus.eu), the region (AWS_REGION) and the credentials ({_KEYS[scheme]}; "
        "AWS_REQUEST_PAYER=requester where the reader pays)."
    )


def _expiry(query: str) -> datetime | None:
    """Return the end of a signature's validity, as Azure or S3 write it; None without one."""
    fields = {name.lower(): values[0] for name, values in parse_qs(query).items()}
    try:
        if "se" in fields:
            end = datetime.fromisoformat(fields["se"])
            return end if end.tzinfo else end.replace(tzinfo=UTC)
        signed = datetime.strptime(fields["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return signed + timedelta(seconds=float(fields["x-amz-expires"]))
    except (KeyError, ValueError, OverflowError):
        return None
