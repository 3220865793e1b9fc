"""The layers of a job whose shards were merged, as files in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd

from pipeline.evaluation import evaluate as evaluation
from pipeline.inference.predictions import Detections
from pipeline.layers.formats.export import write_formats
from pipeline.layers.formats.geojson import write_geojson
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.landcover import polygonise, write_cog
from pipeline.layers.panoptic import write_panoptic
from pipeline.layers.stac import build_item, write_catalog, write_item
from pipeline.layers.styles import (
    landcover_style,
    not_seen_style,
    road_segment_style,
    seen_style,
    truck_style,
)
from pipeline.layers.traffic import road_traffic, write_traffic
from pipeline.layers.trucks import found_trucks, nearly_trucks
from pipeline.models.bundle import Bundle
from pipeline.models.legend import LegendClass
from pipeline.report.evaluation import write_evaluation
from pipeline.report.page import ReportContext, copernicus_notice
from pipeline.report.pictures import quicklook
from pipeline.run.prepare import Job
from pipeline.storage.atomic import replacing


def trucks_of(
    job: Job, detections: Detections, status: Path, landcover: Path | None, legend: Sequence[LegendClass]
) -> gpd.GeoDataFrame:
    """The trucks of a job whose shards were merged; see `found_trucks`."""
    bundle: Bundle = job.models.detector  # type: ignore[assignment]
    threshold: float = job.score_threshold  # type: ignore[assignment]
    return found_trucks(
        detections,
        job.scene,
        status,
        job.request.config.trucks,
        threshold,
        model=f"{bundle.card.id}-{bundle.card.version}",
        landcover=landcover,
        legend=legend,
        roads=job.roads,
    )


def below_threshold_of(job: Job, detections: Detections, status: Path) -> gpd.GeoDataFrame | None:
    """Detections just below the threshold of a job whose shards were merged; None without trucks."""
    if job.models.detector is None or job.score_threshold is None:
        return None
    return nearly_trucks(detections, job.scene, status, job.score_threshold)


def traffic_of(
    job: Job, trucks: gpd.GeoDataFrame, status: Path, outputs: dict[str, Path]
) -> dict[str, gpd.GeoDataFrame]:
    """Trucks and segments of a job with roads; its table is written beside those of other scenes."""
    config = job.request.config
    bundle: Bundle = job.models.detector  # type: ignore[assignment]
    model = f"{bundle.card.id}-{bundle.card.version}"
    traffic = road_traffic(
        trucks,
        job.roads,
        job.scene,
        status,
        config.traffic,
        buffer_m=config.trucks.road_buffer_m,
        model=model,
        quality=bundle.card.quality,
        attribution=_attribution(job.roads),
    )
    table = job.request.out / "traffic.parquet"
    outputs[table.name] = write_traffic(traffic.table, table, job.scene.id, model)
    layers = {"trucks": traffic.trucks, "road_segments": traffic.segments}
    return {name: layer for name, layer in layers.items() if name == "trucks" or len(layer)}


def write_trucks(
    folder: Path,
    layers: Mapping[str, gpd.GeoDataFrame],
    seen: gpd.GeoDataFrame,
    not_seen: gpd.GeoDataFrame,
    outputs: dict[str, Path],
) -> None:
    """Write trucks, segments of roads and what was seen as `trucks.geojson` and `trucks.gpkg`."""
    outputs["trucks.geojson"], outputs["trucks.gpkg"] = folder / "trucks.geojson", folder / "trucks.gpkg"
    write_geojson(layers["trucks"], outputs["trucks.geojson"])
    of_trucks = {name: layers[name] for name in ("trucks", "road_segments") if name in layers}
    write_gpkg(
        outputs["trucks.gpkg"],
        {**of_trucks, "seen": seen, "not_seen": not_seen},
        _styles(),
    )


def write_raster(job: Job, raster: Path, legend: Sequence[LegendClass], outputs: dict[str, Path]) -> None:
    """Write the land-cover raster as a COG; `outputs` gets it, and the polygons, which may still be drawn."""
    outputs |= {name: job.folder / name for name in ("landcover.tif", "landcover.gpkg")}
    write_cog(raster, outputs["landcover.tif"], legend)


def write_polygons(job: Job, raster: Path, legend: Sequence[LegendClass]) -> gpd.GeoDataFrame:
    """Outline the areas of the land-cover raster, write them as `landcover.gpkg`, and return them."""
    settings = job.request.config.landcover
    polygons = polygonise(raster, legend, settings.min_area_m2, settings.simplify_m)
    write_gpkg(job.folder / "landcover.gpkg", {"landcover": polygons}, _styles(legend))
    return polygons


def write_further_formats(
    job: Job,
    layers: Mapping[str, gpd.GeoDataFrame],
    landcover: Path | None,
    legend: Sequence[LegendClass],
    outputs: dict[str, Path],
) -> None:
    """Further formats, and QGIS styles beside what can't hold one: `<layer>.qml` is for all of that name."""
    if job.request.config.panoptic.enabled and landcover:
        outputs |= write_panoptic(job.folder, job.scene, landcover, layers["trucks"], legend)
    notice = copernicus_notice(job.scene)
    outputs.update(write_formats(layers, job.folder, job.request.config.export.formats, notice))
    unstyled = {path.stem for path in outputs.values() if path.suffix != ".gpkg"}
    for name, qml in _styles(legend).items():
        if name in layers and name in unstyled:
            outputs[f"{name}.qml"] = job.folder / f"{name}.qml"
            with replacing(outputs[f"{name}.qml"]) as part:
                part.write_text(qml, encoding="utf-8")


def write_stac(
    job: Job,
    run: Mapping[str, Any],
    outputs: Mapping[str, Path],
    legend: Sequence[LegendClass],
    layers: Mapping[str, gpd.GeoDataFrame],
) -> None:
    """The run's item, and anew the catalogue of all runs beside it."""
    write_item(build_item(job.scene, run, outputs, list(legend), layers), job.folder / "item.json")
    if job.request.catalog:
        write_catalog(job.request.out)


def report_context(
    job: Job,
    legend: Sequence[LegendClass],
    outputs: Mapping[str, Path],
    not_seen: gpd.GeoDataFrame,
    segments: gpd.GeoDataFrame | None,
    fraction: float,
    seconds: Mapping[str, float],
) -> ReportContext:
    """What the pages about this run tell of it besides its layers."""
    return ReportContext(
        title=job.scene.id,
        scene=job.scene,
        picture=quicklook(job.scene),
        cards=tuple(bundle.card for bundle in (job.models.detector, job.models.segmenter) if bundle),
        seen_fraction=fraction,
        not_seen=not_seen,
        road_segments=segments,
        landcover_raster=outputs.get("landcover.tif"),
        legend=tuple(legend) or ReportContext.legend,
        roads_source=_attribution(job.roads),
        seconds=seconds,
    )


def evaluate(
    job: Job,
    context: ReportContext,
    trucks: gpd.GeoDataFrame | None,
    seen: gpd.GeoDataFrame,
    nearly: gpd.GeoDataFrame | None,
    outputs: Mapping[str, Path],
) -> dict[str, Any]:
    """Compare layers with the labels of the request, in `evaluation/`; returns the metrics."""
    found = evaluation.evaluate(
        trucks=trucks,
        truck_labels=job.request.truck_labels,
        seen=seen,
        not_seen=context.not_seen,
        below_threshold=nearly,
        roads=job.roads,
        landcover=outputs.get("landcover.tif"),
        landcover_labels=job.request.landcover_labels,
        legend=context.legend,
        scene=job.scene,
    )
    return write_evaluation(job.folder / "evaluation", found, context)


def _styles(legend: Sequence[LegendClass] = ()) -> dict[str, str]:
    return {
        "trucks": truck_style(),
        "road_segments": road_segment_style(),
        "seen": seen_style(),
        "not_seen": not_seen_style(),
        "landcover": landcover_style(legend),
    }


def _attribution(roads: gpd.GeoDataFrame | None) -> str | None:
    if roads is None or not len(roads):
        return None
    return "Roads: as given; where they come from OpenStreetMap, (c) OpenStreetMap contributors, ODbL"
