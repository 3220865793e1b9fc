"""Credentials are removed from text, errors and logs."""

import logging

import pytest

from pipeline.redaction import is_url, keep_secrets, redacted, shown, without_secrets


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("https://host/a.tif?X-Amz-Signature=abc failed", "https://host/a.tif failed"),
        ("'https://host/a?token=abc&x=1' is gone", "'https://host/a' is gone"),
        ("postgresql://me:word@host/ledger", "postgresql://host/ledger"),
        ("Did it work? yes=no", "Did it work? yes=no"),
    ],
)
def test_queries_and_users_of_addresses_are_removed(text, plain):
    assert without_secrets(text) == plain


def test_an_error_keeps_its_type_and_loses_its_credentials():
    error = redacted(ConnectionError("https://host/a?sig=abc"))
    assert (type(error), str(error)) == (ConnectionError, "https://host/a")


def test_records_of_a_package_are_redacted_once(caplog):
    logger = logging.getLogger("tests.redaction")
    keep_secrets(logger.name)
    keep_secrets(logger.name)
    try:
        logger.warning("asking %s", "https://host/a?sig=abc")
        assert [record.getMessage() for record in caplog.records] == ["asking https://host/a"]
        assert len(logger.handlers) == 1
    finally:
        logger.handlers.clear()


def test_only_web_addresses_are_urls():
    assert is_url("https://host/a")
    assert is_url("HTTP://[")  # no address, and no path either
    assert not is_url("/data/a.tif")
    assert not is_url("s3://bucket/a")


def test_values_are_shown_short_and_without_credentials():
    assert shown("s3://key:secret@host/x?sig=abc") == "'s3://host/x'"
    assert shown(10**5000) == "an integer of thousands of digits"
    assert shown("a" * 1000) == f"'{'a' * 99}... (1002 characters)"
    assert shown([1, 2]) == "[1, 2]"
