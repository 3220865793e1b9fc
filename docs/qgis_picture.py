"""The picture of QGIS in the README: its window with the plugin, and a run that the plugin has opened.

    python docs/qgis_picture.py RUN X,Y,METRES PICTURE

shows METRES around a place of the run's CRS. A run in /tmp would be marked as temporary. Needs QGIS and a
virtual screen: `apt-get install qgis xvfb xauth`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SIZE = 1400, 900
PAUSE_MS = 5000
SETTINGS = """[PythonPlugins]
processing=true
truckscape=true
[qgis]
checkVersion=false
firstRunVersionFlag=99999
newsFeed=false
"""
SHOWN, GIVEN = {"Layers", "ProcessingToolbox"}, "TRUCKSCAPE_PICTURE"


def main(run: str, place: str, picture: str) -> None:
    """Start QGIS with the plugin in a fresh profile on a virtual screen."""
    here = Path(__file__).resolve()  # not known to code that QGIS executes
    given = [str(Path(run).resolve()), place, str(Path(picture).resolve())]
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profiles", "default")
        subprocess.run(
            [sys.executable, str(here.parents[1] / "qgis" / "pack.py"), str(Path(folder, "plugin.zip"))],
            check=True,
        )
        with zipfile.ZipFile(Path(folder, "plugin.zip")) as archive:
            archive.extractall(profile / "python" / "plugins")
        (profile / "QGIS").mkdir()
        (profile / "QGIS" / "QGIS3.ini").write_text(SETTINGS, encoding="utf-8")
        # Another Python on the path is not the one that QGIS was built for.
        env = {"PATH": "/usr/bin:/bin", "HOME": folder, "XDG_RUNTIME_DIR": folder, GIVEN: json.dumps(given)}
        screen = f"-screen 0 {SIZE[0]}x{SIZE[1]}x24"
        qgis = ["qgis", "--nologo", "--noversioncheck", "--profiles-path", folder, "--code", str(here)]
        subprocess.run(["/usr/bin/xvfb-run", "-a", "-s", screen, *qgis], env=env, check=False, timeout=600)
    if not Path(picture).is_file():
        raise SystemExit("QGIS has saved no picture")


def open_run() -> None:
    """Open the run as the toolbox does, and show both docks of the picture."""
    import processing
    from qgis.core import QgsProject
    from qgis.PyQt.QtCore import QTimer
    from qgis.PyQt.QtWidgets import QDockWidget, QLineEdit
    from qgis.utils import iface

    processing.run("truckscape:open", {"RESULTS": json.loads(os.environ[GIVEN])[0]})
    iface.mainWindow().resize(*SIZE)
    for dock in iface.mainWindow().findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in SHOWN)
        if dock.objectName() == "ProcessingToolbox":
            dock.findChild(QLineEdit).setText("truckscape")
    for layer in QgsProject.instance().layerTreeRoot().findLayers():
        layer.setExpanded(layer.name() in {"trucks", "road_segments", "landcover.tif"})
    QTimer.singleShot(PAUSE_MS, save)


def save() -> None:
    """Draw the place, save the window, and end without questions."""
    from qgis.core import QgsRectangle
    from qgis.utils import iface

    _, place, picture = json.loads(os.environ[GIVEN])
    x, y, reach = map(float, place.split(","))
    canvas = iface.mapCanvas()
    canvas.waitWhileRendering()
    canvas.setExtent(QgsRectangle(x - reach, y - reach, x + reach, y + reach))
    canvas.refresh()
    canvas.waitWhileRendering()
    iface.mainWindow().grab().save(picture)
    os._exit(0)


if GIVEN in os.environ:  # in QGIS
    from qgis.PyQt.QtCore import QTimer

    QTimer.singleShot(PAUSE_MS, open_run)
elif __name__ == "__main__":
    main(*sys.argv[1:])
