"""The algorithms of the toolbox: parameters as options of the command line, results as grouped layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsRasterLayer,
)
from qgis.PyQt.QtGui import QIcon

from .command import CommandError, find_command, path_after, run_command
from .layers import open_results

COMMAND_SETTING = "TRUCKSCAPE_COMMAND"
DOCUMENTATION = "https://github.com/truckscape/truckscape/blob/main/docs/qgis.md"
OUT, LOAD, REPORT = "OUT", "LOAD", "REPORT"
_READABLE = ["gpkg", "geojson", "fgb", "shp"]
"""Vector files that truckscape reads as they are; other layers are written as the first of these."""


class Algorithm(QgsProcessingAlgorithm):
    """An algorithm that makes a folder of results, which is opened in the project afterwards."""

    key = title = help = ""
    folder_title = ""
    """Title of the line in which the command prints the folder to open; empty if that is `OUT`."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = ""

    def name(self) -> str:
        """Return the name in ids."""
        return self.key

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return self.title

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the text beside the parameters."""
        return self.help

    def helpUrl(self) -> str:  # noqa: N802
        """Return the page of the plugin."""
        return DOCUMENTATION

    def icon(self) -> QIcon:
        """Return the icon of the provider."""
        return self.provider().icon() if self.provider() else QIcon()

    def createInstance(self) -> Algorithm:  # noqa: N802
        """Return a new algorithm of this kind, for each run."""
        return type(self)()

    def options(
        self, given: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """Return the arguments of the command without `--out`."""
        raise NotImplementedError

    def add(self, parameter: QgsProcessingParameterDefinition, advanced: bool = False) -> None:
        """Add a parameter; advanced ones are folded."""
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(parameter)

    def add_results(self) -> None:
        """Add the folder for the results and what is done with them."""
        self.add(QgsProcessingParameterFolderDestination(OUT, "Folder for the results"))
        self.add(QgsProcessingParameterBoolean(LOAD, "Open the layers when done", True))
        self.addOutput(QgsProcessingOutputHtml(REPORT, "Report"))

    def processAlgorithm(  # noqa: N802
        self, given: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the command; nothing is returned if the user cancels."""
        out = self.parameterAsFileOutput(given, OUT, context)
        try:
            program = find_command(str(ProcessingConfig.getSetting(COMMAND_SETTING) or ""))
            arguments = self.options(given, context, feedback)
            lines = run_command([program, *arguments, "--out", out], feedback)
        except CommandError as error:
            raise QgsProcessingException(str(error)) from error
        if feedback.isCanceled():
            return {}
        folder = path_after(lines, self.folder_title) if self.folder_title else out
        if self.parameterAsBool(given, LOAD, context):
            self.folder = folder
        report = path_after(lines, "report") or path_after(lines, "index.html")
        return {OUT: folder, REPORT: report}

    def postProcessAlgorithm(  # noqa: N802
        self, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Open the results; in QGIS's main thread, as layers need."""
        if self.folder and context.project():
            layers = open_results(Path(self.folder), context.project())
            feedback.pushInfo(f"{len(layers)} layers opened from {self.folder}")
        return {}

    def layer_file(
        self,
        given: dict[str, Any],
        name: str,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> str:
        """Return the layer of a parameter as FILE or FILE:LAYER, empty if none is given."""
        if not given.get(name):
            return ""
        layer = self.parameterAsLayer(given, name, context)
        if isinstance(layer, QgsRasterLayer):
            return str(layer.source())
        path, inside = self.parameterAsCompatibleSourceLayerPathAndLayerName(
            given, name, context, _READABLE, _READABLE[0], feedback
        )
        return f"{path}:{inside}" if inside and path.lower().endswith(".gpkg") else path


class RunScene(Algorithm):
    """`truckscape run`: one scene."""

    key, title = "run", "Detect trucks and map land cover"
    folder_title = "layers"
    help = (
        "Detects moving trucks in a Sentinel-2 scene and maps its land cover.\n\n"
        "Scene: a zip, a GeoTIFF with band descriptions, the MTD_MSI*.xml in a .SAFE folder, a STAC item; "
        "or the path of a folder or a URL, typed in.\n\n"
        "With roads only their surroundings are searched, more trucks are found there, and traffic is "
        "counted by road. Labels give scores and a map of every mistake.\n\n"
        "The same parameters and folder resume a run that was cancelled."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Add the parameters."""
        lines, areas = [QgsProcessing.TypeVectorLine], [QgsProcessing.TypeVectorPolygon]
        self.add(QgsProcessingParameterFile("SCENE", "Scene"))
        self.add(QgsProcessingParameterVectorLayer("ROADS", "Roads", lines, optional=True))
        self.add(QgsProcessingParameterBoolean("OVERPASS", "Fetch roads of OpenStreetMap (network)", False))
        self.add(QgsProcessingParameterVectorLayer("TRUCK_LABELS", "Truck labels", areas, optional=True))
        self.add(QgsProcessingParameterMapLayer("LANDCOVER_LABELS", "Land-cover labels", optional=True))
        texts = {
            "BANDS": "Bands of a GeoTIFF without descriptions, e.g. B04,B03,B02,B08",
            "NODATA": "Number without data, or none",
            "ACQUIRED": "Time of acquisition, e.g. 2023-06-13T10:20:31Z",
        }
        for name, text in texts.items():
            self.add(QgsProcessingParameterString(name, text, optional=True), advanced=True)
        for name, text in {"SCALE": "Reflectance = number * scale", "OFFSET": "+ offset"}.items():
            number = QgsProcessingParameterNumber(
                name, text, QgsProcessingParameterNumber.Double, None, optional=True
            )
            self.add(number, advanced=True)
        config = QgsProcessingParameterFile("CONFIG", "Settings as YAML", extension="yaml", optional=True)
        self.add(config, advanced=True)
        settings = "More settings, one a line, e.g. landcover.enabled=false"
        self.add(QgsProcessingParameterString("SETTINGS", settings, "", True, True), advanced=True)
        self.add_results()

    def options(
        self, given: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """Return the arguments of `truckscape run`."""
        roads = self.layer_file(given, "ROADS", context, feedback)
        if self.parameterAsBool(given, "OVERPASS", context):
            if roads:
                raise CommandError("Roads are a layer, or those of OpenStreetMap. Choose one of the two.")
            roads = "overpass"
        values = {
            "--roads": roads,
            "--truck-labels": self.layer_file(given, "TRUCK_LABELS", context, feedback),
            "--landcover-labels": self.layer_file(given, "LANDCOVER_LABELS", context, feedback),
            "--config": self.parameterAsFile(given, "CONFIG", context),
        }
        for name in ("BANDS", "NODATA", "ACQUIRED"):
            values[f"--{name.lower()}"] = self.parameterAsString(given, name, context).strip()
        for name in ("SCALE", "OFFSET"):
            if given.get(name) is not None:
                values[f"--{name.lower()}"] = repr(self.parameterAsDouble(given, name, context))
        settings = self.parameterAsString(given, "SETTINGS", context).splitlines()
        return [
            "run",
            *(part for option, value in values.items() if value for part in (option, value)),
            *(part for line in settings if line.strip() for part in ("--set", line.strip())),
            "--no-prefect",
            self.parameterAsString(given, "SCENE", context),
        ]


class EvaluateTrucks(Algorithm):
    """`truckscape evaluate trucks`: the trucks of a run against labels."""

    key, title = "evaluatetrucks", "Score trucks"
    subject = "trucks"
    help = (
        "Compares the trucks of a run with labels: precision, recall, F1, and every mistake on the map with "
        "its likely cause.\n\nThe scene is only needed for pictures in the report."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Add the parameters."""
        self.add(_folder("RUN", "Folder of the scene's results"))
        self.add_labels()
        self.add(QgsProcessingParameterFile("SCENE", "Scene, for pictures", optional=True))
        self.add_results()

    def add_labels(self) -> None:
        """Add what the predictions are compared with."""
        areas = [QgsProcessing.TypeVectorPolygon]
        lines = [QgsProcessing.TypeVectorLine]
        self.add(QgsProcessingParameterVectorLayer("LABELS", "Truck labels", areas))
        self.add(QgsProcessingParameterVectorLayer("ROADS", "Roads of the run", lines, optional=True))

    def options(
        self, given: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """Return the arguments of `truckscape evaluate`."""
        labels = self.layer_file(given, "LABELS", context, feedback)
        roads = self.layer_file(given, "ROADS", context, feedback)
        scene = self.parameterAsString(given, "SCENE", context)
        return [
            *("evaluate", self.subject, self.parameterAsString(given, "RUN", context), labels),
            *(("--roads", roads) if roads else ()),
            *(("--scene", scene) if scene else ()),
        ]


class EvaluateLandcover(EvaluateTrucks):
    """`truckscape evaluate landcover`: the land cover of a run against labels."""

    key, title = "evaluatelandcover", "Score land cover"
    subject = "landcover"
    help = (
        "Compares the land cover of a run with labels, a raster, polygons or points: accuracy, IoU and F1 of "
        "each class, and every disagreement on the map.\n\n"
        "The scene is only needed for pictures in the report."
    )

    def add_labels(self) -> None:
        """Add what the land cover is compared with."""
        self.add(QgsProcessingParameterMapLayer("LABELS", "Land-cover labels"))


class Traffic(Algorithm):
    """`truckscape traffic`: finished runs of one place by road."""

    key, title = "traffic", "Traffic of several dates"
    help = (
        "Combines finished runs of one place: the trucks of all dates as one layer with times, for the "
        "temporal controller, and with roads the traffic by road, direction and date as tables and a page."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Add the parameters."""
        self.add(_folder("RUNS", "Folder with the results of the scenes"))
        recurring = "Count recurring detections, at one place on many dates, too"
        self.add(QgsProcessingParameterBoolean("KEEP_RECURRING", recurring, False))
        self.add_results()

    def options(
        self, given: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        """Return the arguments of `truckscape traffic`."""
        keep = self.parameterAsBool(given, "KEEP_RECURRING", context)
        runs = self.parameterAsString(given, "RUNS", context)
        return ["traffic", runs, *(("--keep-recurring",) if keep else ())]


class OpenResults(Algorithm):
    """Open the layers of a run, of all scenes of a folder, or of an evaluation; no command is started."""

    key, title = "open", "Open results"
    help = "Opens the layers of a folder of results with their styles, a group for each scene in it."

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Add the parameter."""
        self.add(_folder("RESULTS", "Folder of results"))

    def processAlgorithm(  # noqa: N802
        self, given: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Note the folder; the layers are opened afterwards."""
        self.folder = self.parameterAsString(given, "RESULTS", context)
        return {}


def _folder(name: str, text: str) -> QgsProcessingParameterFile:
    return QgsProcessingParameterFile(name, text, QgsProcessingParameterFile.Folder)


ALGORITHMS = (RunScene, EvaluateTrucks, EvaluateLandcover, Traffic, OpenResults)
