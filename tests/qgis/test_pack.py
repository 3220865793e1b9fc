"""The zip of the plugin: one folder, the same bytes, and what QGIS asks for."""

import configparser
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from qgis.pack import PLUGIN, pack

HOUSE = Path(__file__).resolve().parents[2]


def test_the_same_bytes_whatever_the_times_of_the_files(tmp_path, monkeypatch):
    pack(tmp_path / "a.zip")
    copy = tmp_path / "checkout"
    for path in [HOUSE / "LICENSE", HOUSE / "qgis" / "pack.py", *PLUGIN.glob("*.*")]:
        target = copy / path.relative_to(HOUSE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        os.utime(target, (1e9, 1e9))
        target.chmod(0o755)
    (copy / "qgis" / "plugin" / "__pycache__").mkdir()
    subprocess.run([sys.executable, str(copy / "qgis" / "pack.py"), "dist/b.zip"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "dist" / "b.zip").read_bytes()


def test_it_has_one_folder_with_every_module_and_a_licence(tmp_path):
    pack(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    modules = {path.name for path in PLUGIN.glob("*.py")}
    assert set(names) == {f"truckscape/{name}" for name in (*modules, "LICENSE", "metadata.txt", "icon.svg")}


def test_the_metadata_has_the_version_of_truckscape_and_what_qgis_requires():
    metadata = configparser.ConfigParser()
    metadata.read(PLUGIN / "metadata.txt", encoding="utf-8")
    general = metadata["general"]
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert general["version"] == project["version"]
    assert general["hasProcessingProvider"] == "yes"
    assert (PLUGIN / general["icon"]).is_file()
    for name in ("name", "description", "about", "author", "qgisMinimumVersion", "repository", "tracker"):
        assert general[name]
