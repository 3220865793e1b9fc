"""`truckscape train`: one line for each mistake."""

import sys

from tests.cli.test_app import refused


def test_imagery_without_labels_is_refused_before_any_work(capsys, monkeypatch, tmp_path):
    line = ["train", "detector", "--imagery", "scene.tif", "--out", str(tmp_path / "out"), "--no-prefect"]
    assert "--labels" in refused(capsys, monkeypatch, *line)
    assert not (tmp_path / "out").exists()


def test_no_imagery_is_asked_for_before_any_work(capsys, monkeypatch, tmp_path):
    line = ["train", "detector", "--out", str(tmp_path / "out"), "--no-prefect"]
    assert "--from-scratch" in refused(capsys, monkeypatch, *line)
    assert not (tmp_path / "out").exists()


def test_without_its_extra_the_extra_is_named(capsys, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("pipeline.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    message = refused(capsys, monkeypatch, "train", "screener", "--out", str(tmp_path))
    assert "truckscape[train]" in message
