"""Settings of a process: made when asked for, never by an import."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import rasterio
from pystac_client.warnings import NoConformsTo

from pipeline.processes import configure_process

IMPORT_TWICE = """
import importlib, json, logging, os, pkgutil, sys, warnings

def import_all():
    for package in map(importlib.import_module, ("pipeline", "flows")):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

def state():
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return {
        "environment": dict(os.environ),
        "warnings": [str(entry) for entry in warnings.filters],
        "logs": [
            (logger.name, logger.level, len(logger.handlers), len(logger.filters))
            for logger in loggers
            if isinstance(logger, logging.Logger) and (logger.handlers or logger.filters or logger.level)
        ],
    }

environment, filters = dict(os.environ), list(warnings.filters)
import_all()  # with the side effects of other packages, which are loaded once only
os.environ.clear()
os.environ.update(environment)
warnings.filters[:] = filters
for logger in list(logging.root.manager.loggerDict.values()):
    if isinstance(logger, logging.Logger):
        logger.handlers.clear()
        logger.filters.clear()
for name in [name for name in sys.modules if name.split(".")[0] in ("pipeline", "flows")]:
    del sys.modules[name]
before = state()
import_all()
print(json.dumps([before, state()]))
"""


def test_imports_change_nothing_about_the_process():
    code = [sys.executable, "-W", "ignore", "-c", IMPORT_TWICE]
    done = subprocess.run(code, capture_output=True, text=True, check=True, env=without_settings())
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert after == before


def without_settings() -> dict[str, str]:
    """The environment as before the tests configured their process."""
    return {name: value for name, value in os.environ.items() if name != "GDAL_CACHEMAX"}


def test_a_configured_process_gives_gdal_little_memory_unless_told_and_hides_credentials():
    code = (
        "import logging, os; from pipeline.processes import configure_process; "
        "configure_process(); configure_process(); "
        "print(os.environ['GDAL_CACHEMAX'], *(len(logging.getLogger(name).handlers) for name in "
        "('rasterio', 'urllib3')))"
    )
    for environment, expected in (({}, "32 1 1"), ({"GDAL_CACHEMAX": "99"}, "99 1 1")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**without_settings(), **environment},
        )
        assert done.stdout.split() == expected.split()


def test_expected_warnings_are_silent(tmp_path):
    configure_process.cache_clear()
    path = tmp_path / "plain.tif"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        configure_process()
        with rasterio.open(path, "w", driver="GTiff", width=2, height=2, count=1, dtype="uint8") as dataset:
            dataset.write(np.zeros((1, 2, 2), np.uint8))
        with rasterio.open(path) as dataset:
            assert dataset.transform.is_identity
        warnings.warn(NoConformsTo(), stacklevel=1)
    assert not heard
