"""The STAC item of an exported bundle."""

from pystac.extensions.mlm import MLMExtension

from pipeline.models.bundle import open_bundle
from pipeline.models.stac_item import stac_item

FILES = {"onnx": "model.onnx", "weights": "weights.safetensors", "card": "card.yaml"}


def test_pystacs_extension_reads_the_item_of_a_land_cover_model():
    card = open_bundle("landcover").card
    item = stac_item(card, 400, {"probabilities": (-1, 9, 400, 400)}, 126_189, FILES)
    model = MLMExtension.ext(item)
    assert model.mlm_name == "truckscape landcover"
    assert model.tasks == ["semantic-segmentation"]
    assert model.total_parameters == 126_189
    assert model.input[0].input.shape == [-1, 10, 400, 400]
    assert model.output[0].to_dict()["classification:classes"][0]["name"] == "water"
    assert item.properties["license"] == card.licence
    models = [asset for asset in item.assets.values() if "mlm:artifact_type" in asset.extra_fields]
    assert [asset.roles[0] for asset in models] == ["mlm:model", "mlm:model"]  # which its schema requires


def test_the_items_are_valid():
    for name in ("landcover", "trucks"):
        item = stac_item(open_bundle(name).card, 400, {"map_0": (-1, 400, 400, 9)}, 1, FILES)
        item.stac_extensions.clear()  # whose schemas are on the network
        item.validate()


def test_the_item_of_a_detector_lists_each_map():
    card = open_bundle("trucks").card
    maps = {"map_0": (-1, 400, 400, 16), "map_1": (-1, 400, 400, 1)}
    item = stac_item(card, 400, maps, 1, FILES)
    found = item.properties["mlm:output"]
    assert [output["name"] for output in found] == ["map_0", "map_1"]
    assert found[1]["result"]["dim_order"] == ["batch", "height", "width", "channel"]
