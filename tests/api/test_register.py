"""Families, formats and products that a user adds."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import truckscape as ts
from pipeline.models import centernet2
from pipeline.models.bundle import open_bundle, save_bundle
from pipeline.models.registry import FAMILIES, find_family
from pipeline.run.products import PRODUCTS, Outputs, RunContext
from pipeline.scenes.open import READERS, open_scene
from tests.api.conftest import FAST


@contextmanager
def only_here(registry):
    """Remove what is registered in the block."""
    before = list(registry)
    try:
        yield
    finally:
        for entry in registry:
            if entry not in before:
                registry.remove(entry)


def test_a_detector_under_another_name(scene, roads, tmp_path):
    shipped = open_bundle("trucks")
    card = shipped.card.model_copy(update={"architecture": "mine"})
    mine = save_bundle(tmp_path / "mine", card, shipped.state_dict())
    with only_here(FAMILIES):
        ts.register("detector", "mine", centernet2.FAMILY.network, arguments=centernet2.FAMILY.arguments)
        found = ts.detect(scene, roads=roads, model=mine.folder, settings=FAST)
    assert len(found) == len(ts.detect(scene, roads=roads, settings=FAST)) > 0
    with pytest.raises(ts.BundleError, match="Unknown architecture mine"):
        find_family("detection", "mine")


def test_a_reader_and_a_product(product, tmp_path):
    pointer = tmp_path / "scene.pointer"
    pointer.write_text(str(product.safe))

    def opened(href: str, bands: object) -> object:
        return replace(open_scene(Path(href).read_text(encoding="utf-8")), id="pointed-to")

    def count(context: RunContext) -> Outputs:
        file = context.folder / "count.txt"
        file.write_text(str(len(context.layers["trucks"])))
        return Outputs({file.name: file})

    with only_here(READERS), only_here(PRODUCTS):
        ts.register("reader", "a pointer", opened, accepts=lambda href: href.endswith(".pointer"))
        ts.register("product", "count", count, needs=("trucks",))
        result = ts.run(pointer, tmp_path / "out", settings=FAST)
    assert result.folder.name == "pointed-to"
    assert int((result.folder / "count.txt").read_text()) == len(result.layers["trucks"])


def test_a_name_of_ones_own_is_replaced():
    with only_here(FAMILIES):
        ts.register("segmenter", "mine", dict)
        ts.register("segmenter", "mine", list)
        assert find_family("segmentation", "mine").network is list


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("detector", "yolo", dict), {}, r"\('detection', 'yolo'\) is taken; choose another name"),
        (("product", "trucks", dict), {}, "'trucks' is taken"),
        (("product", "evaluation", dict), {}, "'evaluation' is taken"),
        (("oracle", "mine", dict), {}, "detector, segmenter, screener, reader, product. Received: 'oracle'"),
        (("detector", "", dict), {}, "A name and a callable are needed"),
        (("detector", "mine", 7), {}, "A name and a callable are needed"),
        (("detector", "mine", dict), {"depth": 3}, "The detector 'mine' can't be registered.*depth"),
        (("reader", "mine", dict), {}, "accepts"),
    ],
)
def test_what_cannot_be_registered(arguments, options, message):
    with pytest.raises(ts.PluginError, match=message):
        ts.register(*arguments, **options)
