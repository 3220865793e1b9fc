import numpy as np
import pytest

from pipeline.errors import ConfigError, NotAProductError, SceneNotFoundError
from pipeline.scenes.open import open_scene
from tests.scenes.products import PRODUCTS, numbers, write_raster, write_safe, zip_of
from tests.scenes.readers.test_stac import write_item


def test_every_layout_has_its_opener(tmp_path):
    array = np.ones((4, 4), np.uint16)
    safe = write_safe(tmp_path, images={"B02": numbers("B02")})
    zipped = zip_of(safe, tmp_path / "product.SAFE.zip")
    folder = tmp_path / "folder"
    write_raster(folder / "X_B02.tif", array)
    tif = write_raster(tmp_path / "scene.TIF".lower(), array, descriptions=("B02",))
    item = write_item(tmp_path / "stac")
    ids = [open_scene(str(path)).id for path in (safe, zipped, folder, tif, item)]
    assert ids == [PRODUCTS["L1C"], PRODUCTS["L1C"], "X", "scene", "S2A_32UPD_20240615_0_L2A"]


def test_bands_can_be_named_for_a_geotiff_only(tmp_path):
    tif = write_raster(tmp_path / "scene.tif", np.ones((4, 4), np.uint16))
    assert list(open_scene(str(tif), bands=["B08"]).bands) == ["B08"]
    for href in (tmp_path, "https://example.org/item"):
        with pytest.raises(ConfigError, match="GeoTIFFs only"):
            open_scene(str(href), bands=["B08"])


def test_what_is_not_there(tmp_path):
    with pytest.raises(SceneNotFoundError, match=r"No such file or folder: .*nowhere\.SAFE"):
        open_scene(str(tmp_path / "nowhere.SAFE"))


@pytest.mark.parametrize("name", ["photo.jpg", "notes.txt", "item.json", "scene.zip"])
def test_what_is_no_product(tmp_path, name):
    (tmp_path / name).write_text("hello")
    with pytest.raises(NotAProductError):
        open_scene(str(tmp_path / name))
    with pytest.raises(NotAProductError, match="band file"):
        open_scene(str(tmp_path))
    (tmp_path / "empty.SAFE").mkdir()
    with pytest.raises(NotAProductError, match=r"neither MTD_MSIL1C\.xml nor MTD_MSIL2A\.xml"):
        open_scene(str(tmp_path / "empty.SAFE"))
