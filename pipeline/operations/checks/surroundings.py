"""Checks of the surroundings of a run: environment, home folder, proxies, encoding of names."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.environment import LOOPBACK, can_be_written, home, proxy_variables, repairs
from pipeline.operations.checks.finding import Finding, ok, warning
from pipeline.redaction import without_secrets

_SOCKS_PACKAGES = {"socks": "PySocks", "socksio": "socksio"}
_OURS = ("numpy", "rasterio", "pyproj", "torch", "prefect")


def environment() -> list[Finding]:
    """List what this process ignores or replaces in its environment, and packages of another installation."""
    findings = [warning(repair.subject, repair.found, repair.fix) for repair in repairs()]
    findings += [*_python_path(), *_encoding()]
    return findings or [ok("environment", "nothing leads to another installation")]


def prefect_home() -> list[Finding]:
    """Check that Prefect's folder can be written."""
    given = os.environ.get("PREFECT_HOME")
    folder = Path(given).expanduser() if given else (home() or Path()) / ".prefect"
    if can_be_written(folder):
        return [ok("home", f"Prefect's folder {folder} can be written")]
    fix = "set PREFECT_HOME to a folder that can be written, or give --no-prefect"
    return [warning("home", f"Prefect's folder {folder} can't be written: records of runs are lost", fix)]


def proxies() -> list[Finding]:
    """List the proxies of the environment, and packages that a SOCKS proxy needs."""
    named = proxy_variables()
    if not named:
        return [ok("proxy", "none in the environment")]
    shown = ", ".join(f"{name}={without_secrets(url)}" for name, url in named.items())
    findings = [ok("proxy", f"{shown}; not for {', '.join(LOOPBACK)}")]
    schemes = {urlsplit(url).scheme.lower() for url in named.values() if "://" in url}
    missing = [package for module, package in _SOCKS_PACKAGES.items() if find_spec(module) is None]
    if any(scheme.startswith("socks") for scheme in schemes) and missing:
        found = f"SOCKS, for which {' and '.join(missing)} are not installed: searches and downloads fail"
        findings.append(warning("proxy", found, f"pip install {' '.join(missing)}"))
    return findings


def _python_path() -> list[Finding]:
    """Find packages of ours that PYTHONPATH takes from elsewhere, as QGIS and ArcGIS set it."""
    folders = [Path(part).resolve() for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    specs = {name: find_spec(name) for name in _OURS}
    origins = {name: Path(spec.origin).resolve() for name, spec in specs.items() if spec and spec.origin}
    elsewhere = [name for name, file in origins.items() if any(part in file.parents for part in folders)]
    if not elsewhere:
        return []
    return [
        warning("environment", f"PYTHONPATH brings {', '.join(elsewhere)} of elsewhere", "unset PYTHONPATH")
    ]


def _encoding() -> list[Finding]:
    names = sys.getfilesystemencoding()
    if names.lower().replace("-", "") == "utf8":
        return []
    found = f"names of files are {names}: those with other letters can't be opened"
    return [warning("environment", found, "set LC_ALL=C.UTF-8 or PYTHONUTF8=1")]
