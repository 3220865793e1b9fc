"""Names of bands, dates and tiles, as people and agencies write them."""

from datetime import UTC, date, datetime

import pytest

from pipeline.errors import MetadataError
from pipeline.scenes.readers import naming
from pipeline.scenes.readers.naming import acquired_in_name, band_name, baseline_in_name


@pytest.mark.parametrize(
    ("text", "name"),
    [("B2", "B02"), ("B02", "B02"), ("b08", "B08"), ("B8A", "B8A"), ("b8a", "B8A"), ("Band 4", "B04"),
     ("B12_20m", "B12"), ("B13", None), ("B0", None), ("red", None), ("", None), (None, None),
     ("B08A", "B8A"), ("B4, central wavelength 665 nm", "B04"), ("B04 (red)", "B04"), ("0_B8A", "B8A"),
     ("20230613T102031_20230613T102520_T32UPD_B2", "B02"), ("B4_std", None), ("QA_B4", None)],
)  # fmt: skip
def test_band_names_as_people_write_them(text, name):
    assert band_name(text) == name


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("S2A_20230613_raw.tif", date(2023, 6, 13)),
        ("scene_2023-06-13.tif", date(2023, 6, 13)),
        ("T32UPD_20230613T102031_B02.jp2", datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC)),
        ("20230613T102031_20230613T102520_T32UPD.tif", datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC)),
        ("2023-06-13-00:00_2023-06-13-23:59_Sentinel-2_L2A_B04_(Raw).tiff", date(2023, 6, 13)),
        ("mosaic_2023-06-01_2023-06-30.tif", None),
        ("median_20230601_20230630.tif", None),
        ("area_20131301.tif", None),
        ("plot_20010203.tif", None),  # before Sentinel-2
        ("number_120230613.tif", None),
    ],
)
def test_dates_in_names(name, moment):
    assert acquired_in_name({}, name) == moment
    assert type(acquired_in_name({}, name)) is type(moment)


@pytest.mark.parametrize(
    ("tags", "moment"),
    [
        ({"acquired": "2023-06-13"}, date(2023, 6, 13)),
        ({"acquired": "2023-06-13T10:20:31.024Z"}, datetime(2023, 6, 13, 10, 20, 31, 24000, UTC)),
        ({"acquisitiondatetime": "2023-06-13 10:20:31"}, datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC)),
        ({"product_start_time": "2023-06-13T10:20:31Z"}, datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC)),
        ({"acquisition_date": "unknown"}, None),
        ({"tifftag_datetime": "2023:06:13 10:20:31"}, None),  # of the file, not of the scene
    ],
)
def test_times_in_tags(tags, moment):
    assert acquired_in_name(tags, "scene.tif") == moment


def test_the_baseline_is_in_the_name_or_a_tag():
    assert baseline_in_name({}, "S2A_MSIL2A_20230804T021351_N0509_R060_T51MUP_20230804T052642") == "05.09"
    assert baseline_in_name({"processing_baseline": "04.00"}, "scene") == "04.00"
    assert baseline_in_name({}, "scene") is None


def test_a_tag_that_is_no_time_is_ignored_with_a_word(caplog):
    assert acquired_in_name({"acquired": "last June"}, "scene_20230613.tif") == date(2023, 6, 13)
    assert "'last June'. Give the time with --acquired" in caplog.text


def test_the_start_of_a_datastrip_and_the_time_of_processing_are_in_names():
    old = "S2B_OPER_MSI_L2A_DS_EPAE_20200401T220155_S20200401T175716_N02.14"
    new = "S2B_OPER_MSI_L2A_DS_S2RP_20230624T053545_S20200401T175716_N05.00"
    assert naming.datastrip_start(old) == naming.datastrip_start("", new) == "20200401T175716"
    assert naming.datastrip_start("S2B_MSIL2A_20200401T174909") is None
    uri = "S2B_MSIL2A_20200401T174909_N0500_R141_T13SDV_20230624T053545.SAFE"
    assert naming.processed_in_name(uri) == datetime(2023, 6, 24, 5, 35, 45, tzinfo=UTC)
    assert naming.processed_in_name("S2B_13SDV_20200401_1_L2A") is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60.250Z", datetime(2017, 1, 1, 0, 0, 0, 250_000, UTC)),
        ("2017-01-01T00:59:60+01:00", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2023-06-13T24:00:00Z", datetime(2023, 6, 14, tzinfo=UTC)),
        ("2023-06-30T24:00", datetime(2023, 7, 1, tzinfo=UTC)),
        ("20230613T240000Z", datetime(2023, 6, 14, tzinfo=UTC)),
        ("2023-06-13T10:20:31.123456789012Z", datetime(2023, 6, 13, 10, 20, 31, 123_456, UTC)),
        ("2023-06-13t10:20:31z", datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC)),
        ("2023-06-13T10:20:31-14:00", datetime(2023, 6, 14, 0, 20, 31, tzinfo=UTC)),
        (" 2023-06-13T10:20:31,5+0530 ", datetime(2023, 6, 13, 4, 50, 31, 500_000, UTC)),
        ("1900-01-01", date(1900, 1, 1)),
    ],
)
def test_times_as_iso_8601_allows_them(text, moment):
    assert naming.parse_time(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T24:00",
        "9999-12-31T23:59:60",
        "9999-12-31",
        "0001-01-01",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "1899-12-31",
        "2200-01-01",
        "1900-01-01T00:00:00+01:00",
        "2023-06-13T24:01",
        "2023-06-13T10:20:60Z",
        "2023-06-13T10:20:31+99:00",
        "2023-06-31",
        "",
        "NaT",
        None,
        20230613,
        ["2023-06-13"],
        "2023-06-13T10:20:31" + "0" * 100_000,
    ],
)
def test_what_is_no_time_or_at_the_edge_of_the_calendar_is_an_error_of_metadata(text):
    with pytest.raises(
        MetadataError, match=r"Not an ISO 8601 time of acquisition from 1900 to 2199"
    ) as error:
        naming.parse_time(text)
    assert len(str(error.value)) < 200
    assert naming.time_or_none(text) is None


def test_a_tag_at_the_edge_of_the_calendar_is_ignored_with_a_warning(caplog):
    tags = {"acquired": "0001-01-01T00:00:00+14:00"}
    assert acquired_in_name(tags, "scene_20230613.tif") == date(2023, 6, 13)
    assert "the tag acquired is ignored" in caplog.text
