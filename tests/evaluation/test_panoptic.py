"""Panoptic quality from strips is that of the whole image; torchmetrics and hotcoco are the oracles."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.transform import from_origin
from torchmetrics.functional.detection import panoptic_quality

from pipeline.evaluation.landcover.labels import RasterLabels
from pipeline.evaluation.panoptic import evaluate_panoptic, match_segments
from pipeline.evaluation.trucks.scores import evaluate_trucks
from pipeline.layers.panoptic import truck_masks, write_panoptic
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.scenes.scene import Scene

CLASSES = ("water", "trees", "crops")
VOID = len(CLASSES)
CRS = "EPSG:32632"


def as_coco(segments: np.ndarray) -> torch.Tensor:
    """(1, H, W, 2) of category and instance; void is a category that is neither thing nor stuff."""
    category = np.where(segments > VOID, 50, np.where(segments == VOID, 99, segments))
    return torch.from_numpy(
        np.stack([category, np.maximum(segments - VOID, 0)], axis=-1)[None].astype(np.int64)
    )


def oracle(predicted: np.ndarray, reference: np.ndarray, **options: bool) -> np.ndarray:
    """(categories, 3) of pq, sq, rq, in torchmetrics' order: things, then stuff."""
    return panoptic_quality(
        as_coco(predicted), as_coco(reference), things={50}, stuffs={0, 1, 2},
        allow_unknown_preds_category=True, return_sq_and_rq=True, **options,
    ).numpy()  # fmt: skip


segments = hnp.arrays(np.int32, (9, 7), elements=st.integers(0, VOID + 5))


@settings(max_examples=40, deadline=None)
@given(segments, segments, st.floats(0, 1), st.integers(1, 9))
def test_strips_give_what_torchmetrics_gives_for_the_whole_image(predicted, noise, share, rows):
    reference = np.where(np.random.default_rng(0).random(predicted.shape) < share, predicted, noise)
    cuts = range(rows, 9, rows)
    found = match_segments(zip(np.split(predicted, cuts), np.split(reference, cuts), strict=True), CLASSES)
    ours = np.stack([found.panoptic_quality, found.segmentation_quality, found.recognition_quality], axis=1)
    expected = oracle(predicted, reference, return_per_class=True)
    np.testing.assert_allclose(np.nan_to_num(np.roll(ours, 1, axis=0)), expected, atol=1e-12)
    means = list(found.metrics()["all"].values())
    np.testing.assert_allclose(np.array(means, float), oracle(predicted, reference), atol=1e-12)


def test_figures_of_a_small_image():
    """The truck has two of its three pixels; trees are 7 of 9; what is void in the reference is left out."""
    predicted = np.array([[4, 4, 1, 1], [1, 1, 1, 1], [1, 1, 2, 0]], np.int32)
    reference = np.array([[9, 9, 9, 1], [1, 1, 1, 1], [1, 1, 1, 3]], np.int32)
    metrics = match_segments([(predicted, reference)], CLASSES).metrics()
    assert metrics["things"] == pytest.approx({"pq": 2 / 3, "sq": 2 / 3, "rq": 1})
    assert metrics["classes"]["trees"] == pytest.approx(
        {"pq": 7 / 9, "sq": 7 / 9, "rq": 1, "tp": 1, "fp": 0, "fn": 0}
    )
    assert metrics["classes"]["water"] == {"pq": None, "sq": None, "rq": None, "tp": 0, "fp": 0, "fn": 0}
    assert metrics["classes"]["crops"] == {"pq": 0, "sq": 0, "rq": 0, "tp": 0, "fp": 1, "fn": 0}
    assert metrics["all"]["pq"] == pytest.approx((2 / 3 + 7 / 9 + 0) / 3)


def box(col: float, row: float, side: float = 4) -> shapely.Polygon:
    return shapely.box(
        600_000 + 10 * col, 5_800_000 - 10 * (row + side), 600_000 + 10 * (col + side), 5_800_000 - 10 * row
    )


def raster(path, values: np.ndarray):
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=len(values), width=values.shape[1], crs=CRS,
        nodata=255, transform=from_origin(600_000, 5_800_000, 10, 10),
    ) as target:  # fmt: skip
        target.write(values, 1)
    return path


def test_a_run_against_labels(tmp_path):
    """Ground is right but for a corner; of four labels one is found, one missed, one vague, one not seen."""
    ground = np.full((40, 60), 1, np.uint8)
    truth = ground.copy()
    truth[:10, :12] = 2
    truth[39] = 255
    legend = tuple(LegendClass(value=i, name=name, colour="#112233") for i, name in enumerate(CLASSES))
    places = [box(20, 20), box(30, 20), box(40, 20), box(50, 20)]
    labels = gpd.GeoDataFrame(
        {"id": list("abcd"), "confidence": ["high", "medium", "low", "high"],
         "travel_deg": 90.0, "speed_kmh": np.nan},
        geometry=places, crs=CRS,
    )  # fmt: skip
    found = gpd.GeoDataFrame(
        {"score": 0.9, "heading_deg": 90.0, "speed_kmh": 90.0},
        index=range(2),
        geometry=[box(20, 20), box(5, 30)],
        crs=CRS,
    )
    seen = gpd.GeoDataFrame(geometry=[shapely.box(600_000, 5_799_000, 600_480, 5_800_000)], crs=CRS)
    path = raster(tmp_path / "landcover.tif", ground)
    grid = GeoBox((40, 60), from_origin(600_000, 5_800_000, 10, 10), CRS)
    result = evaluate_panoptic(
        path,
        RasterLabels(raster(tmp_path / "truth.tif", truth), grid),
        legend,
        evaluate_trucks(found, labels, seen),
    )
    figures = result.metrics()["classes"]
    assert [figures["truck"][name] for name in ("tp", "fp", "fn")] == [1, 1, 1]
    assert [figures["trees"][name] for name in ("tp", "fp", "fn")] == [1, 0, 0]
    assert [figures["crops"][name] for name in ("tp", "fp", "fn")] == [0, 0, 1]
    assert figures["truck"]["sq"] > 0.5
    assert figures["trees"]["sq"] == pytest.approx(0.95, abs=0.01)


def test_files_score_as_with_the_reader_and_the_figures_of_coco(tmp_path):
    """hotcoco's `pq_compute` is panopticapi's; it takes PNGs, which have the same pixels."""
    pq_compute = pytest.importorskip("hotcoco.panoptic", reason="needs the extra `dev`").pq_compute
    rng = np.random.default_rng(1)
    grid = GeoBox((60, 80), from_origin(600_000, 5_800_000, 10, 10), CRS)
    legend = DYNAMIC_WORLD[:3]
    ground = rng.choice([0, 1, 2], (6, 8), p=[0.2, 0.5, 0.3]).astype(np.uint8).repeat(10, 0).repeat(10, 1)
    truth = ground.copy()
    truth[:20, :20] = 1
    corners = rng.uniform(2, 54, (40, 2))
    shifted = corners + rng.normal(0, 0.4, corners.shape)
    strips, files = [], []
    for name, values, places in (("predicted", ground, shifted), ("reference", truth, corners)):
        trucks = gpd.GeoDataFrame(
            {"id": [str(i) for i in range(40)], "score": 0.5, "heading_deg": 70.0, "speed_kmh": 85.0},
            geometry=[box(*place) for place in places], crs=CRS,
        )  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        landcover = raster(folder / "landcover.tif", values)
        outputs = write_panoptic(folder, Scene("s", "s", grid, {}), landcover, trucks, legend)
        Image.open(outputs["panoptic.tif"]).save(folder / "panoptic.png")
        text = outputs["panoptic.json"].read_text().replace("panoptic.tif", "panoptic.png")
        outputs["panoptic.json"].write_text(text)
        files.append(outputs["panoptic.json"])
        segments = values.astype(np.int32)
        truck_masks(trucks, grid).burn(segments, 0, VOID + 1 + np.arange(40))
        strips.append(segments)
    expected = pq_compute(files[1], files[0], tmp_path / "reference", tmp_path / "predicted")
    ours = match_segments([tuple(strips)], CLASSES).metrics()
    for group, name in (("all", "All"), ("things", "Things"), ("stuff", "Stuff")):
        assert ours[group] == pytest.approx({figure: expected[name][figure] for figure in ("pq", "sq", "rq")})
    assert 0 < ours["things"]["rq"] < 1
