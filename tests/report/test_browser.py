"""The report as people use it: Debian's Chromium, network off, with mouse, keyboard and a phone's screen."""

import shutil
import zlib
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import LineString, box

from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation
from pipeline.evaluation.trucks.scores import evaluate_trucks
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.report.chips import case_chips
from pipeline.report.page import ReportContext, write_report
from pipeline.report.pictures import quicklook
from pipeline.scenes.readers.geotiff import open_geotiff
from tests.conftest import write_geotiff
from tests.evaluation.trucks.test_scores import boxes, labels
from tests.report.test_page import evaluation_of, write_run_page

DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'truckscape[dev]'")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium: apt install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A scene of 1200 x 900 m with everything that a report can show beside it."""
    folder = tmp_path_factory.mktemp("scene")
    numbers = np.random.default_rng(0).integers(300, 2500, (4, 90, 120), dtype=np.uint16)
    scene = open_geotiff(write_geotiff(folder / "scene.tif", numbers))
    at = box(600_000, 5_799_100, 600_300, 5_800_000)
    not_seen = gpd.GeoDataFrame({"reason": ["cloud"], "area_m2": [at.area]}, geometry=[at], crs=32632)
    roads = gpd.GeoDataFrame(
        {
            "road_id": ["w1"], "road_class": ["motorway"], "ref": ["A 2"], "name": [None],
            "length_m": [1200.0], "azimuth_deg": [90.0], "seen_km": [0.9], "trucks_per_km": [3.2],
            "count": [3], "count_forward": [1], "count_backward": [2], "flow_per_hour": [256.0],
            "flow_low": [60.0], "flow_high": [800.0], "flow_forward": [85.0], "flow_backward": [171.0],
        },
        geometry=[LineString([(600_000, 5_799_500), (601_200, 5_799_500)])],
        crs=32632,
    )  # fmt: skip
    return ReportContext(
        "A scene", scene, quicklook(scene), seen_fraction=0.75, not_seen=not_seen, road_segments=roads
    )


@pytest.fixture(scope="module")
def report(context, tmp_path_factory):
    """Of six detections two are false alarms, and two of six labels were missed."""
    places = [(100 * i, -450) for i in range(4, 12)]
    found = boxes(*places[:6], score=[0.95, 0.9, 0.8, 0.7, 0.6, 0.5], id=list("abcdef"), speed_kmh=[80.0] * 6)
    evaluation = evaluate_trucks(found, labels(*places[2:]))
    counts = np.zeros((9, 9), np.int64)
    counts[0, :2], counts[1, 1] = (3, 1), 6
    path = tmp_path_factory.mktemp("report") / "report.html"
    landcover = LandcoverEvaluation(DYNAMIC_WORLD, counts, 100.0)
    compared = evaluation_of(evaluation, landcover)
    chips = dict(case_chips(context.scene, compared.truck_cases, found, evaluation.reference))
    write_report([path], context, compared, chips)
    return path


@pytest.fixture
def opened(chromium, request):
    """Opens a page from `file://` without network; fails the test if the console tells of an error."""
    said, contexts = [], []

    def open_page(path, size=DESKTOP, **settings):
        made = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, offline=True, reduced_motion="reduce", **settings
        )
        contexts.append(made)
        page = made.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda sent: said.append(sent.url) if sent.url.startswith("http") else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for made in contexts:
        made.close()
    assert said == []


def rows(page):
    return page.locator("#case-table tbody tr")


def drawn(page):
    """Waits until what was changed is drawn: filters act with the next frame, the canvas after it."""
    for _ in range(3):
        page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


def in_gallery(page):
    return page.locator("#gallery [data-case]:visible")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_it_opens_without_network_and_nothing_is_wider_than_the_screen(opened, report, size):
    page = opened(report, size)
    assert page.locator(".leaflet-image-layer").evaluate("image => image.naturalWidth") > 0
    assert page.locator("#shown").inner_text().startswith("8 of 8 cases are shown")
    assert rows(page).count() == 8
    assert in_gallery(page).count() == 8
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    texts = page.locator("h1, h2, h3, p, .figures li")
    assert not any(texts.evaluate_all("all => all.map(text => text.scrollWidth > text.clientWidth + 1)"))


def test_filters_act_on_map_gallery_and_table(opened, report):
    page = opened(report)
    before = map_pixels(page)
    page.get_by_label("found (4)").uncheck()
    drawn(page)
    assert page.locator("#shown").inner_text().startswith("4 of 8")
    assert rows(page).count() == in_gallery(page).count() == 4
    assert map_pixels(page) != before
    page.get_by_label("false alarm (2)").uncheck()
    page.get_by_label("missed (2)").uncheck()
    drawn(page)
    assert rows(page).count() == in_gallery(page).count() == 0
    page.get_by_role("button", name="Reset filters").click()
    drawn(page)
    assert rows(page).count() == in_gallery(page).count() == 8


def test_the_score_slider_keeps_what_has_no_score(opened, report):
    """From 0.90 on: two false alarms, and the two missed ones, which have no score."""
    page = opened(report)
    page.get_by_label("Score from").evaluate(
        "slider => { slider.value = 0.9; slider.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    drawn(page)
    assert rows(page).count() == in_gallery(page).count() == 4
    assert "2 of them have no score" in page.locator("#shown").inner_text()


def test_only_one_cause(opened, report):
    page = opened(report)
    causes = page.locator("#cause option").evaluate_all("options => options.map(option => option.value)")
    page.locator("#cause").select_option(causes[1])
    drawn(page)
    named = page.locator("#case-table tbody tr td:nth-child(3)").all_inner_texts()
    assert set(named) == {causes[1]}


def test_the_gallery_fills_up_with_other_cases_that_pass(opened, context, tmp_path):
    """Of 60 found trucks 24 stand in the gallery; of the 30 with the upper scores, again 24."""
    places = [(20 * i + 5, -450) for i in range(60)]
    found = boxes(*places, score=np.linspace(0.5, 1, 60), id=[f"t{i}" for i in range(60)])
    evaluation = evaluation_of(evaluate_trucks(found, labels(*places)))
    chips = dict(case_chips(context.scene, evaluation.truck_cases))
    write_report([tmp_path / "r.html"], context, evaluation, chips)
    page = opened(tmp_path / "r.html")
    assert in_gallery(page).count() == 24
    page.get_by_label("Score from").evaluate(
        "slider => { slider.value = 0.75; slider.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    drawn(page)
    assert in_gallery(page).count() == 24
    in_gallery(page).last.get_by_role("button").click()
    assert page.locator("#case h3").inner_text() == "Found, score 1.00"
    page.get_by_role("button", name="Show all 30 pictures").click()
    assert in_gallery(page).count() == 30
    assert page.locator("#gallery .more").is_hidden()


def test_places_rightly_left_out_are_hidden_at_first(opened, context, tmp_path):
    evaluation = evaluation_of(
        evaluate_trucks(boxes((400, -450), score=[0.9], id=["a"]), labels((400, -450)))
    )
    left_out = evaluation.truck_cases.assign(id="TN-1", outcome="TN", score=np.nan)
    cases = pd.concat([evaluation.truck_cases, left_out], ignore_index=True)
    chips = dict(case_chips(context.scene, cases))
    write_report([tmp_path / "r.html"], context, replace(evaluation, truck_cases=cases), chips)
    page = opened(tmp_path / "r.html")
    assert rows(page).count() == in_gallery(page).count() == 1
    page.get_by_label("rightly left out (1)").check()
    drawn(page)
    assert rows(page).count() == in_gallery(page).count() == 2
    page.get_by_role("button", name="Reset filters").click()
    drawn(page)
    assert rows(page).count() == in_gallery(page).count() == 1


def test_headings_are_arrows_and_axes_are_not(opened, context, tmp_path):
    drawings = set()
    for heading, axis in ((45.0, 45.0), (225.0, 45.0), (None, 45.0), (None, None)):
        truck = boxes((500, -450), score=[0.9], id=["a"]).assign(heading_deg=heading, axis_deg=axis)
        write_run_page(tmp_path / "run.html", context, truck)
        page = opened(tmp_path / "run.html")
        drawings.add(map_pixels(page))
        assert ("An arrow is a heading" in page.locator("#place").inner_text()) == (axis is not None)
    assert len(drawings) == 4


def test_a_road_says_its_traffic_when_it_is_clicked(opened, context, tmp_path):
    write_run_page(tmp_path / "run.html", context, boxes((500, -450), score=[0.9], id=["a"]))
    page = opened(tmp_path / "run.html")
    page.locator("#map").scroll_into_view_if_needed()
    image = page.locator(".leaflet-image-layer").bounding_box()
    page.mouse.click(image["x"] + 0.9 * image["width"], image["y"] + 500 / 900 * image["height"])
    said = page.locator(".leaflet-popup").inner_text()
    assert "A 2" in said and "256 trucks per hour (95 %: 60 to 800)" in said
    assert "towards east" in said
    page.keyboard.press("Escape")
    assert page.locator(".leaflet-popup").count() == 0


def test_a_case_opens_by_click_on_the_map(opened, report):
    page = opened(report)
    # Opened from the table, a case comes into the middle of the map, and stays there when it is closed.
    page.locator("#case-table tbody button").first.click()
    page.keyboard.press("Escape")
    assert page.locator("#case").is_hidden()
    drawn(page)
    page.locator("#map").click()
    page.locator("#case").wait_for(state="visible", timeout=5000)
    assert page.locator("#case h3").inner_text() == "False alarm, score 0.95"
    assert page.locator("#case img").evaluate("image => image.naturalWidth") > 0
    assert "Likely cause" in page.locator("#case").inner_text()


def test_a_case_opens_by_keyboard_and_gives_the_focus_back(opened, report):
    page = opened(report)
    first = page.locator("#gallery [data-case] button").first
    first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "case"
    title = page.locator("#case h3").inner_text()
    page.keyboard.press("Tab")  # Previous is disabled for the first
    assert page.evaluate("document.activeElement.textContent") == "Next"
    page.keyboard.press("Enter")
    assert page.locator("#case h3").inner_text() != title
    page.keyboard.press("Escape")
    assert page.locator("#case").is_hidden()
    assert first.evaluate("button => button === document.activeElement")


def test_tables_sort_both_ways_and_say_so(opened, report):
    page = opened(report)
    score = page.locator("#case-table thead th", has_text="score")
    column = "#case-table tbody tr td:nth-child(4)"
    score.get_by_role("button").click()
    assert score.get_attribute("aria-sort") == "descending"
    falling = page.locator(column).all_inner_texts()
    assert falling == ["0.95", "0.90", "0.80", "0.70", "0.60", "0.50", "", ""]
    score.get_by_role("button").press("Enter")
    assert score.get_attribute("aria-sort") == "ascending"
    assert page.locator(column).all_inner_texts() == [*reversed(falling[:6]), "", ""]
    static = page.locator("[aria-labelledby=classes-title] table")
    static.get_by_role("button", name="labelled, ha").click()
    assert static.locator("tbody th").all_inner_texts() == ["trees", "water"]


def test_layers_are_switched_on_and_off(opened, context, tmp_path):
    write_run_page(tmp_path / "run.html", context, boxes((500, -450), score=[0.9], id=["a"]))
    page = opened(tmp_path / "run.html")
    images = page.locator(".leaflet-image-layer")
    assert images.count() == 1
    before = map_pixels(page)
    page.get_by_role("checkbox", name="not searched").check()
    assert images.count() == 2
    page.get_by_role("checkbox", name="roads by trucks").uncheck()
    drawn(page)
    assert map_pixels(page) != before
    assert "1 moving truck found" in page.locator("#found").inner_text()


def test_ten_thousand_trucks_are_on_the_map_and_the_table_grows_on_demand(opened, context, tmp_path):
    places = np.random.default_rng(0).uniform([0, -900], [1200, 0], (10_184, 2))
    trucks = boxes(*places.tolist(), score=np.linspace(0.5, 1, len(places)))
    trucks["id"] = [f"t{i}" for i in range(len(places))]
    write_run_page(tmp_path / "run.html", context, trucks)
    assert (tmp_path / "run.html").stat().st_size < 3e6
    page = opened(tmp_path / "run.html")
    assert page.locator("#shown").inner_text() == "10,184 of 10,184 cases are shown."
    assert rows(page).count() == 25
    page.get_by_role("button", name="Show 100 more of 10,159").click()
    assert rows(page).count() == 125


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_axe_finds_nothing_that_keeps_people_out(opened, report, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = opened(report, size, bypass_csp=True)
    page.locator("#case-table tbody button").first.click()
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found] == []


def test_a_printed_page_holds_all_that_is_wide(opened, report):
    page = opened(report, (718, 1000))  # A4 without its margins
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.locator("#filters").is_hidden()
    assert page.locator("nav").is_hidden()


def test_without_javascript_all_but_the_map_is_there(opened, report):
    page = opened(report, java_script_enabled=False)
    text = page.locator("main").inner_text()
    assert "Of 6 labelled trucks in the search area, 4 were found" in text
    assert "need JavaScript" in text
    assert page.locator("#gallery img").count() == 8


def map_pixels(page):
    """The canvas of the map's features, as a checksum."""
    return zlib.crc32(page.locator("#map canvas").evaluate("canvas => canvas.toDataURL()").encode())
