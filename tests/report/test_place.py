"""The page of a place: without network, complete, and as Chromium shows it."""

import json
import re

import pytest

from pipeline.report.place import write_index
from pipeline.traffic.place import read_place
from tests.report.test_browser import DESKTOP, PHONE, chromium, opened
from tests.report.test_page import Page, external
from tests.traffic.finished_runs import named, write_run
from tests.traffic.test_area import without_roads
from tests.traffic.test_summary import DATES, runs
from tests.traffic.test_table import A2, FOUND

__all__ = ["chromium", "opened"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    out = tmp_path_factory.mktemp("place")
    runs(out)
    (out / DATES[0] / "report.html").write_text("a report")
    (out / "traffic.csv").write_text("a table")
    return write_index(read_place([out], keep_recurring=True), out, {"traffic.csv": out / "traffic.csv"})


def test_the_page_needs_no_network_and_links_to_reports(index):
    page = Page(index)
    assert external(page) == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    text = index.read_text(encoding="utf-8")
    assert f'href="{DATES[0]}/report.html"' in text
    assert f'href="{DATES[1]}/report.html"' not in text
    assert 'href="traffic.csv"' in text
    assert "The MIT License" in text and "BSD 2-Clause" in text
    assert "75.0 %" in page.text and "10.0 %" in page.text and "15.0 %" in page.text


@pytest.fixture(scope="module")
def area_index(tmp_path_factory):
    out = without_roads(tmp_path_factory.mktemp("area"), [FOUND.iloc[:n] for n in (1, 1, 1, 4)])
    return write_index(read_place([out]), out, {})


def test_a_page_without_roads_says_what_would_bring_them(area_index):
    page = Page(area_index)
    assert external(page) == [] and page.open == []
    assert "--roads overpass" in page.text
    assert "80.0 %" in page.text and "4 of 4" in page.text
    assert "traffic.xlsx" not in page.text and "Roads by date" not in page.text


def test_lines_keep_their_place(index):
    data = json.loads(Page(index).scripts["place-data"])
    (road,) = data["roads"]
    _, _, *steps = road["lines"][0]
    assert len(road["lines"]) == 2
    assert abs(sum(steps[::2])) * 1e-5 == pytest.approx(3000 / (111_320 * 0.61), rel=0.05)
    assert data["dates"] == list(DATES)


@pytest.mark.parametrize(("name", "shown"), [("Motorway A 2", "A 2"), ("Road to A 20", "A 2, Road to A 20")])
def test_a_name_that_ends_with_the_number_says_nothing_new(tmp_path, name, shown):
    write_run(tmp_path / "a", named(A2.copy(), name=name), FOUND)
    text = write_index(read_place([tmp_path]), tmp_path, {}).read_text(encoding="utf-8")
    assert text.count(f'<th scope="row">{shown}</th>') == 2


def test_names_are_never_markup(tmp_path):
    write_run(tmp_path / "a", named(A2.copy(), "</script><b>"), FOUND)
    page = write_index(read_place([tmp_path]), tmp_path, {})
    assert "<b>" not in re.sub(r"<li[^>]*><b>", "", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_it_opens_and_a_road_can_be_chosen(opened, index, size):
    page = opened(index, size)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.locator("#chart canvas").count() == 1
    page.locator("#road").select_option("A 2")
    assert "searched on 3 dates" in page.locator("#said").inner_text()
    assert page.locator("#date-table tbody tr").count() == 2
    page.locator("#pair").select_option("1")
    assert "Saturday and Sunday" in page.locator("#changed").inner_text()


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_page_without_roads_shows_detections_by_date(opened, area_index, size):
    page = opened(area_index, size)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.locator("#map-date option").count() == 5
    page.locator("#map-date").select_option("2")
    assert page.locator("#chart canvas").count() == 1
    assert "differ" in page.locator("#changed").inner_text()


@pytest.mark.parametrize("page", ["index", "area_index"])
def test_axe_finds_nothing_that_keeps_people_out(opened, page, request):
    index = request.getfixturevalue(page)
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(opened(index, bypass_csp=True)).response["violations"]
    assert [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found] == []


def test_a_printed_page_holds_all_that_is_wide(opened, index):
    page = opened(index, (718, 1000))
    page.emulate_media(media="print")
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.locator("nav").is_hidden()


def test_without_javascript_the_tables_are_there(opened, index):
    page = opened(index, java_script_enabled=False)
    assert page.locator("#roads tbody tr").count() == 2
    assert page.locator("#acquisitions tbody tr").count() == 3
    assert page.locator("#chart").is_hidden()
