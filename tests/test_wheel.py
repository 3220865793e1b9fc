"""The wheel: what an installation without the checkout has."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

HOUSE = Path(__file__).resolve().parents[1]
SOURCES = ("pipeline", "flows", "truckscape-stubs", "truckscape.py", "pyproject.toml", "README.md", "LICENSE")
BUILD = "from setuptools.build_meta import build_wheel; build_wheel('.')"
MOST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of these sources, among other files of the checkout, built without a network."""
    setuptools = pytest.importorskip("setuptools", reason="needs setuptools 77")
    if Version(setuptools.__version__) < Version("77"):
        pytest.skip("needs setuptools 77")
    copy = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = HOUSE / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy / name)
    for name in ("tests", "benchmarks", "qgis/plugin"):
        (copy / name).mkdir(parents=True)
        (copy / name / "__init__.py").touch()
    subprocess.run([sys.executable, "-c", BUILD], cwd=copy, check=True, capture_output=True)
    return next(copy.glob("*.whl"))


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_is_small(wheel):
    assert wheel.stat().st_size <= MOST_BYTES


def test_it_has_the_package_and_nothing_else(names):
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "pipeline",
        "flows",
        "truckscape-stubs",
        "truckscape.py",
    }


def test_it_has_every_file_of_the_packages(names):
    ours = {path for package in ("pipeline", "flows") for path in (HOUSE / package).rglob("*")}
    kept = {path for path in ours if path.is_file() and path.suffix != ".pyc"}
    assert {path.relative_to(HOUSE).as_posix() for path in kept} <= names


def test_it_runs_without_the_checkout(wheel, tmp_path):
    """Libraries are those of this environment; the code is that of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, 'site'); sys.argv[1:] = ['models', 'list']; "
        "import truckscape, pipeline; from pipeline.cli import main; "
        "print(truckscape.__file__, pipeline.__file__, sep='\\n', flush=True); main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    site = tmp_path / "site"
    assert done.stdout.splitlines()[:2] == [
        str(site / "truckscape.py"),
        str(site / "pipeline" / "__init__.py"),
    ]
    assert "landcover" in done.stdout
