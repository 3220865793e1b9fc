"""The first check of a run: something is at the path of its scene."""

import pytest

from pipeline.errors import NotAProductError, SceneNotFoundError
from pipeline.scenes.existing import FORMATS, check_there
from pipeline.scenes.open import formats


def test_the_message_names_the_formats_of_all_readers():
    assert formats() == FORMATS


def test_a_path_with_nothing_there(tmp_path):
    with pytest.raises(SceneNotFoundError, match=r"No such file or folder: .*none\.tif"):
        check_there(str(tmp_path / "none.tif"))


def test_a_name_that_is_not_text():
    with pytest.raises(NotAProductError, match="not UTF-8"):
        check_there("a\udcff.tif")


@pytest.mark.parametrize("href", ["https://example.com/none.json", "HTTP://example.com/none.json"])
def test_servers_are_not_asked(href):
    check_there(href)


def test_files_and_folders_are_there(tmp_path):
    (tmp_path / "a.tif").touch()
    check_there(str(tmp_path))
    check_there(str(tmp_path / "a.tif"))
