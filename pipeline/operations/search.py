"""Scenes as a STAC API finds them: by area, time, collection and cloud cover."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from threading import Event
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import pystac
import requests
import urllib3
from pystac_client import Client, ConformanceClasses
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError, ParametersError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning
from requests.exceptions import RequestException
from urllib3.util import Retry

from pipeline.addresses import web_fault
from pipeline.deadline import Deadline, DeadlinePassedError
from pipeline.errors import ConfigError, MetadataError, NotAProductError, UnreachableError
from pipeline.input_warnings import collected_warnings
from pipeline.operations.area import search_place
from pipeline.operations.scene_list import ListedScene, digest
from pipeline.redaction import is_url, shown
from pipeline.scenes.download import TIMEOUTS_S, close_redirect, pieces
from pipeline.scenes.readers import stac_properties
from pipeline.scenes.readers.naming import parse_time, time_or_none
from pipeline.scenes.readers.stac import MALFORMED
from pipeline.scenes.refusals import PASSING, http_refusal
from pipeline.scenes.scene import scene_name

log = logging.getLogger(__name__)

COLLECTION = "sentinel-2-l2a"
_PAGE = 100
PATIENCE_S = 60.0
"""Longest time of a search without progress: all requests, attempts and pauses together."""
_PER_SCENE_S = 0.6
"""Time that a scene found adds: a page of 100 restores the complete minute, one of a few does not."""
_MOST_BYTES = 64 * 2**20
"""Limit of an answer in bytes: a page of 100 items has 3 MB."""
_MOST_SCENES = 100_000
_MONTH = len("2023-06")
_RETRIES = Retry(total=4, backoff_factor=0.1, status_forcelist=PASSING, respect_retry_after_header=False)
_UNIMPORTANT = ("links", "bbox", "stac_version", "stac_extensions")


@dataclass(frozen=True)
class StacSearch:
    """The criteria of a search."""

    url: str
    """The API's landing page."""
    collections: tuple[str, ...] = (COLLECTION,)
    area: str | None = None
    """`west,south,east,north` in degrees, or a file of polygons."""
    time: str | None = None
    """As in STAC: a day, a month, or two times with a slash between them; `..` is open."""
    cloud_cover: float | None = None
    """Upper limit in per cent; items without a value are kept."""
    most: int | None = None
    """Number of the most recent scenes to keep."""
    changed_since: str | None = None
    """Only items changed since this time; an API without such a filter returns nothing."""


def search_scenes(search: StacSearch, deadline: Deadline | None = None) -> list[ListedScene]:
    """Return the matching scenes, the oldest first.

    It ends within a minute (`PATIENCE_S`) without progress, however slowly the server answers; `deadline` is
    that of earlier attempts.

    All pages are read; cloud cover is compared here, since servers support different filter languages, and
    some answer an unknown one with an empty result. A server is not trusted: only http(s) is requested, and
    answers and pages have limits. A malformed item is returned with the others; opening it reports its fault.

    Raises
    ------
    ConfigError
        If the URL is none of a web server, or area or time are not understood.
    AreaError
        If the file of the area can't be read.
    NotAProductError
        If the URL is no STAC API, the server refuses the search, or its answers are larger than any, lead
        elsewhere than to http(s), or have no end.
    UnreachableError
        If the server does not answer, or fails.
    """
    fault = web_fault(search.url)
    if fault:
        raise ConfigError(
            f"--stac is the URL of a STAC API, e.g. https://earth-search.aws.element84.com/v1; {fault}. "
            f"Received: {search.url[:300]!r}"
        )
    found = {}
    for document in _documents(search, deadline or Deadline(PATIENCE_S)):
        cover = _cloud_cover(document)
        if search.cloud_cover is None or cover is None or cover <= search.cloud_cover:
            found[document["id"]] = _listed(document, search)
    in_time = sorted(found.values(), key=lambda scene: (scene.acquired or "", scene.name))
    return in_time[-search.most :] if search.most else in_time


class _WebOnly(StacApiIO):
    """Client of web servers only, whatever their links say, with a limit of size for answers."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__(timeout=TIMEOUTS_S[1], max_retries=_RETRIES)
        self.deadline = deadline
        self.session.hooks["response"].append(close_redirect)

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Read the text at an address or link; never a file."""
        self._check(source.get_href() or "" if isinstance(source, pystac.Link) else str(source))
        return super().read_text(source, *args, **kwargs)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Return the text of a server's answer.

        Raises
        ------
        NotAProductError
            If the server refuses the request, its answer is too large, or the method is not GET or POST.
        UnreachableError
            If the server is busy or fails.
        """
        method = method or "GET"
        self._check(href, method)
        given: dict[str, Any] = {"json" if method.upper() == "POST" else "params": parameters}

        def ask(abandoned: Event) -> tuple[requests.Response, bytes]:
            with self.session.request(
                method, href, headers=headers, timeout=TIMEOUTS_S, stream=True, **given
            ) as answer:
                return answer, b"".join(pieces(answer, "The answer of the STAC API", _MOST_BYTES, abandoned))

        try:
            answer, body = self.deadline.wait_for(ask, "search")
        except DeadlinePassedError as error:
            raise UnreachableError(
                f"The search at {href} made no progress in {self.deadline.limit_s:g} s."
            ) from error
        if answer.ok:
            return body.decode()
        why = " ".join(body.decode(errors="replace").split())[:200]
        refusal = http_refusal(href, answer.status_code, why)
        if refusal:
            raise NotAProductError(f"The search at {href} is refused: {refusal}")
        raise UnreachableError(f"The search at {href} failed with HTTP status {answer.status_code}: {why}")

    @staticmethod
    def _check(href: str, method: str = "GET") -> None:
        if web_fault(href) or method.upper() not in ("GET", "POST"):
            raise NotAProductError(f"A link of the STAC API leads elsewhere than to http(s): {href[:200]}")


def _documents(search: StacSearch, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Items as the server has them, each with an id."""
    place = search_place(search.area) if search.area else {}
    try:
        client = Client.open(search.url, stac_io=_WebOnly(deadline))
        if search.changed_since:
            changed = _changed(client, search.changed_since)
            if not changed:
                return
            place |= changed
        wanted = client.search(
            method=_method(client),
            collections=list(search.collections),
            datetime=_interval(search.time),
            limit=_PAGE,
            **place,
        )
        yield from _of_pages(wanted.pages_as_dicts(), search.url, deadline)
    except (RequestException, urllib3.exceptions.HTTPError) as error:
        raise UnreachableError(f"The STAC API does not answer: {search.url} ({error}).") from error
    except (APIError, ClientTypeError, ParametersError, PystacClientWarning, *MALFORMED) as error:
        why = " ".join(str(error).split())[:200]
        raise NotAProductError(
            f"Not a STAC API with item search: {search.url} ({why}). An item or file is no API: name it as a "
            "scene."
        ) from error


def _of_pages(pages: Iterator[dict[str, Any]], url: str, deadline: Deadline) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for page in pages:
        before = len(seen)
        for document in page["features"]:
            if not (isinstance(document, dict) and isinstance(document.get("id"), str)):
                raise NotAProductError(
                    f"The STAC API at {url} returned results that are no items with an id."
                )
            seen.add(document["id"])
            yield document
        if len(seen) == before:
            raise NotAProductError(f"The pages of the search at {url} form a loop.")
        deadline.extend(_PER_SCENE_S * (len(seen) - before))
        if len(seen) > _MOST_SCENES:
            raise NotAProductError(
                f"The search at {url} finds more than {_MOST_SCENES} scenes; narrow it by area or time."
            )


def _method(client: Client) -> str:
    """POST, which has room for polygons, where the API says that it takes it; GET it has to take."""
    reported = {link.extra_fields.get("method") for link in client.get_links("search")}
    return "POST" if "POST" in reported else "GET"


def _changed(client: Client, since: str) -> dict[str, Any]:
    """Return the client's argument for items changed since a time, in a language that the API supports."""
    if client.conforms_to(ConformanceClasses.QUERY):
        return {"query": {"updated": {"gte": since}}}
    if client.conforms_to(ConformanceClasses.FILTER):
        return {"filter": {"op": ">=", "args": [{"property": "updated"}, {"timestamp": since}]}}
    return {}


def _interval(text: str | None) -> str | None:
    """Check the interval and return it as the client reads it; the client's own errors are of any class."""
    parts, like = (text or "").split("/"), "2023-06, 2023-06-01/2023-06-30 or 2023-06-01/.."
    try:
        begins = [_parsed(part) for part in parts if part not in ("", "..")]
        if len(parts) > 2 or begins != sorted(begins):
            raise MetadataError("it is two times at most, the earlier one first")
    except MetadataError as error:
        raise ConfigError(f"The time of a search is like {like} Received: {shown(text)}") from error
    return text and "/".join(_component(part) for part in parts)


def _parsed(part: str) -> datetime:
    """Return the begin of a month, a day or a time."""
    moment = parse_time(f"{part}-01" if len(part) == _MONTH else part)
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time.min, UTC)


def _component(part: str) -> str:
    """Return a part of an interval in the one spelling that STAC has; a month and a day stay as they are."""
    if part in ("", "..") or len(part) == _MONTH:
        return part
    return parse_time(part).isoformat().replace("+00:00", "Z")


def _cloud_cover(document: dict[str, Any]) -> float | None:
    """Per cent; None where the item doesn't tell a number."""
    try:
        cover = float(document["properties"]["eo:cloud_cover"])
    except MALFORMED:
        return None
    return cover if math.isfinite(cover) else None


def _listed(document: dict[str, Any], search: StacSearch) -> ListedScene:
    name, collection = scene_name(document["id"]), search.collections[0]
    try:
        links = [link for link in document.get("links", []) if link.get("rel") == "self"]
        item = pystac.Item.from_dict({**document, "links": links}, preserve_dict=False)
        href = item.get_self_href() or ""
        if not is_url(href):  # a server's files are not ours
            href = _address(search.url, item.collection_id or collection, item.id)
        acquired = item.datetime or item.common_metadata.start_datetime
        updated = item.common_metadata.updated or item.common_metadata.created
        return ListedScene(
            name,
            href,
            _input_version(item),
            _moment(acquired),
            _moment(updated),
            stac_properties.acquisition(document),
        )
    except MALFORMED:
        return ListedScene(name, _address(search.url, collection, document["id"]), digest(["malformed"]))


def _address(url: str, collection: str, item: str) -> str:
    """Return the address of an item of a collection, as APIs have it."""
    names = (quote(name.encode(errors="replace"), safe="") for name in (collection, item))
    return "{}/collections/{}/items/{}".format(url.rstrip("/"), *names)


def _input_version(item: pystac.Item) -> str:
    """Hash the content of an item without the signatures of addresses, which change by the hour."""
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    for asset in document["assets"].values():
        asset["href"] = urlunsplit(urlsplit(asset["href"])._replace(query="", fragment=""))
    return digest([{name: part for name, part in document.items() if name not in _UNIMPORTANT}])


def _moment(moment: datetime | None) -> str | None:
    """Return a time of an item as text in UTC; None for one at which no satellite took images."""
    known = time_or_none(moment.isoformat()) if moment else None
    return known.isoformat(timespec="milliseconds").replace("+00:00", "Z") if known else None


def search_with_retries(search: StacSearch, attempts: int, backoff_s: float) -> list[ListedScene]:
    """Search as `search_scenes`, with retries and doubling pauses if a server does not answer.

    The minute of `search_scenes` holds for attempts and pauses together; no pause begins that is longer than
    the time that is left.
    """
    deadline = Deadline(PATIENCE_S)
    with collected_warnings():  # an odd area is reported once
        for attempt in range(attempts - 1):
            try:
                return search_scenes(search, deadline)
            except UnreachableError as error:
                pause = backoff_s * 2**attempt
                if pause >= deadline.left_s:
                    raise
                log.warning("%s Search again in %g s (batch.attempts, batch.backoff_s).", error, pause)
                deadline.pause(pause)
        return search_scenes(search, deadline)
