"""Environment of this process: what would break a run there is put right before libraries read it."""

from __future__ import annotations

import atexit
import getpass
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

log = logging.getLogger(__name__)

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""Variables of proxies; each is also read in capitals."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
RASTER_DRIVERS = ("GTiff", "JP2OpenJPEG", "COG", "VRT")
VECTOR_DRIVERS = ("GPKG", "GeoJSON", "FlatGeobuf", "ESRI Shapefile", "OSM")

_OWN_DATA = (
    ("rasterio", "proj_data/proj.db"),
    ("pyogrio", "proj_data/proj.db"),
    ("pyproj", "proj_dir/share/proj/proj.db"),
)
"""Packages whose wheels bring their own GDAL and PROJ, and where these have their data."""
_OF_ANOTHER = ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH", "GDAL_PYTHON_DRIVER_PATH")
"""Variables that name data or plugins; QGIS, PostGIS and conda set them for their own GDAL and PROJ."""
_SKIPS = ("GDAL_SKIP", "OGR_SKIP")
_SET_HOME = "set HOME to a folder that can be written, or PREFECT_HOME for Prefect's records"


@dataclass(frozen=True)
class Repair:
    """Something in the environment that was put right for this process."""

    subject: str
    """The part of the environment: `gdal`, `home`, `temporary`."""
    found: str
    fix: str


_repairs: list[Repair] = []


def repairs() -> tuple[Repair, ...]:
    """Return what `repair_environment` has put right in this process."""
    return tuple(_repairs)


@cache
def repair_environment() -> None:
    """Put the environment right for this process and its children, once.

    Call it before rasterio, pyproj or matplotlib is imported: they keep what they find. A warning is logged
    for what is ignored. Raises nothing.
    """
    _keep_loopback_direct()
    _ignore_other_installations()
    _use_a_writable_temporary_folder()
    _give_users_without_an_entry_a_name()
    _give_caches_a_place()
    for repair in _repairs:
        if repair.subject != "home":  # only Prefect's record is lost, see `give_prefect_a_home`
            log.warning("%s Fix: %s", repair.found, repair.fix)


def give_prefect_a_home() -> str | None:
    """Give Prefect, imported afterwards, a temporary folder if its own can't be written; return a warning."""
    given = os.environ.get("PREFECT_HOME")
    folder = Path(given).expanduser() if given else (home() or Path()) / ".prefect"
    files = folder.glob("prefect.db*") if folder.is_dir() else ()
    if can_be_written(folder) and all(os.access(file, os.W_OK) for file in files):
        return None
    profiles = folder / "profiles.toml"
    if os.access(profiles, os.R_OK):
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles))
    try:
        os.environ["PREFECT_HOME"] = str(_folder() / "prefect")
    except OSError:
        return None  # no temporary folder either, for which `check_installation` raises an error
    return (
        f"Prefect's folder {folder} can't be written: its record of this run is kept in a temporary folder, "
        "until the end. Set PREFECT_HOME to keep it, or give --no-prefect."
    )


def proxy_variables() -> dict[str, str]:
    """Return the proxies of the environment by the name of their variable."""
    names = [spelling for name in PROXIES for spelling in (name, name.upper())]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def can_be_written(path: Path) -> bool:
    """Return whether a folder can be written, or made where it is not there yet."""
    there = next((part for part in (path, *path.absolute().parents) if part.exists()), path)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def home() -> Path | None:
    """Return the home folder of this user; None where there is none."""
    path = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.home() raises without a passwd entry)
    return path if path.is_absolute() and path.is_dir() else None


def _keep_loopback_direct() -> None:
    """Exempt loopback from the proxy, where Prefect's own server and Dask's workers are."""
    if not proxy_variables():
        return
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in given.split(",") if name.strip()]
    direct = ",".join([*names, *(name for name in LOOPBACK if name not in names)])
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = direct


def _ignore_other_installations() -> None:
    """Remove variables that lead to the GDAL and PROJ of another installation, if ours bring their own."""
    if not all(_has_file(package, name) for package, name in _OWN_DATA):
        return
    named = [f"{name}={os.environ.pop(name)}" for name in _OF_ANOTHER if _is_set(name)]
    if named:
        found = f"Ignored: {', '.join(named)}. rasterio, pyogrio and pyproj bring their own GDAL and PROJ."
        fix = f"unset {' '.join(name.partition('=')[0] for name in named)}"
        _repairs.append(Repair("gdal", found, fix))
    needed = {name.lower() for name in (*RASTER_DRIVERS, *VECTOR_DRIVERS)}
    for name in _SKIPS:
        value = os.environ.get(name, "")
        if needed & {part.lower() for part in value.replace(",", " ").split()}:
            del os.environ[name]
            found = f"Ignored: {name}={value}. It turns off a driver of GDAL that truckscape needs."
            _repairs.append(Repair("gdal", found, f"unset {name}"))


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "disable")


def _has_file(package: str, name: str) -> bool:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return False
    return bool(spec and spec.origin) and (Path(str(spec.origin)).parent / name).is_file()  # type: ignore[union-attr]


def _use_a_writable_temporary_folder() -> None:
    """Make GDAL, SQLite and child processes use the folder that Python falls back to."""
    given = next((os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)), None)
    if given is None:
        return
    try:
        used = tempfile.gettempdir()
    except FileNotFoundError:
        return  # `check_installation` raises an error
    if Path(used).resolve() != Path(given).resolve():
        os.environ["TMPDIR"] = used
        found = f"The temporary folder {given} can't be written; {used} is used."
        _repairs.append(Repair("temporary", found, "set TMPDIR to a folder with room"))


def _give_users_without_an_entry_a_name() -> None:
    """Name another uid of a container, for libraries that ask `getpass`."""
    try:
        getpass.getuser()
    except (OSError, KeyError, ImportError):
        os.environ["USER"] = f"uid{os.getuid()}"


def _give_caches_a_place() -> None:
    """Give libraries a temporary folder where there is no home folder, or caches can't be written there."""
    here = home()
    try:
        if here is None:
            here = _folder()
            os.environ["HOME"] = str(here)
            _repairs.append(Repair("home", "There is no home folder (HOME).", _SET_HOME))
        elif not can_be_written(here):
            _repairs.append(Repair("home", f"The home folder {here} can't be written.", _SET_HOME))
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or here / ".config")
        for name, default in (("XDG_CACHE_HOME", here / ".cache"), ("MPLCONFIGDIR", settings / "matplotlib")):
            if not can_be_written(Path(os.environ.get(name) or default)):
                os.environ[name] = str(_folder() / name.lower())
    except OSError:
        return  # no temporary folder either, for which `check_installation` raises an error


@cache
def _folder() -> Path:
    """Make a folder that is removed when this process ends."""
    folder, owner = Path(tempfile.mkdtemp(prefix="truckscape-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
