"""Bundles as ONNX files: the map of a run in ONNX Runtime, over tiles with the halo of the card."""

import dataclasses
import json

import numpy as np
import pystac
import pytest
import torch
from rasterio.windows import Window

import truckscape as ts
from pipeline.errors import BundleError, ConfigError, MissingExtraError, OutputError
from pipeline.inference import onnx_export
from pipeline.inference.onnx_export import deepness_metadata, export_bundle, tile_side
from pipeline.models import centernet2, registry
from pipeline.models.bundle import open_bundle
from pipeline.models.normalise import normalise
from pipeline.models.registry import build_network
from pipeline.models.standalone import Standalone
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels
from pipeline.training.detector.train import blank_card

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
pytest.importorskip("onnx", reason="needs the extra `export`")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The shipped land cover as files, for a raster of digital numbers since baseline 04.00."""
    folder = tmp_path_factory.mktemp("export") / "landcover"
    return export_bundle(open_bundle("landcover"), folder, scale=1e-4, offset=-0.1, tile_px=200)


def over_tiles(session, image: np.ndarray, halo: int, side: int) -> np.ndarray:
    """Classes (H, W) of reflectance (C, H, W): cores of tiles, of which the last ones end at the border."""
    height, width = image.shape[1:]
    classes = np.full((height, width), -1)
    for top in starts(height, halo, side):
        for left in starts(width, halo, side):
            tile = image[None, :, top : top + side, left : left + side]
            (found,) = session.run(None, {"reflectance": np.ascontiguousarray(tile)})
            # At the border of the scene a tile has no halo, as in a run.
            rows = slice(halo if top else 0, side if top + side == height else side - halo)
            cols = slice(halo if left else 0, side if left + side == width else side - halo)
            classes[top : top + side, left : left + side][rows, cols] = found[0].argmax(axis=0)[rows, cols]
    assert (classes >= 0).all()
    return classes


def starts(length: int, halo: int, side: int) -> list[int]:
    return [*range(0, length - side, side - 2 * halo), length - side]


def test_the_land_cover_in_onnx_runtime_is_the_map_of_a_run(exported, product):
    card = open_bundle("landcover").card
    scene = open_scene(str(product.safe))
    height, width = scene.grid.shape
    bands = [band for band in card.bands if band in scene.bands]
    pixels = read_pixels(scene, Window(0, 0, width, height), tuple(bands))
    image = np.zeros((len(card.bands), height, width), np.float32)
    image[[card.bands.index(band) for band in bands]] = pixels.reflectance
    image[:, ~pixels.valid] = np.nan
    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    found = over_tiles(session, image, card.halo, tile_side(card, 200))
    settings = {"engine.precision": "float32", "engine.threads": 1}
    run = ts.landcover(product.safe, settings=settings).to_numpy()
    classified = run != 255
    assert classified.mean() > 0.5
    values = np.array([item.value for item in card.classes])[found]
    assert (values == run)[classified].mean() >= 0.999


def test_deepness_standardisation_gives_reflectance_of_digital_numbers(exported):
    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    read = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert read["model_type"] == "Segmentor"
    assert read["resolution"] == 1000
    assert (read["seg_thresh"], read["seg_small_segment"]) == (0, 0)  # no pixel becomes another class
    assert (read["tile_size"], read["tiles_overlap"]) == (200, 20)  # 40 px, twice the halo
    assert list(read["class_names"].values())[:2] == ["water", "trees"]
    numbers = np.array([1000.0, 3000.0])
    seen = (numbers / 255 - read["standardization_mean"][0]) / read["standardization_std"][0]
    np.testing.assert_allclose(seen, [0.0, 0.2], atol=1e-9)
    assert session.get_inputs()[0].shape == ["batch", 10, 200, 200]


def test_the_item_is_stac_and_names_files_that_are_there(exported):
    item = pystac.Item.from_file(str(exported["item"]))
    assert item.properties["mlm:input"][0]["bands"] == list(open_bundle("landcover").card.bands)
    assert item.properties["mlm:output"][0]["result"]["shape"] == [-1, 9, 200, 200]
    for key in ("onnx", "weights", "card"):
        assert (exported["item"].parent / item.assets[key].href).is_file()
    item.stac_extensions.clear()  # whose schemas are on the network
    item.validate()


def test_the_overlap_of_tiles_is_a_multiple_of_the_stride_and_covers_the_halo():
    for name in ("landcover", "trucks"):
        card = open_bundle(name).card
        read = {key: json.loads(text) for key, text in deepness_metadata(card, tile_side(card)).items()}
        overlap = read["tile_size"] * read["tiles_overlap"] / 100
        assert overlap >= 2 * card.halo
        assert overlap % card.stride == 0


def test_what_can_not_be_exported_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    bundle, out = open_bundle("landcover"), tmp_path / "out"
    with pytest.raises(ConfigError, match=r"Unknown format 'tflite'\. Known: onnx\."):
        export_bundle(bundle, out, "tflite")
    with pytest.raises(ConfigError, match="Received: 0 with"):
        export_bundle(bundle, out, scale=0.0)
    with pytest.raises(OutputError, match="not an empty folder"):
        (tmp_path / "mine").touch()
        export_bundle(bundle, tmp_path)
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"truckscape\[export\]"):
        export_bundle(bundle, out)
    assert not out.exists()


def test_a_file_that_differs_from_the_engine_is_refused(tmp_path, monkeypatch):
    def other(network, card, tile):
        return [np.full((1, len(card.classes), *tile.shape[1:]), 0.5, np.float32)]

    monkeypatch.setattr(onnx_export, "_by_engine", other)
    with pytest.raises(BundleError, match="differs from the engine"):
        export_bundle(open_bundle("landcover"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_boxes_of_a_detector_are_those_of_the_engine(tmp_path, product):
    """A tile of a simulated scene: maps by one file, boxes by the other."""
    bundle = open_bundle("trucks")
    paths = export_bundle(bundle, tmp_path / "out", tile_px=200)
    item = pystac.Item.from_file(str(paths["item"]))
    assert (tmp_path / "out" / item.assets["boxes"].href).is_file()
    card = bundle.card
    side = tile_side(card, 200)
    pixels = read_pixels(open_scene(str(product.safe)), Window(0, 0, side, side), tuple(card.bands))
    sessions = [
        onnxruntime.InferenceSession(paths[key], providers=["CPUExecutionProvider"])
        for key in ("onnx", "boxes")
    ]
    maps = sessions[0].run(None, {"reflectance": pixels.reflectance[None]})
    names = [output.name for output in sessions[1].get_outputs()]
    found = dict(zip(names, sessions[1].run(None, {"map_0": maps[0], "map_1": maps[1]}), strict=True))
    network = bundle.load_into(build_network(card)).eval()
    with torch.inference_mode():
        (expected,) = network(normalise(pixels.reflectance, pixels.valid, card)[None])
    assert names == ["boxes", "scores", "vehicle_scores"]
    assert len(found["scores"]) == len(expected["scores"]) > 5
    order, known = (np.argsort(np.asarray(part["boxes"])[:, 0]) for part in (found, expected))
    for name in names:  # by place: equal scores have no order
        np.testing.assert_allclose(found[name][order], expected[name].numpy()[known], atol=1e-3)
    nothing = sessions[1].run(None, {"map_0": maps[0], "map_1": np.full_like(maps[1], -9)})
    assert [len(values) for values in nothing] == [0, 0, 0]


@pytest.mark.parametrize("name", ["fcos", "yolo"])
def test_the_boxes_of_a_family_in_one_stage_are_those_of_the_network(name):
    """Maps of noise in a corner, where every place is a vehicle, and of no vehicle elsewhere."""
    torch.manual_seed(1)
    card = blank_card(name, {"channels": [8, 8, 8], "features": 8})
    network = build_network(card).eval()
    side = tile_side(card, 100)
    graph = onnx_export._boxes_graph(Standalone(network, card).eval(), card, side)["boxes"]
    with torch.inference_mode():
        maps = list(network.dense(torch.zeros(1, len(card.bands), side, side)))
        for each in maps:
            each[:] = -9
            each[:, :20, :20] = 2 * torch.rand(each[:, :20, :20].shape)
        (expected,) = network.detections(*maps)
    found = onnx_export._run(graph, {f"map_{index}": each.numpy() for index, each in enumerate(maps)})
    assert list(found) == list(registry.find_family("detection", name).detected)
    assert len(expected["scores"]) > 20
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[key].numpy(), atol=1e-4)


def test_a_family_whose_boxes_are_no_graph_has_its_maps_only(tmp_path, monkeypatch, caplog):
    family = dataclasses.replace(centernet2.FAMILY, exports_boxes=False)
    monkeypatch.setattr(registry, "find_family", lambda task, name: family)
    paths = export_bundle(open_bundle("trucks"), tmp_path / "out", tile_px=200)
    assert sorted(path.name for path in paths.values()) == [
        "card.yaml",
        "item.json",
        "model.onnx",
        "weights.safetensors",
    ]
    assert "Families with boxes.onnx: centernet2, fcos, yolo." in caplog.text
