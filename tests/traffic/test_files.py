"""Files of the table: read back by other programs, with numbers as numbers and dates as dates."""

import shutil
import subprocess
from datetime import date, datetime

import duckdb
import geopandas as gpd
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.storage.out_folder import TRAFFIC_CSV, TRAFFIC_ROADS, TRAFFIC_XLSX
from pipeline.traffic import files
from pipeline.traffic.files import write_traffic_files
from pipeline.traffic.table import SUMMARY_FIELDS, TABLE_FIELDS, traffic_of
from tests.roads.test_segments import line, roads
from tests.traffic.finished_runs import named, trucks, write_run
from tests.traffic.test_table import A2, FOUND

PLAIN = named(roads(line((0, 0), (2000, 0))), name="=1+1 Straße")


@pytest.fixture
def written(tmp_path):
    """Two places, of which the second has no time, no cloud mask and no truck."""
    write_run(tmp_path / "a" / "x", A2, FOUND, unseen=[1000, 0, 3000], cloud=[1000, 0, 3000])
    write_run(tmp_path / "a" / "y", A2, FOUND.iloc[:1], acquired="2023-06-18T10:20:31.250000+00:00")
    write_run(tmp_path / "b" / "z", PLAIN, trucks([]), acquired=None, simulated=True)
    for place in "ab":
        found = traffic_of([tmp_path / place])
        write_traffic_files(found, tmp_path / f"out-{place}")
        assert found.scenes == (2 if place == "a" else 1)
    return tmp_path


def test_the_files_of_all_places_are_one_table(written):
    paths = [str(written / f"out-{place}" / TRAFFIC_ROADS) for place in "ab"]
    schemas = [pq.read_schema(path).remove_metadata() for path in paths]
    assert schemas[0] == schemas[1]
    for name, (kind, _) in TABLE_FIELDS.items():
        assert schemas[0].field(name).type == kind, name
    whole = pd.read_parquet(paths)
    assert len(whole) == 6
    assert whole["trucks"].sum() == 4
    together = duckdb.read_parquet(paths).filter("road = 'A 2'")
    rows = together.aggregate("direction, sum(trucks), max(date), bool_or(simulated)").order("direction")
    rows = rows.fetchall()
    assert rows == [("E", 4.0, date(2023, 6, 18), False), ("W", 0.0, date(2023, 6, 18), False)]
    lines = gpd.read_parquet(paths[0])
    assert lines.crs == "EPSG:4326"
    metres = lines.to_crs("EPSG:32632").length
    np.testing.assert_allclose(metres, 3000, atol=1)


def test_the_workbook(written):
    book = openpyxl.load_workbook(written / "out-a" / TRAFFIC_XLSX)
    assert book.sheetnames == ["by road and date", "by road", "read me"]
    sheet = book["by road and date"]
    header, *rows = sheet.iter_rows(values_only=True)
    assert header == tuple(TABLE_FIELDS)
    first = dict(zip(header, rows[0], strict=True))
    assert first["acquired"] == datetime(2023, 6, 13, 10, 20, 31)
    assert first["local_time"] == datetime(2023, 6, 13, 12, 20, 31)
    assert first["date"] == datetime(2023, 6, 13)
    assert sheet.cell(2, header.index("date") + 1).number_format == "yyyy-mm-dd"
    assert (first["trucks"], first["seen_km"], first["congested"]) == (3, 2, False)
    hidden = dict(zip(header, rows[2], strict=True))
    assert (hidden["direction"], hidden["trucks"], hidden["congested"]) == ("W", None, None)
    assert sheet.freeze_panes == "B2"
    assert sheet.column_dimensions["A"].width > 4
    assert [cell.value for cell in book["by road"][1]] == list(SUMMARY_FIELDS)
    about = [row[0] for row in book["read me"].iter_rows(values_only=True)]
    assert set(TABLE_FIELDS) <= set(about)
    assert all(cell.font.bold for cell in sheet[1])


def test_names_are_no_formulas(written):
    book = openpyxl.load_workbook(written / "out-b" / TRAFFIC_XLSX)
    cell = book["by road and date"]["A2"]
    assert (cell.value, cell.data_type) == ("=1+1 Straße 0-0", "s") or cell.data_type == "inlineStr"
    text = (written / "out-b" / TRAFFIC_CSV).read_text(encoding="utf-8-sig")
    assert text.splitlines()[1].startswith("'=1+1 Straße 0-0,")


def test_the_csv(written):
    """Numbers and dates of the CSV are those of the GeoParquet file."""
    times = ["acquired", "date", "local_time"]
    back = pd.read_csv(written / "out-a" / TRAFFIC_CSV, parse_dates=times)
    whole = pd.read_parquet(written / "out-a" / TRAFFIC_ROADS)
    for name in ("trucks", "expected_low", "flow_per_hour", "cloud_share"):
        np.testing.assert_allclose(back[name], whole[name])
    assert back["local_time"].dt.hour.tolist() == [12] * 4
    assert back["congested"].tolist()[0] is False
    given = duckdb.read_csv(str(written / "out-a" / TRAFFIC_CSV))
    kinds = dict(zip(given.columns, map(str, given.types), strict=True))
    assert [kinds[name] for name in times] == ["TIMESTAMP", "DATE", "TIMESTAMP"]
    assert [kinds[name] for name in ("trucks", "congested")] == ["DOUBLE", "BOOLEAN"]


@pytest.fixture(scope="module")
def calc(tmp_path_factory):
    """Return a function that opens a table in LibreOffice Calc, and returns its rows as Calc saved them."""
    program = shutil.which("soffice")
    if program is None:
        pytest.skip("needs LibreOffice: apt install libreoffice-calc")
    home = tmp_path_factory.mktemp("calc")

    def opened(path, sheet=None, *options):
        line = [program, f"-env:UserInstallation={(home / 'profile').as_uri()}", "--headless", *options]
        line += ["--convert-to", "xlsx:Calc MS Excel 2007 XML", "--outdir", str(home), str(path)]
        subprocess.run(line, check=True, capture_output=True, timeout=240)
        book = openpyxl.load_workbook(home / f"{path.stem}.xlsx", data_only=True)  # flags are formulas there
        header, *rows = (book[sheet] if sheet else book.active).iter_rows(values_only=True)
        return pd.DataFrame(rows, columns=header, dtype=object)

    return opened


@pytest.mark.parametrize("name", [TRAFFIC_XLSX, TRAFFIC_CSV])
def test_calc_shows_numbers_as_numbers_and_dates_as_dates(written, calc, name):
    """The CSV as in Calc's dialog with UTF-8 and "Detect special numbers"."""
    csv = "--infilter=Text - txt - csv (StarCalc):44,34,76,1,,0,false,true"
    table = calc(written / "out-a" / name, *(["by road and date"] if name == TRAFFIC_XLSX else [None, csv]))
    whole = pd.read_parquet(written / "out-a" / TRAFFIC_ROADS)
    assert table.columns.tolist() == list(TABLE_FIELDS)
    for column, (kind, _) in TABLE_FIELDS.items():
        shown = [value for value in table[column] if value is not None]
        if pa.types.is_floating(kind):
            assert all(type(value) in (int, float) for value in shown), column
            np.testing.assert_allclose(table[column].astype(float), whole[column].astype(float))
        elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            expected = pd.to_datetime(whole[column]).dt.tz_localize(None).dt.floor("s").tolist()
            assert [pd.Timestamp(value).round("s") for value in shown] == expected, column
            assert all(isinstance(value, datetime) for value in shown), column
        elif pa.types.is_boolean(kind):
            assert {type(value) for value in shown} <= {bool}, column
        else:
            assert shown == whole[column].dropna().tolist(), column


def test_the_same_runs_make_the_same_bytes(written):
    write_traffic_files(traffic_of([written / "a"]), written / "again")
    for name in (TRAFFIC_CSV, TRAFFIC_XLSX, TRAFFIC_ROADS):
        assert (written / "again" / name).read_bytes() == (written / "out-a" / name).read_bytes(), name


def test_a_sheet_that_is_too_short_is_a_warning(written, monkeypatch, caplog):
    monkeypatch.setattr(files, "_MOST_ROWS", 3)
    write_traffic_files(traffic_of([written / "a"]), written / "short")
    book = openpyxl.load_workbook(written / "short" / TRAFFIC_XLSX)
    assert book["by road and date"].max_row == 4
    assert "3 of 4 rows" in caplog.text
