import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from shapely.geometry import box

from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.labels import read_truck_labels
from pipeline.evaluation.trucks.cases import cause_metrics, truck_cases
from pipeline.evaluation.trucks.metrics import truck_metrics
from pipeline.evaluation.trucks.scores import evaluate_trucks
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.report.cases import case_styles
from pipeline.report.chips import case_chips
from pipeline.report.gallery import truck_chips
from pipeline.report.page import ReportContext, write_report
from pipeline.report.pictures import quicklook
from pipeline.scenes.readers.geotiff import open_geotiff
from tests.evaluation.test_labels import GRID
from tests.evaluation.trucks.test_scores import boxes, labels

FIGURES = ("trucks", "expected", "expected_low", "expected_high", "flow_per_hour", "flow_low", "flow_high")
"""Columns of a table of traffic by road."""


def evaluation_of(trucks, landcover=None):
    cases = truck_cases(trucks)
    metrics = {"trucks": truck_metrics(trucks) | {"causes": cause_metrics(cases)}}
    if landcover is not None:
        metrics["landcover"] = landcover.metrics()
    return Evaluation(metrics, trucks, cases, landcover)


def write_run_page(path, context, trucks):
    """A run without labels: with the chips that `run` draws."""
    chips = {} if trucks is None or context.scene is None else truck_chips(context.scene, trucks)
    write_report([path], replace(context, trucks=trucks), chips=chips)


class Page(HTMLParser):
    """A page taken apart: what it would load, its sections, its texts, and whether its tags are closed."""

    VOID = ("meta", "link", "img", "br", "hr", "input", "wbr")

    def __init__(self, path):
        super().__init__()
        self.loads, self.ids, self.chips, self.open, self.text = [], [], 0, [], ""
        self.scripts: dict[str, str] = {}
        self.script = None
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.leaflet = next((text for text in self.scripts.values() if "Leaflet 1.9" in text), "")

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.chips += "data-case" in attributes
        self.ids += [attributes["id"]] if "id" in attributes else []
        for name in ("src", "srcset", "poster", "data") + (() if tag == "a" else ("href", "xlink:href")):
            if name in attributes:
                self.loads.append(attributes[name])
        if tag == "script":
            self.script = attributes.get("id", f"script{len(self.scripts)}")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.script = None

    def handle_data(self, data):
        if self.script:
            self.scripts[self.script] = self.scripts.get(self.script, "") + data
        elif self.open and self.open[-1] == "style":
            self.loads += re.findall(r"url\(([^)#]*)\)|@import\s+(\S+)", data)[0:]
        else:
            self.text += data


def external(page):
    targets = ["".join(item) for item in page.loads]
    return [item for item in targets if item and not item.startswith(("#", "data:", "none"))]


@pytest.fixture
def a2(shared_data):
    scene = open_geotiff(shared_data / "trucks" / "a2_braunschweig.tif")
    reference = read_truck_labels(shared_data / "trucks" / "a2_braunschweig_trucks.gpkg")
    return ReportContext("A2", scene=scene, picture=quicklook(scene)), reference


def found_on_a2(reference):
    """Made-up detections: the labels of the A2 without the first, and one more in a field."""
    places = [*reference.geometry[1:], reference.geometry[0].buffer(0).envelope]
    frame = gpd.GeoDataFrame(
        {"score": np.linspace(0.5, 0.9, len(places))}, geometry=places, crs=reference.crs
    )
    frame.geometry = [*frame.geometry[:-1], box(602_000, 5_797_800, 602_040, 5_797_830)]
    return frame.assign(id=[f"<t&{i}>" for i in range(len(places))], heading_deg=109.0, speed_kmh=80.0)


def test_a_report_loads_nothing_and_its_map_has_every_case(a2, tmp_path):
    context, reference = a2
    trucks = evaluate_trucks(found_on_a2(reference), reference)
    evaluation = evaluation_of(trucks)
    chips = dict(case_chips(context.scene, evaluation.truck_cases, trucks.predicted, trucks.reference))
    write_report([tmp_path / "report.html"], context, evaluation, chips)
    page = Page(tmp_path / "report.html")
    assert external(page) == []
    assert page.open == []
    assert "sourceMappingURL" not in page.leaflet
    assert "BSD 2-Clause" in page.leaflet
    cases = json.loads(page.scripts["case-data"])
    shown = Counter(cases["kinds"][number]["name"] for number in cases["kind"])
    assert shown == {"found": 16, "false alarm": 1, "missed": 1, "uncertain label, not counted": 2}
    assert page.chips == 18
    assert len(page.ids) == len(set(page.ids))
    assert {"trucks", "map", "scores", "gallery"} <= set(page.ids)
    assert "Of 17 labelled trucks in the search area, 16 were found (94.1 %)" in page.text
    data = json.loads(page.scripts["map-data"])
    south, west = data["images"][0]["image"]["south_west"]
    north, east = data["images"][0]["image"]["north_east"]
    lon, lat = reference.to_crs(4326).geometry[0].centroid.coords[0]
    assert south < lat < north and west < lon < east


def test_what_the_data_say_is_never_taken_for_markup(a2, tmp_path):
    context, reference = a2
    evaluation = evaluation_of(evaluate_trucks(found_on_a2(reference), reference))
    titled = replace(context, title="<script>alert(1)</script>")
    write_report([tmp_path / "r.html"], titled, evaluation)
    text = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in text
    assert "<t&0>" not in text
    facts = json.loads(Page(tmp_path / "r.html").scripts["case-data"])["facts"]
    ids = next(fact for fact in facts if fact["name"] == "prediction id")
    assert "<t&0>" in ids.get("names", ids.get("values"))


def test_a_run_without_labels(a2, tmp_path):
    context, reference = a2
    not_seen = gpd.GeoDataFrame(
        {"reason": ["no_road"], "area_m2": [2e6]},
        geometry=[box(601_200, 5_797_400, 601_300, 5_797_500)],
        crs=32632,
    )
    card = Card(
        id="trucks",
        version="1",
        task="detection",
        architecture="faster_rcnn",
        bands=("B02",),
        mean=(0.1,),
        std=(0.1,),
        classes=(),
        halo=64,
        stride=8,
        quality={"recall": 0.91, "A2": {"f1_20m": 0.95}},
        limitations=("parked trucks are not found",),
    )
    context = replace(context, seen_fraction=0.25, not_seen=not_seen, cards=(card,))
    write_run_page(tmp_path / "report.html", context, found_on_a2(reference))
    page = Page(tmp_path / "report.html")
    assert external(page) == []
    assert {"found", "gallery", "not-seen", "models"} <= set(page.ids)
    assert "trucks" not in page.ids and "simulated" not in page.ids
    assert "19 moving trucks found in 25.0 % of the scene" in page.text
    assert "parked trucks are not found" in page.text
    assert "recall: 0.91" in page.text and "A2: f1 20m 0.95" in page.text
    assert "Contains modified Copernicus Sentinel data" in page.text


def test_a_run_with_labels_has_one_page_in_two_places(a2, tmp_path):
    """It says what was found and how that compares; its links lead from both places to the same files."""
    context, reference = a2
    found = found_on_a2(reference)
    evaluation = evaluation_of(evaluate_trucks(found, reference))
    (tmp_path / "evaluation").mkdir()
    files = {"trucks.gpkg": tmp_path / "trucks.gpkg"}
    context = replace(context, trucks=found, folder=tmp_path, files=files)
    pages = [tmp_path / "report.html", tmp_path / "evaluation" / "report.html"]
    write_report(pages, context, evaluation)
    here, there = (page.read_text() for page in pages)
    assert 'href="trucks.gpkg"' in here and 'href="../trucks.gpkg"' in there
    assert 'href="evaluation/metrics.json"' in here and 'href="metrics.json"' in there
    assert here.replace('href="evaluation/', 'href="') == there.replace('href="../', 'href="')
    page = Page(pages[0])
    assert {"found", "trucks", "files"} <= set(page.ids)
    assert "19 moving trucks found" in page.text and "16 were found (94.1 %)" in page.text
    facts = {fact["name"] for fact in json.loads(page.scripts["case-data"])["facts"]}
    assert "heading" in facts


def test_detections_that_share_an_id_get_no_direction_of_each_other(a2, tmp_path):
    _, reference = a2
    found = found_on_a2(reference)
    found.loc[:1, "id"] = "twice"
    cases = evaluation_of(evaluate_trucks(found, reference))
    write_report([tmp_path / "r.html"], ReportContext("ids"), cases)
    data = json.loads(Page(tmp_path / "r.html").scripts["case-data"])
    known = sum(bearing is not None for bearing in data["bearings"])
    assert known == len(found) - 2


def test_a_page_says_of_how_many_trucks_it_has_no_picture(a2, tmp_path):
    context, reference = a2
    trucks = found_on_a2(reference)
    chips = truck_chips(context.scene, trucks.iloc[5:])
    write_report([tmp_path / "r.html"], replace(context, trucks=trucks), chips=chips)
    text = " ".join(Page(tmp_path / "r.html").text.split())
    assert "pictures of 14, those with the highest scores; 5 have none" in text


def test_traffic_by_road_is_a_table(tmp_path):
    table = pd.DataFrame(
        {
            **{name: ["<A 2>"] for name in ("ref", "name", "road_class", "direction")},
            **{name: [1234.5] for name in FIGURES},
            "mean_speed_kmh": [None],
            "seen_km": [3.25],
        }
    )
    write_report([tmp_path / "r.html"], ReportContext("roads", road_traffic=table))
    page = Page(tmp_path / "r.html")
    assert "roads" in page.ids and page.open == []
    assert "<A 2>" in page.text and "1,234.5 to 1,234.5" in page.text and "n/a" in page.text
    write_report([tmp_path / "none.html"], ReportContext("no roads"))
    assert "roads" not in Page(tmp_path / "none.html").ids


def test_a_simulated_scene_says_so(a2, tmp_path):
    context, _ = a2
    scene = replace(context.scene, simulated=True)
    write_run_page(tmp_path / "report.html", replace(context, scene=scene), None)
    page = Page(tmp_path / "report.html")
    assert "simulated" in page.ids
    assert "no satellite has seen this" in page.text
    assert "Contains modified Copernicus" not in page.text


def test_no_trucks_and_no_scene_still_make_a_page(tmp_path):
    empty = gpd.GeoDataFrame({"score": []}, geometry=[], crs=32632)
    write_run_page(tmp_path / "run.html", ReportContext("empty"), empty)
    assert "0 moving trucks found" in Page(tmp_path / "run.html").text
    evaluation = evaluation_of(evaluate_trucks(empty, labels()))
    write_report([tmp_path / "e.html"], ReportContext("empty"), evaluation)
    assert "n/a" in Page(tmp_path / "e.html").text


def test_a_report_is_the_same_bytes_for_the_same_results(tmp_path):
    trucks = evaluate_trucks(boxes((0, 0), (900, 0), score=[0.9, 0.4]), labels((0, 0)))
    for name in ("a.html", "b.html"):
        write_report([tmp_path / name], ReportContext("same"), evaluation_of(trucks))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_styles_have_a_category_for_every_outcome():
    styles = case_styles(DYNAMIC_WORLD)
    outcomes = ("TP", "FP", "FN", "TN", "ignored", "not_seen")
    assert all(f'value="{name}"' in styles["trucks"] for name in outcomes)
    assert styles["landcover"].count("<category ") == 9


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (30, 20)])
def test_the_smallest_scene_and_one_without_data(tmp_path, shape):
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=shape[1], height=shape[0], count=3, dtype="uint16", nodata=0,
        crs="EPSG:32632", transform=GRID.affine,
    ) as target:  # fmt: skip
        for index, band in enumerate(("B02", "B03", "B04"), start=1):
            target.set_band_description(index, band)
            target.write(np.full(shape, 0 if shape == (30, 20) else 900, np.uint16), index)
    scene = open_geotiff(path)
    context = ReportContext("small", scene=scene, picture=quicklook(scene))
    nothing_seen = gpd.GeoDataFrame({"status": []}, geometry=[], crs=32632)
    trucks = evaluate_trucks(boxes((0, 0), score=[0.9]), labels((0, 0), (500, 0)), seen=nothing_seen)
    write_report([tmp_path / "report.html"], context, evaluation_of(trucks))
    assert "Nothing of the scene was searched for trucks." in Page(tmp_path / "report.html").text
