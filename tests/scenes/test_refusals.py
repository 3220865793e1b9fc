"""Servers and stores that refuse: what is said, what to do, and whether a retry could help."""

import numpy as np
import pytest

from pipeline.errors import (
    IncompleteReadError,
    NotAProductError,
    RefusedReadError,
    SceneNotFoundError,
    UnreachableError,
    is_transient,
)
from pipeline.operations.search import StacSearch, search_scenes
from pipeline.scenes.download import fetch
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.refusals import http_refusal
from tests.scenes.products import write_raster
from tests.servers import refusing_server, s3_server

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def s3_error(code: str, message: str) -> str:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setattr("pipeline.scenes.raster.datasets._REMOTE_PAUSES_S", (0.01,))


@pytest.fixture
def store(monkeypatch, quick):
    """Say where S3 is, and with which keys."""

    def at(url: str, keys: bool = True) -> None:
        for name in (*KEYS, "AWS_PROFILE", "AWS_NO_SIGN_REQUEST"):
            monkeypatch.delenv(name, raising=False)
        if keys:
            monkeypatch.setenv(KEYS[0], "a")
            monkeypatch.setenv(KEYS[1], "b")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("CPL_AWS_AUTODETECT_EC2", "NO")
        monkeypatch.setenv("AWS_S3_ENDPOINT", url.removeprefix("http://"))
        monkeypatch.setenv("AWS_HTTPS", "NO")
        monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")

    return at


@pytest.mark.parametrize(
    ("status", "code", "said", "advice"),
    [
        (403, "AccessDenied", "Access Denied", "AWS_REQUEST_PAYER=requester"),
        (403, "InvalidAccessKeyId", "The Access Key Id does not exist", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "The signature does not match", "AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", "The provided token has expired.", "AWS_ACCESS_KEY_ID"),
        (404, "NoSuchBucket", "The specified bucket does not exist", "AWS_S3_ENDPOINT, now 127.0.0.1"),
        (403, "AccessDenied", "", "AWS_NO_SIGN_REQUEST"),
        (404, "NoSuchKey", "The specified key does not exist.", "Nothing is there"),
    ],
)
def test_a_store_that_refuses_is_quoted_once(store, status, code, said, advice):
    with refusing_server(status, s3_error(code, said)) as (url, asked):
        store(url)
        with pytest.raises(RefusedReadError) as caught:
            open_raster("/vsis3/eodata/B02.jp2", "Band B02")
    text = str(caught.value)
    assert text.startswith("Band B02 can't be opened: s3://eodata/B02.jp2 (the store says: ")
    assert said in text and advice in text
    assert not is_transient(caught.value)
    assert sum("B02.jp2" in line and line.startswith("GET /eodata/B02") for line in asked) <= 2


def test_no_keys_are_said_to_be_missing_before_any_request(store):
    with refusing_server(403) as (url, asked):
        store(url, keys=False)
        with pytest.raises(RefusedReadError, match=r"no credentials found\. Set AWS_ACCESS_KEY_ID") as caught:
            open_raster("/vsis3/eodata/B02.jp2", "Band B02")
    assert not is_transient(caught.value)
    assert asked == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, s3_error("SlowDown", "Please reduce your request rate.")),
        (500, s3_error("InternalError", "We encountered an internal error. Please try again.")),
        (503, ""),
        (429, ""),
        (502, "<html><title>502 Bad Gateway</title></html>"),
    ],
)
def test_a_store_that_is_busy_is_transient(store, status, body):
    with refusing_server(status, body) as (url, _):
        store(url)
        with pytest.raises(IncompleteReadError) as caught:
            open_raster("/vsis3/eodata/B02.jp2", "Band B02")
    assert is_transient(caught.value)


def test_a_real_store_without_the_bucket_or_the_key(monkeypatch, quick, tmp_path):
    boto3 = pytest.importorskip("boto3")
    with s3_server(monkeypatch, "scenes"):
        path = write_raster(tmp_path / "B02.tif", np.ones((1, 64, 64), np.uint16), 10)
        boto3.client("s3").upload_file(str(path), "scenes", "B02.tif")
        with open_raster("/vsis3/scenes/B02.tif", "Band B02") as dataset:
            assert dataset.shape == (64, 64)
        with pytest.raises(RefusedReadError, match=r"Nothing is there"):
            open_raster("/vsis3/scenes/B03.tif", "Band B03")
        with pytest.raises(RefusedReadError, match=r"bucket .*AWS_S3_ENDPOINT"):
            open_raster("/vsis3/eodata/B02.tif", "Band B02")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "access refused. Sign the address"),
        (403, "access refused. Sign the address"),
        (409, "access refused. Sign the address"),  # Azure, for public access
        (404, "nothing is there. Check the address"),
        (410, "nothing is there"),
        (400, "request refused"),
    ],
)
def test_a_web_server_that_refuses_is_asked_once(quick, status, advice):
    with refusing_server(status) as (url, asked):
        with pytest.raises(RefusedReadError, match=f"{url}/B02.tif .HTTP status {status}") as caught:
            open_raster(f"/vsicurl/{url}/B02.tif?sig=secret", "Band B02")
        assert len(asked) <= 2  # GDAL's HEAD, of a file and of a folder
    assert advice in str(caught.value) and "secret" not in str(caught.value)
    assert not is_transient(caught.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 520])
def test_a_web_server_that_is_busy_is_transient(quick, status):
    with refusing_server(status) as (url, _), pytest.raises(IncompleteReadError) as caught:
        open_raster(f"/vsicurl/{url}/B02.tif", "Band B02")
    assert f"HTTP response code: {status}" in str(caught.value)


def test_a_host_that_is_not_found_is_named(quick):
    with pytest.raises(IncompleteReadError, match=r"Could not resolve host: nowhere\.invalid|CURL error"):
        open_raster("/vsicurl/http://nowhere.invalid/B02.tif", "Band B02")


def test_an_item_that_is_refused_is_asked_for_once_and_the_server_quoted(monkeypatch):
    monkeypatch.setattr("pipeline.scenes.download._PAUSES_S", (0.01,))
    body = '{"detail": "Forbidden: no such token"}'
    with refusing_server(403, body) as (url, asked):
        with pytest.raises(SceneNotFoundError, match=r"Forbidden: no such token.*\.netrc") as caught:
            fetch(f"{url}/item.json", "The STAC item", 1000)
        assert len(asked) == 1
        assert not is_transient(caught.value)
    with refusing_server(507) as (url, _), pytest.raises(UnreachableError):
        fetch(f"{url}/item.json", "The STAC item", 1000)


@pytest.mark.parametrize(("status", "said"), [(401, "access refused"), (404, "nothing is there")])
def test_an_api_that_refuses_a_search(status, said):
    with refusing_server(status, "log in first") as (url, asked):
        with pytest.raises(NotAProductError, match=f"HTTP status {status}: log in first.*{said}") as caught:
            search_scenes(StacSearch(url))
        assert len(asked) == 1
    assert not is_transient(caught.value)


@pytest.mark.parametrize(
    ("query", "when"),
    [
        ("se=2024-05-01T10%3A45%3A00Z&sig=x", "2024-05-01 10:45"),
        ("X-Amz-Date=20240501T100000Z&X-Amz-Expires=3600&X-Amz-Signature=x", "2024-05-01 11:00"),
    ],
)
def test_a_signature_that_expired_is_said_to_have(query, when):
    assert f"expired at {when} UTC. Sign it again." in http_refusal(f"https://store/B02.tif?{query}", 403)
    assert "access refused" in http_refusal("https://store/B02.tif?se=2999-01-01T00:00:00Z", 403)
    assert "access refused" in http_refusal("https://store/B02.tif?se=soon", 403)


def test_a_store_of_google_is_told_its_own_keys():
    assert "GOOGLE_APPLICATION_CREDENTIALS" in http_refusal("gs://bucket/B02.tif", 403)
