"""Members of archives of both kinds."""

import tarfile
import zipfile

import pytest

from pipeline.errors import OpenDataError
from pipeline.open_data.archive import extract


@pytest.fixture(params=["a.whl", "a.tar.gz"])
def archive(request, tmp_path):
    """An archive with the file `data/a.txt` and the folder `data`."""
    (tmp_path / "a.txt").write_text("content")
    path = tmp_path / request.param
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
            written.write(tmp_path / "a.txt", "data/a.txt")
    else:
        with tarfile.open(path, "w:gz") as written:
            written.add(tmp_path / "a.txt", "data/a.txt")
    return path


def test_a_member_is_written(archive, tmp_path):
    assert extract(archive, "data/a.txt", tmp_path / "out").read_text() == "content"


def test_a_missing_member_is_named(archive, tmp_path):
    with pytest.raises(OpenDataError, match=r"a\.\S+ has no file data/b\.txt\."):
        extract(archive, "data/b.txt", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00broken"])
def test_no_archive_is_an_error(tmp_path, content):
    (tmp_path / "a.whl").write_bytes(content)
    with pytest.raises(OpenDataError, match=r"a\.whl can't be read"):
        extract(tmp_path / "a.whl", "data/a.txt", tmp_path / "out")
