"""QGIS plugin: truckscape in the Processing toolbox, as a thin wrapper around the command line."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:  # noqa: N802 the name that QGIS calls
    """Return the plugin; `iface` is QGIS's window, None without one."""
    from .provider import Plugin

    return Plugin()
