"""The plugin in QGIS without a window; started with the Python that QGIS is installed for, not with ours.

    QGIS_CUSTOM_CONFIG_PATH=DIR QT_QPA_PLATFORM=offscreen /usr/bin/python3 tests/qgis/drive.py JOBS COMMAND

loads the plugin from the profile, runs the algorithms of JOBS (JSON: a list of id and parameters) with the
command truckscape in COMMAND, and says as JSON what each has returned and what the project then has.
"""

import json
import sys
from typing import Any

from qgis.core import QgsApplication, QgsLayerTreeGroup, QgsProcessingException, QgsProject

APPLICATION = QgsApplication([], False)
APPLICATION.initQgis()
sys.path.append(QgsApplication.pkgDataPath() + "/python/plugins")

import processing  # noqa: E402 they need an application
import qgis.utils  # noqa: E402
from processing.core.Processing import Processing  # noqa: E402
from processing.core.ProcessingConfig import ProcessingConfig  # noqa: E402
from qgis.core import QgsProcessingFeedback  # noqa: E402


class Feedback(QgsProcessingFeedback):
    """Keeps what a user would see; cancels at a line."""

    def __init__(self, cancel_at: str | None) -> None:
        super().__init__(False)
        self.lines: list[str] = []
        self.percentages: list[float] = []
        self.cancel_at = cancel_at
        self.progressChanged.connect(self.percentages.append)

    def pushInfo(self, info: str) -> None:  # noqa: N802
        """Keep a line."""
        self.lines.append(info)
        if self.cancel_at and self.cancel_at in info:
            self.cancel()


def load_plugin() -> None:
    """Load and start the plugin as QGIS does."""
    Processing.initialize()
    qgis.utils.plugin_paths = [QgsApplication.qgisSettingsDirPath() + "python/plugins"]
    sys.path[:0] = qgis.utils.plugin_paths
    qgis.utils.updateAvailablePlugins()
    if not (qgis.utils.loadPlugin("truckscape") and qgis.utils.startProcessingPlugin("truckscape")):
        raise SystemExit("the plugin does not load")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run an algorithm in an empty project."""
    project = QgsProject.instance()
    project.clear()
    feedback = Feedback(job.get("cancel_at"))
    said = {}
    try:
        said["returned"] = processing.run(job["id"], job["parameters"], feedback=feedback)
    except QgsProcessingException as error:
        said["error"] = str(error)
    root = project.layerTreeRoot()
    return {**said, "lines": feedback.lines, "percentages": feedback.percentages, "tree": tree(root)}


def tree(group: QgsLayerTreeGroup) -> list[dict[str, Any]]:
    """Return what a group has, from the top."""
    found = []
    for node in group.children():
        seen = {"name": node.name(), "shown": node.itemVisibilityChecked()}
        if isinstance(node, QgsLayerTreeGroup):
            found.append({**seen, "inside": tree(node)})
        else:
            layer = node.layer()
            count = layer.featureCount() if hasattr(layer, "featureCount") else None
            found.append({**seen, "renderer": layer.renderer().type(), "count": count})
    return found


def main() -> None:
    """Load, run, report."""
    load_plugin()
    ProcessingConfig.setSettingValue("TRUCKSCAPE_COMMAND", sys.argv[2])
    provider = QgsApplication.processingRegistry().providerById("truckscape")
    report = {
        "algorithms": {algorithm.id(): algorithm.displayName() for algorithm in provider.algorithms()},
        "icon": not provider.icon().isNull(),
        "jobs": [run(job) for job in json.loads(sys.argv[1])],
    }
    sys.stdout.write(json.dumps(report))
    sys.stdout.flush()
    qgis.utils.unloadPlugin("truckscape")
    QgsProject.instance().clear()


if __name__ == "__main__":
    main()
    APPLICATION.exitQgis()
