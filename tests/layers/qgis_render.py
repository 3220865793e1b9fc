"""What QGIS makes of a run's folder; started with the Python that QGIS is installed for, not with ours.

    QT_QPA_PLATFORM=offscreen /usr/bin/python3 tests/layers/qgis_render.py FOLDER PICTURE [X Y]

says as JSON what QGIS sees in every file, with the style that it finds by itself, and draws a page: the
scene's middle at 1 : 25,000, the place X, Y (in the scene's CRS) at 1 : 5,000, and the legend.
"""

import json
import sys
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsLayoutExporter,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsLegendStyle,
    QgsMapLayer,
    QgsPalettedRasterRenderer,
    QgsPointXY,
    QgsPrintLayout,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsRenderContext,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QFont

PAGE_MM, DPI = (297, 190), 120  # 1403 x 898 px
MAP_MM, MAP_SCALE = (0, 0, 205, 190), 25_000
INSET_MM, INSET_SCALE = (207, 0, 90, 60), 5_000
LEGEND_MM = (207, 61)
LANDCOVER = "landcover.gpkg|landcover"
DRAWN = [
    "trucks.gpkg|trucks",
    "trucks.gpkg|road_segments",
    "trucks.gpkg|seen",
    "trucks.gpkg|not_seen",
    LANDCOVER,
]


def open_layers(folder: Path) -> dict[str, QgsMapLayer]:
    """Every layer of every file, by `file` or `file|layer`, as if the file was dragged into the window."""
    layers: dict[str, QgsMapLayer] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tif":
            layers[path.name] = QgsRasterLayer(str(path), path.stem, "gdal")
        elif path.suffix == ".gpkg":
            whole = QgsVectorLayer(str(path), path.stem, "ogr")
            names = [sublayer.split("!!::!!")[1] for sublayer in whole.dataProvider().subLayers()]
            for name in names:
                if name != "layer_styles":
                    uri = f"{path}|layername={name}"
                    layers[f"{path.name}|{name}"] = QgsVectorLayer(uri, name.replace("_", " "), "ogr")
        elif path.suffix in {".geojson", ".fgb", ".parquet"}:
            layers[path.name] = QgsVectorLayer(str(path), path.stem, "ogr")
    return layers


def describe(layer: QgsMapLayer) -> dict[str, Any]:
    """What a person would see in the layer's properties and legend."""
    if not layer.isValid():
        return {"valid": False}
    extent, renderer = layer.extent(), layer.renderer()
    seen = {
        "valid": True,
        "crs": layer.crs().authid(),
        "extent": [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()],
        "renderer": renderer.type(),
    }
    if isinstance(layer, QgsRasterLayer):
        paletted = isinstance(renderer, QgsPalettedRasterRenderer)
        legend = {entry.label: entry.color.name() for entry in renderer.classes()} if paletted else {}
        size, middle = [layer.width(), layer.height()], layer.extent().center()
        bands = range(1, layer.bandCount() + 1)
        values = [layer.dataProvider().sample(middle, band)[0] for band in bands]
        return {**seen, "size": size, "middle": values, "legend": legend, "stretched": stretched(layer)}
    return {
        **seen,
        "count": layer.featureCount(),
        "fields": {field.name(): field.typeName() for field in layer.fields()},
        "attribute": renderer.classAttribute() if hasattr(renderer, "classAttribute") else None,
        "legend": [item.label() for item in renderer.legendSymbolItems()],
        "labels": layer.labelsEnabled(),
        "without_symbol": without_symbol(layer),
    }


def stretched(layer: QgsRasterLayer) -> bool:
    """Whether colours are drawn other than they are."""
    if layer.bandCount() == 1:
        return False
    red = layer.renderer().redContrastEnhancement()
    return bool(red and red.contrastEnhancementAlgorithm() != QgsContrastEnhancement.NoEnhancement)


def without_symbol(layer: QgsVectorLayer) -> int:
    """How many features the style leaves out."""
    context = QgsRenderContext()
    context.expressionContext().appendScope(layer.createExpressionContextScope())
    renderer = layer.renderer().clone()
    renderer.startRender(context, layer.fields())
    missing = 0
    for feature in layer.getFeatures():
        context.expressionContext().setFeature(feature)
        missing += renderer.symbolForFeature(feature, context) is None
    renderer.stopRender(context)
    return missing


def draw(project: QgsProject, layers: list[QgsMapLayer], place: QgsPointXY, picture: Path) -> None:
    """The page of two maps and a legend of the layers, topmost first, as PNG."""
    layout = QgsPrintLayout(project)
    layout.initializeDefaults()
    layout.pageCollection().page(0).setPageSize(QgsLayoutSize(*PAGE_MM))
    main = add_map(layout, layers, MAP_MM, layers[-1].extent().center(), MAP_SCALE)
    add_map(layout, layers, INSET_MM, place, INSET_SCALE)
    legend = QgsLayoutItemLegend(layout)
    legend.setLinkedMap(main)
    legend.setColumnCount(2)
    legend.setSplitLayer(False)
    for part, points in ((QgsLegendStyle.Subgroup, 8), (QgsLegendStyle.SymbolLabel, 7)):
        legend.setStyleFont(part, QFont("sans", points))
    legend.attemptMove(QgsLayoutPoint(*LEGEND_MM))
    layout.addLayoutItem(legend)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = DPI
    settings.generateWorldFile = settings.exportMetadata = False
    failed = QgsLayoutExporter(layout).exportToImage(str(picture), settings)
    if failed != QgsLayoutExporter.Success:
        raise SystemExit(f"QGIS cannot write {picture}: {failed}")


def add_map(
    layout: QgsPrintLayout, layers: list[QgsMapLayer], place_mm: tuple, centre: QgsPointXY, scale: int
) -> QgsLayoutItemMap:
    """A map of the layers at 1 : `scale`, at x, y, width and height on the page."""
    x, y, width, height = place_mm
    half_x, half_y = width * scale / 2000, height * scale / 2000
    item = QgsLayoutItemMap(layout)
    item.attemptMove(QgsLayoutPoint(x, y))
    item.attemptResize(QgsLayoutSize(width, height))
    item.setCrs(layers[0].crs())
    item.setLayers(layers)
    item.setExtent(
        QgsRectangle(centre.x() - half_x, centre.y() - half_y, centre.x() + half_x, centre.y() + half_y)
    )
    item.setFrameEnabled(True)
    layout.addLayoutItem(item)
    return item


def main() -> None:
    """Say what QGIS sees, and draw."""
    folder, picture = Path(sys.argv[1]), Path(sys.argv[2])
    application = QgsApplication([], False)
    application.initQgis()
    project = QgsProject.instance()
    layers = open_layers(folder)
    report = {name: describe(layer) for name, layer in layers.items()}
    drawn = [layers[name] for name in DRAWN]
    project.addMapLayers(drawn)
    project.setCrs(drawn[0].crs())
    drawn[-1].setOpacity(0.5)
    place = drawn[-1].extent().center()
    if len(sys.argv) > 3:
        place = QgsPointXY(*(float(part) for part in sys.argv[3:5]))
    draw(project, drawn, place, picture)
    sys.stdout.write(json.dumps(report))
    project.clear()
    del drawn, layers  # before what they live in
    application.exitQgis()


if __name__ == "__main__":
    main()
