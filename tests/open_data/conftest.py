"""A small catalogue in place of the real one, a mirror of its files, and an empty cache."""

from types import SimpleNamespace

import pytest

from pipeline.open_data import catalogue as catalogues
from pipeline.open_data.catalogue import Catalogue
from tests.open_data.datasets import DATASETS, small_dataset, write


@pytest.fixture
def known(monkeypatch, tmp_path) -> SimpleNamespace:
    """`catalogue` is replaced; `cache` is its empty cache, and `mirror` a folder with all files."""
    small = Catalogue(archives={}, datasets={name: small_dataset(name) for name in DATASETS})
    cache, mirror = tmp_path / "cache", tmp_path / "mirror"
    monkeypatch.setattr(catalogues, "_shipped", lambda: small)
    monkeypatch.setenv("TRUCKSCAPE_DATA", str(cache))
    monkeypatch.delenv("TRUCKSCAPE_DATA_MIRROR", raising=False)
    write(mirror)
    return SimpleNamespace(catalogue=small, cache=cache, mirror=mirror)
