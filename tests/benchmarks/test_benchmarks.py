"""The benchmarks' own parts on a tiny scene, so that they don't rot; nothing here is a measurement."""

import json

import numpy as np
import pytest
import torch
from rasterio.windows import Window

from benchmarks import batch, counts, detectors, gpu, jobs, results, sizes
from benchmarks.floor import decode, networks
from benchmarks.measure import run_python
from benchmarks.peer_runs import _given, _moved, engine_way, torchgeo_way, whole_way
from pipeline.inference.predictions import NO_CLASS
from pipeline.run import Request, prepare
from pipeline.scenes.clouds import rim_mask
from pipeline.scenes.open import open_scene


@pytest.fixture(scope="module")
def prepared(product, tmp_path_factory):
    return prepare(Request(str(product.safe), tmp_path_factory.mktemp("job")))


def test_a_process_is_measured_with_its_children():
    child = "x = bytearray(200 * 2**20); import time; time.sleep(0.3)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('said')"
    taken = run_python("-c", code + "; print('heard', file=sys.stderr)")
    assert taken.peak_mb > 200
    assert 0.3 < taken.seconds < 60
    assert taken.output == "said\n"
    assert [line.text for line in taken.lines] == ["heard", ""]


def test_a_process_that_fails_ends_the_benchmark():
    with pytest.raises(SystemExit, match="no such thing"):
        run_python("-c", "raise ValueError('no such thing')")


def test_stages_end_with_the_lines_that_are_said():
    code = "import sys, time\nfor x in ('1 of 1 tiles', 'merging'): print(x, file=sys.stderr, flush=True)"
    stages = jobs._stages(run_python("-c", code))
    assert [stage.name for stage in stages] == [
        "start, decoding and networks",
        "storing the last shard",
        "merging",
    ]


def test_the_floor_reads_every_block_once_and_scales_by_area(prepared):
    found = decode(prepared)
    fine, coarse = 256 * 256, 128 * 128  # four bands of 10 m, six of 20 m and the scene classification
    assert found["megapixels"] == pytest.approx((4 * fine + 7 * coarse) / 1e6)
    assert networks(prepared, 2)["share_of_area"] == 1.0


def test_linear_cost_has_exponent_one():
    assert sizes.exponent({1000: 3.0, 2000: 12.0, 4000: 48.0}) == pytest.approx(1.0)


@pytest.mark.parametrize("patch, margin", [(100, 0), (128, 16), (256, 16)])
def test_patches_give_every_pixel_once(patch, margin):
    size, step = 300, patch - 2 * margin
    starts = range(0, size - patch + step, step)
    given = [_given(start, patch, margin, size) for start in starts]
    assert [pixel for part in given for pixel in range(part.start, part.stop)] == list(range(size))
    assert all(_moved(part, -start).stop <= patch for part, start in zip(given, starts, strict=True))


def test_ways_to_run_a_network_agree(product, tmp_path, monkeypatch):
    pytest.importorskip("torchgeo")
    from benchmarks import peer_scene
    from benchmarks.products import Product

    monkeypatch.setattr(peer_scene, "KEPT", tmp_path)
    monkeypatch.setattr(peer_scene, "product", lambda _: Product(product.safe, product.trucks.parents[1]))
    image = peer_scene.peer_scene(256).image
    whole = whole_way("landcover")(image)["classes"]
    by_engine = engine_way("landcover", "float32")(image)["classes"]
    scene = open_scene(str(image))
    clouds = rim_mask(scene, Window(0, 0, 256, 256))
    expected = whole if clouds is None else np.where(clouds, NO_CLASS, whole)
    np.testing.assert_array_equal(by_engine, expected)
    assert (torchgeo_way(256)(image)["classes"] == whole).all()


def test_bars_and_pieces_make_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PIECES", tmp_path / "results")
    monkeypatch.setattr(results, "PAGE", tmp_path / "RESULTS.md")
    met = results.bar("seconds", 2.0, 3.0, at_most=True)
    assert not results.bar("times", 2.0, 3.0, at_most=False)["met"]
    results.save("sizes", "Sizes", results.table([{"a": 1, "b": 2}]), {"x": 1.5}, [met])
    assert results.figures("sizes") == {"x": 1.5}
    assert json.loads((tmp_path / "results" / "sizes.json").read_text())["bars"][0]["met"]
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| a | b |" in page
    assert "python -m benchmarks.sizes" in page
    assert "at most 3" in page
    assert "earlier networks" not in page.partition("## Sizes")[2]
    monkeypatch.setattr(results, "networks", lambda: {"trucks": "new", "landcover": "new"})
    assert "## Sizes (earlier networks)" in results.page()


def test_the_page_in_the_repository_is_made_of_its_pieces():
    assert results.page() == results.PAGE.read_text(encoding="utf-8")


def test_scenes_of_a_batch_are_one_product_under_many_dates(tmp_path):
    scenes = batch.write_scenes(tmp_path, 64, 3)
    days = sorted(path.name[11:19] for path in scenes.iterdir())
    assert days == ["20230101", "20230102", "20230103"]
    assert len({next(path.rglob("*_B02_10m.jp2")).stat().st_ino for path in scenes.iterdir()}) == 1


def test_expected_numbers_are_compared_with_true_ones():
    dates = [
        counts.Counted(1, day, 1.0, trucks, 2 + 0.5 * trucks, trucks + step, trucks + step + 1)
        for day, (trucks, step) in enumerate([(0, -0.5), (10, 0.5), (20, -1.5), (40, 1.5)])
    ]
    found = counts.Agreement.of(dates)
    assert (found.slope, found.intercept) == (pytest.approx(0.5), pytest.approx(2))
    assert [one.covered for one in dates] == [True, True, True, False]  # ends are rounded outwards
    assert found.covered == 0.75


def test_chips_are_drawn_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(detectors, "PART", 3)
    asked = []

    class Numbers:
        def __getitem__(self, index):
            asked.append(index)
            return torch.tensor([index]), {"boxes": torch.full((1, 4), float(index))}

    for _ in range(2):
        kept = detectors.KeptChips(Numbers, tmp_path)
        found = [
            (image.item(), target["boxes"].mean().item()) for image, target in map(kept.__getitem__, (4, 1))
        ]
        assert found == [(4, 4.0), (1, 1.0)]
    assert asked == [3, 4, 5, 0, 1, 2]


def test_sure_boxes_of_two_devices_are_compared():
    boxes = np.array([[0.0, 0, 2, 2], [10, 10, 13, 12], [20, 20, 22, 22]])
    reference = {"boxes": boxes, "scores": np.array([0.9, 0.8, 0.1])}
    found = {"boxes": boxes[1:] + 0.25, "scores": np.array([0.75, 0.6])}
    again, sure, difference = gpu._compared(reference, found)
    assert (again, sure) == (1, 2)
    assert difference == pytest.approx(0.05)
    assert gpu._compared(reference, {"boxes": boxes[:0], "scores": np.zeros(0)}) == (0, 2, 0.0)
