"""The plugin and its Processing provider; the only setting is the command to start."""

from __future__ import annotations

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import ALGORITHMS, COMMAND_SETTING

ICON = Path(__file__).with_name("icon.svg")


class Plugin:
    """The plugin: adds the provider to Processing's registry, and removes it."""

    def __init__(self) -> None:
        self.provider: Provider | None = None

    def initProcessing(self) -> None:  # noqa: N802
        """Add the provider; also called without a window, by `qgis_process`."""
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:  # noqa: N802
        """Add the provider."""
        self.initProcessing()

    def unload(self) -> None:
        """Remove the provider."""
        QgsApplication.processingRegistry().removeProvider(self.provider)


class Provider(QgsProcessingProvider):
    """The algorithms of truckscape in the toolbox."""

    def id(self) -> str:
        """Return the name of the provider in ids of algorithms."""
        return "truckscape"

    def name(self) -> str:
        """Return the name in the toolbox."""
        return "truckscape"

    def icon(self) -> QIcon:
        """Return the icon in the toolbox and the options."""
        return QIcon(str(ICON))

    def svgIconPath(self) -> str:  # noqa: N802
        """Return the path of the icon."""
        return str(ICON)

    def load(self) -> bool:
        """Add the setting to the options, and load the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        ProcessingConfig.addSetting(
            Setting(
                self.name(),
                COMMAND_SETTING,
                "Command truckscape (empty: the one on the PATH)",
                "",
                valuetype=Setting.FILE,
            )
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Remove the setting."""
        ProcessingConfig.removeSetting(COMMAND_SETTING)

    def loadAlgorithms(self) -> None:  # noqa: N802
        """Add the algorithms."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
