"""Plug-ins of other packages: loaded when they are needed, refused in one line."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest

from pipeline.errors import PluginError
from pipeline.input_warnings import collected_warnings
from pipeline.plugins import Registry, plugin_versions

_NUMBERS = count()


@dataclass(frozen=True)
class Entry:
    name: str
    value: int = 0


class Package:
    """A package with entry points in a folder of its own on the path."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def write(self, code: str, groups: dict[str, dict[str, str]]) -> None:
        (self.folder / f"{self.name}.py").write_text(code, encoding="utf-8")
        info = self.folder / f"{self.name}-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.name}\nVersion: 2.1\n")
        lines = [
            line
            for group, points in groups.items()
            for line in (f"[{group}]", *(f"{name} = {self.name}:{what}" for name, what in points.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def package(tmp_path, monkeypatch) -> Package:
    monkeypatch.syspath_prepend(tmp_path)
    return Package(tmp_path, f"plugin_under_test_{next(_NUMBERS)}")


def registry(group: str = "truckscape.tests") -> Registry[Entry]:
    return Registry(group, Entry, "name", [Entry("built-in")])


def warnings_of(entries: Registry[Entry]) -> list[str]:
    with collected_warnings() as warnings:
        list(entries)
    return warnings


ENTRIES = """
from tests.test_plugins import Entry

one, two, same = Entry("one"), Entry("two"), Entry("built-in")
"""


def test_entries_of_packages_come_after_ours(package):
    package.write(ENTRIES, {"truckscape.tests": {"a": "two", "b": "one"}})
    assert [entry.name for entry in registry()] == ["built-in", "two", "one"]


def test_a_package_is_imported_at_the_first_use(package):
    package.write("raise SystemError('not yet')", {"truckscape.tests": {"a": "one"}})
    entries = registry()
    assert warnings_of(entries) == [
        f"Plug-in a of {package.name} 2.1 (truckscape.tests) can't be loaded: SystemError: not yet. "
        "Repair or uninstall it."
    ]
    assert [entry.name for entry in entries] == ["built-in"]


def test_a_broken_plug_in_is_in_the_record_of_each_run(package):
    package.write("", {"truckscape.tests": {"a": "missing"}})
    entries = registry()
    assert warnings_of(entries) == warnings_of(entries)
    assert "AttributeError" in warnings_of(entries)[0]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("same", "is left out: the name 'built-in' is taken"),
        ("Entry", "is a type, and a tests.test_plugins.Entry is expected"),
    ],
)
def test_names_of_ours_and_other_types_are_left_out(package, what, message):
    package.write(ENTRIES, {"truckscape.tests": {"odd": what, "two": "two"}})
    entries = registry()
    assert [entry.name for entry in entries] == ["built-in", "two"]
    (warning,) = warnings_of(entries)
    assert message in warning
    assert warning.startswith(f"Plug-in odd of {package.name} 2.1")


def test_a_user_may_replace_what_is_the_users(package):
    package.write(ENTRIES, {"truckscape.tests": {"two": "two"}})
    entries = registry()
    entries.append(Entry("mine", 1))
    entries.append(Entry("mine", 2))
    assert list(entries) == [Entry("built-in"), Entry("two"), Entry("mine", 2)]
    for name in ("built-in", "two"):
        with pytest.raises(PluginError, match=f"'{name}' is taken"):
            entries.append(Entry(name, 3))
    entries.remove(next(entry for entry in entries if entry.name == "mine"))
    assert list(entries) == [Entry("built-in"), Entry("two")]


def test_a_package_may_register_while_it_is_imported(package):
    code = "from tests import test_plugins\ntest_plugins.SHARED.append(test_plugins.Entry('self'))\n"
    package.write(code, {"truckscape.tests": {"a": "test_plugins"}})
    assert "self" in [entry.name for entry in SHARED]


SHARED = registry()


def test_threads_add_and_read_at_the_same_time():
    entries, start = registry("truckscape.nothing"), threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for index in range(50):
            entries.append(Entry(f"{number}-{index}"))
            assert Entry("built-in") in list(entries)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(list(entries)) == 401


def test_the_versions_of_plug_ins_are_part_of_what_computes(package):
    assert package.name not in plugin_versions()
    package.write(ENTRIES, {"truckscape.families": {"a": "one"}})
    assert plugin_versions()[package.name] == "2.1"


def test_a_second_package_adds_a_reader_a_family_and_a_product(package, product, tmp_path, monkeypatch):
    """Nothing is changed here: the three registries find it by its metadata."""
    from pipeline.config import load_config
    from pipeline.models import registry as models
    from pipeline.models.bundle import open_bundle, save_bundle
    from pipeline.models.family import Family
    from pipeline.plugins import FAMILY_PLUGINS, PRODUCT_PLUGINS, READER_PLUGINS
    from pipeline.run import Request, products, run_directly
    from pipeline.run.products import Product
    from pipeline.scenes import open as scenes
    from pipeline.scenes.readers.reader import Reader
    from tests.run.conftest import FAST

    # Loaded before the package is there, which is thus no part of them in later tests.
    readers, known, outputs = list(scenes.READERS), list(models.FAMILIES), list(products.PRODUCTS)
    package.write(
        SECOND_PACKAGE,
        {group: {"other": what} for group, what in zip(
            (READER_PLUGINS, FAMILY_PLUGINS, PRODUCT_PLUGINS), ("READER", "FAMILY", "PRODUCT"), strict=True
        )},
    )  # fmt: skip
    # As in a process that starts with the package installed.
    monkeypatch.setattr(scenes, "READERS", Registry(READER_PLUGINS, Reader, "format", readers))
    families = Registry(FAMILY_PLUGINS, Family, "key", known)
    monkeypatch.setattr(models, "FAMILIES", families)
    made = Registry(PRODUCT_PLUGINS, Product, "name", outputs)
    monkeypatch.setattr(import_module("pipeline.run.finish"), "PRODUCTS", made)

    shipped = open_bundle("trucks")
    card = shipped.card.model_copy(update={"architecture": "other_detector"})
    mine = save_bundle(tmp_path / "mine", card, shipped.state_dict())
    scene = tmp_path / "x.other"
    scene.write_text(str(product.safe))
    config = load_config(None, [*FAST, "landcover.enabled=false", f"trucks.bundle={mine.folder}"])
    result = run_directly(Request(str(scene), tmp_path / "out", config))
    assert result.run["counts"]["other"] == result.run["counts"]["trucks"] > 0
    assert result.run["scene"] == "other-scene"
    assert "other.txt" in result.run["outputs"]


SECOND_PACKAGE = """
from dataclasses import replace
from pathlib import Path

from pipeline.models import centernet2
from pipeline.run.products import Outputs, Product
from pipeline.scenes.open import open_scene
from pipeline.scenes.readers.reader import Reader

READER = Reader(
    "an other scene",
    lambda href: href.endswith(".other"),
    lambda href, bands: replace(open_scene(Path(href).read_text()), id="other-scene"),
)
FAMILY = replace(centernet2.FAMILY, name="other_detector")


def make(context):
    file = context.folder / "other.txt"
    file.write_text("made")
    return Outputs({file.name: file}, {"other": context.layers["trucks"]})


PRODUCT = Product("other", make, needs=("trucks",))
"""
