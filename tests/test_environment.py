"""The environment of a run, as offices, containers and other installations leave it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import environment
from pipeline.environment import (
    can_be_written,
    give_prefect_a_home,
    proxy_variables,
    repair_environment,
    repairs,
)

VARIABLES = (
    *(
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ),
    *("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH", "GDAL_SKIP", "OGR_SKIP", "TMPDIR"),
    *("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "PREFECT_HOME", "PREFECT_PROFILES_PATH"),
)


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No variable of interest is set, but a home; all are as before when the test ends."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(environment, "_repairs", [])
    repair_environment.cache_clear()
    yield
    repair_environment.cache_clear()


@pytest.fixture
def readonly(monkeypatch):
    """Folders in the returned list can't be written; root may write anywhere, so the system is not asked."""
    folders, access = [], os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode, **more: (
            not (mode & os.W_OK and Path(path) in folders) and access(path, mode, **more)
        ),
    )
    return folders


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_loopback_is_exempt_from_a_proxy(monkeypatch, name):
    monkeypatch.setenv(name, "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "intern, 127.0.0.1")
    repair_environment()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intern,127.0.0.1,localhost,::1"
    assert proxy_variables() == {name: "http://proxy:3128"}
    assert repairs() == ()


def test_without_a_proxy_and_with_a_home_nothing_changes():
    before = dict(os.environ)
    repair_environment()
    assert dict(os.environ) == before
    assert give_prefect_a_home() is None
    assert dict(os.environ) == before


def test_data_and_plugins_of_another_installation_are_ignored_in_one_warning(monkeypatch, caplog):
    monkeypatch.setenv("PROJ_LIB", "/usr/share/proj")
    monkeypatch.setenv("GDAL_DATA", "/usr/share/gdal")
    monkeypatch.setenv("GDAL_DRIVER_PATH", "disable")
    monkeypatch.setenv("GDAL_SKIP", "JP2KAK,jp2openjpeg")
    monkeypatch.setenv("OGR_SKIP", "PGDump")
    repair_environment()
    assert [name for name in VARIABLES if name in os.environ] == ["GDAL_DRIVER_PATH", "OGR_SKIP", "HOME"]
    first, second = caplog.messages
    assert first.startswith("Ignored: PROJ_LIB=/usr/share/proj, GDAL_DATA=/usr/share/gdal.")
    assert first.endswith("Fix: unset PROJ_LIB GDAL_DATA")
    assert second.startswith("Ignored: GDAL_SKIP=JP2KAK,jp2openjpeg.")


def test_packages_without_data_of_their_own_keep_what_conda_sets(monkeypatch):
    monkeypatch.setattr(environment, "_OWN_DATA", (("rasterio", "no_data/proj.db"),))
    monkeypatch.setenv("PROJ_LIB", "/opt/conda/share/proj")
    repair_environment()
    assert os.environ["PROJ_LIB"] == "/opt/conda/share/proj"


@pytest.mark.parametrize("home", [None, "/nonexistent", "relative"])
def test_without_a_home_there_is_one_for_the_time_of_the_process(monkeypatch, home):
    monkeypatch.delenv("HOME")
    if home:
        monkeypatch.setenv("HOME", home)
    else:
        monkeypatch.setattr(environment, "home", lambda: None)
    repair_environment()
    assert Path(os.environ["HOME"]).is_dir()
    assert Path(os.environ["HOME"]).name.startswith("truckscape-")
    assert [repair.subject for repair in repairs()] == ["home"]
    monkeypatch.undo()


def test_a_home_that_cannot_be_written_keeps_its_files_and_caches_go_elsewhere(readonly, tmp_path):
    home = tmp_path / "home"
    readonly.append(home)
    repair_environment()
    assert os.environ["HOME"] == str(home)
    assert "truckscape-" in os.environ["MPLCONFIGDIR"]
    assert "truckscape-" in os.environ["XDG_CACHE_HOME"]
    assert [repair.found for repair in repairs()] == [f"The home folder {home} can't be written."]


def test_prefect_gets_a_folder_and_keeps_its_profiles(readonly, tmp_path):
    folder = tmp_path / "home" / ".prefect"
    folder.mkdir()
    (folder / "profiles.toml").touch()
    readonly.append(folder)
    warning = give_prefect_a_home()
    assert warning.startswith(f"Prefect's folder {folder} can't be written")
    assert "truckscape-" in os.environ["PREFECT_HOME"]
    assert os.environ["PREFECT_PROFILES_PATH"] == str(folder / "profiles.toml")


def test_a_database_of_another_user_is_not_prefects(readonly, monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / "prefect.db").touch()
    assert give_prefect_a_home() is None
    readonly.append(tmp_path / "prefect.db")
    assert str(tmp_path) in give_prefect_a_home()


def test_a_temporary_folder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    repair_environment()
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert [repair.subject for repair in repairs()] == ["temporary"]


def test_a_user_without_an_entry_has_a_name(monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setenv("USER", "")
    repair_environment()
    assert os.environ["USER"] == f"uid{os.getuid()}"


def test_what_can_be_written(tmp_path):
    assert can_be_written(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    assert not can_be_written(tmp_path / "file" / "a")
    if os.getuid():
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert not can_be_written(tmp_path / "a")


def test_the_folder_is_removed_at_the_end_and_rasterio_finds_its_own_proj(tmp_path):
    """In a process of its own, for rasterio keeps what it found first."""
    script = (
        "import os; from pipeline.processes import configure_process; configure_process();"
        "from rasterio.crs import CRS; print(CRS.from_epsg(32632).to_epsg(), os.environ['HOME'])"
    )
    (tmp_path / "proj.db").write_bytes(b"of another PROJ")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PROJ_LIB": str(tmp_path), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    epsg, home = done.stdout.split()
    assert epsg == "32632"
    assert not Path(home).exists()
    assert done.stderr.count("\n") == 1
