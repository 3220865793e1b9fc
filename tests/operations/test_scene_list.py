import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import NotAProductError, SceneNotFoundError
from pipeline.input_warnings import collected_warnings
from pipeline.operations.scene_list import list_scenes, read_list, scenes_in
from pipeline.scenes.open import open_scene
from tests.conftest import only_on, write_geotiff
from tests.scenes.products import write_raster

PIXELS = np.full((4, 32, 32), 1500, np.uint16)


@pytest.fixture
def folder(tmp_path, product):
    """One of each kind, and things that are no scene."""
    shutil.copytree(product.safe, tmp_path / product.safe.name)
    (tmp_path / f"{product.safe.name}.zip").write_bytes(b"the zip it came in")
    (tmp_path / "S2B_OTHER.SAFE.zip").write_bytes(b"cut short")
    write_geotiff(tmp_path / "chip.tif", PIXELS)
    write_raster(tmp_path / "bands" / "T33UUU_20170216T102101_B02.jp2", PIXELS[0])
    (tmp_path / "item.json").write_text(json.dumps({"type": "Feature", "id": "S2A_X_0", "assets": {}}))
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "truth").mkdir()
    (tmp_path / ".hidden.tif").touch()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_scenes_of_a_folder_by_name(folder, product):
    names = [Path(href).name for href in scenes_in(folder)]
    assert names == sorted([product.safe.name, "S2B_OTHER.SAFE.zip", "bands", "chip.tif", "item.json"])


def test_names_are_the_ids_that_opening_finds(folder, product):
    listed = {scene.name: scene for scene in list_scenes(scenes_in(folder))}
    assert set(listed) == {product.safe.stem, "S2B_OTHER", "bands", "chip", "S2A_X_0"}
    for name in (product.safe.stem, "chip"):
        assert open_scene(listed[name].href).id == name


def test_urls_are_named_by_their_last_part():
    urls = ["https://host/items/S2A_0_L2A", "https://host/x/S2A_1_L2A.json?token=a"]
    assert [scene.name for scene in list_scenes(urls)] == ["S2A_0_L2A", "S2A_1_L2A"]


def test_a_list_counts_from_its_own_folder(tmp_path):
    path = tmp_path / "scenes.txt"
    path.write_text("# north\n\na.SAFE\n/data/b.SAFE  # the second\nhttps://host/items/c\n")
    assert read_list(path) == [str(tmp_path / "a.SAFE"), "/data/b.SAFE", "https://host/items/c"]


def test_an_input_version_changes_with_the_files_and_not_with_their_place(folder, tmp_path_factory, product):
    def input_version(path):
        return list_scenes([str(path)])[0].input_version

    first = input_version(folder / product.safe.name)
    moved = shutil.copytree(folder / product.safe.name, tmp_path_factory.mktemp("moved") / product.safe.name)
    assert input_version(moved) == first
    band = next(moved.rglob("*_B02_10m.jp2"))
    os.utime(band, (1, 1))
    assert input_version(moved) != first
    assert input_version(folder / "chip.tif") != input_version(folder / "nothing.tif")


def test_an_input_version_changes_with_files_beside_the_scene_and_with_assets(tmp_path):
    def input_version(name):
        return list_scenes([str(tmp_path / name)])[0].input_version

    for name in ("a.tif", "b_B02.tif"):
        (tmp_path / name).write_text("pixels")
    before = input_version("a.tif")
    (tmp_path / "a.tif.msk").write_text("mask")
    assert input_version("a.tif") != before
    item = {"type": "Feature", "id": "S2A_0", "assets": {"B02": {"href": "./b_B02.tif"}, "x": {"href": 3}}}
    (tmp_path / "item.json").write_text(json.dumps(item))
    before = input_version("item.json")
    assert input_version("item.json") == before
    (tmp_path / "b_B02.tif").write_text("other pixels")
    assert input_version("item.json") != before


def test_a_name_in_a_list_may_have_a_number_sign(tmp_path):
    (tmp_path / "a #1.SAFE").mkdir()
    (tmp_path / "scenes.txt").write_text("a #1.SAFE\nb #2.SAFE\n")
    assert read_list(tmp_path / "scenes.txt") == [str(tmp_path / "a #1.SAFE"), str(tmp_path / "b")]


def test_one_scene_named_twice_is_one(folder):
    assert len(list_scenes([str(folder / "chip.tif")] * 2)) == 1


def test_two_scenes_of_one_name_have_two_in_the_ledger(folder):
    hrefs = [str(folder / "chip.tif"), "elsewhere/chip.tif", "third/chip.tif"]
    names = [scene.name for scene in list_scenes([*hrefs, *hrefs])]
    assert names[0] == "chip"
    assert len(set(names)) == len(names) == 3
    assert all(re.fullmatch(r"chip-[0-9a-f]{8}", name) for name in names[1:])


def test_a_link_to_a_scene_of_its_name_is_the_same_scene(folder):
    (folder / "again").symlink_to(folder)
    assert len(list_scenes([str(folder / "chip.tif"), str(folder / "again" / "chip.tif")])) == 1


def warned_in(folder: Path) -> tuple[list[str], list[str]]:
    with collected_warnings() as warnings:
        return [scene.name for scene in list_scenes(scenes_in(folder))], warnings


@only_on("linux", why="names of any bytes, pipes and devices")
def test_bad_neighbours_leave_the_others(tmp_path):
    write_geotiff(tmp_path / "chip.tif", PIXELS)
    (tmp_path / "nested.json").write_text("[" * 100_000)
    (tmp_path / "half.json").write_text('{"type":"Feature","assets":{},"id":"\\ud800"}')
    (tmp_path / "list.json").write_text('{"type":["Feature"],"assets":{},"id":"x"}')
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "null.tif").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe.json")
    os.mkfifo(tmp_path / "pipe.tif")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(7 * 2**30)
    (tmp_path / os.fsdecode(b"M\xfcnchen.tif")).touch()
    (tmp_path / "\x1b[31mred\n.tif").touch()
    (tmp_path / "self").symlink_to(tmp_path)
    names, warnings = warned_in(tmp_path)
    assert set(names) == {"chip", "_", "loop", "M_nchen", "__31mred_"}
    left_out = {Path(warning.split(" ")[0]).name for warning in warnings}
    odd = {"nested.json", "large.json", "loop.json", "zero.json", "null.tif", "pipe.json", "pipe.tif"}
    assert odd <= left_out
    json.dumps([scene.href for scene in list_scenes(scenes_in(tmp_path))], ensure_ascii=False).encode()


def test_scenes_that_can_not_be_are_listed_for_their_reason(tmp_path):
    hrefs = ["x" * 5000 + ".tif", "~nobodyhere/x.tif", "a\x00b.tif"]
    listed = list_scenes(hrefs)
    assert len(listed) == 3
    for scene in listed:
        with pytest.raises(SceneNotFoundError) as caught:
            open_scene(scene.href)
        assert len(str(caught.value)) < 1000
    with pytest.raises(NotAProductError, match=r"not UTF-8.*M\\xfc.*Rename"):
        open_scene(os.fsdecode(b"M\xfc.tif"))
    with pytest.raises(SceneNotFoundError, match=r"Names that are not UTF-8"):
        open_scene("M\\xfc.tif")


@only_on("linux", "darwin", why="pipes and devices")
def test_pipes_and_devices_are_no_scenes(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.tif").symlink_to("/dev/zero")
    for name in ("a.tif", "a.json", "b.tif"):
        with pytest.raises(NotAProductError, match="a pipe, socket or device"):
            open_scene(str(tmp_path / name))


def test_a_line_of_a_list_in_another_encoding_is_one_bad_scene(tmp_path):
    (tmp_path / "scenes.txt").write_bytes(
        b"\xef\xbb\xbfa.SAFE\r\nM\xfcnchen.SAFE\n" + b"x" * 5000 + b" #1\nb.SAFE"
    )
    names = [scene.name for scene in list_scenes(read_list(tmp_path / "scenes.txt"))]
    assert names[:2] == ["a", "M_nchen"]
    assert names[3] == "b"
    (tmp_path / "scenes.txt").write_bytes(b"a\x00b")
    with pytest.raises(SceneNotFoundError, match="is no text file"):
        read_list(tmp_path / "scenes.txt")


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(SceneNotFoundError, match="can't be read"):
        scenes_in(tmp_path / "nowhere")
    with pytest.raises(SceneNotFoundError, match="No scene in"):
        scenes_in(tmp_path)
    with pytest.raises(SceneNotFoundError, match="can't be read"):
        read_list(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("# nothing yet\n")
    with pytest.raises(SceneNotFoundError, match="names no scene"):
        read_list(tmp_path / "list.txt")
