"""The plugin as a zip that QGIS installs, the same bytes on every machine: `make qgis-plugin`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

PLUGIN = Path(__file__).with_name("plugin")
LICENCE = PLUGIN.parents[1] / "LICENSE"
FOLDER = "truckscape"
"""The only folder of the zip, which is the name of the plugin in QGIS."""
_KINDS = (".py", ".svg", ".txt")
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(target: Path) -> None:
    """Write the zip; it is not compressed, since compressors differ between machines."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in [LICENCE, *sorted(PLUGIN.iterdir())]:
            if path == LICENCE or path.suffix in _KINDS:
                entry = zipfile.ZipInfo(f"{FOLDER}/{path.name}", _DATE)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
