"""The list `PRODUCTS`: everything that a run makes from its merged predictions.

A further output is a function in `pipeline/layers/` and one entry of the list. Record and STAC item are none:
they describe what all products made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import geopandas as gpd

from pipeline.evaluation.evaluate import evaluate
from pipeline.inference.predictions import MinScores, Predictions
from pipeline.input_warnings import warn
from pipeline.layers.formats import writing
from pipeline.layers.formats.export import write_formats, write_geoparquet
from pipeline.layers.formats.geojson import write_geojson
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.landcover import polygonise, write_cog, write_probability_cog
from pipeline.layers.panoptic import write_panoptic
from pipeline.layers.search_area import SeenLayers, seen_layers
from pipeline.layers.styles import (
    landcover_style,
    look_alike_style,
    not_seen_style,
    road_segment_style,
    seen_style,
    truck_style,
    vehicle_style,
)
from pipeline.layers.traffic import Traffic, write_traffic
from pipeline.layers.trucks import below_threshold
from pipeline.models.bundle import Card
from pipeline.models.legend import LegendClass
from pipeline.plugins import PRODUCT_PLUGINS, Registry
from pipeline.report.evaluation import write_evaluation
from pipeline.report.gallery import truck_chips
from pipeline.report.page import REPORT, ReportContext, copernicus_notice, write_report
from pipeline.report.pictures import quicklook
from pipeline.run.candidates import Candidates, candidates_of
from pipeline.run.evaluated import FOLDER, kept_evaluation
from pipeline.run.prepare import Job
from pipeline.run.road_table import attribution_of, count_on_roads, road_table
from pipeline.storage.atomic import replacing
from pipeline.storage.out_folder import DETECTIONS, PROBABILITIES, TRAFFIC

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """The results of one product."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Files by the name of their asset in the STAC item."""
    layers: Mapping[str, gpd.GeoDataFrame] = field(default_factory=dict)
    """Layers by name, for later products: `export.formats` writes each. A name that is taken is replaced."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Figures for `run.json`."""


@dataclass
class RunContext:
    """A run whose shards are merged, and all that its products made so far. Products read it only."""

    job: Job
    predictions: Predictions
    say: Callable[[str], None] = log.info
    """Called with one line on each larger step."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage, so far."""
    warnings: Sequence[str] = ()
    """What looks odd in the inputs, so far."""
    files: dict[str, Path] = field(default_factory=dict)
    layers: dict[str, gpd.GeoDataFrame] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def add(self, outputs: Outputs) -> None:
        """Take what a product made."""
        self.files |= outputs.files
        self.layers |= outputs.layers
        self.metrics |= outputs.metrics

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return self.job.folder

    @property
    def status(self) -> Path:
        """Raster of the search for trucks, codes of `pipeline.inference.predictions`."""
        return Path(self.predictions.status_raster)

    @property
    def landcover(self) -> Path | None:
        """Raster of land-cover classes; None without a segmenter."""
        return Path(self.predictions.landcover_raster) if self.predictions.landcover_raster else None

    @property
    def probabilities(self) -> Path | None:
        """Raster of the probabilities of its classes; None if the run keeps none."""
        raster = self.predictions.probability_raster
        return Path(raster) if raster else None

    @property
    def legend(self) -> tuple[LegendClass, ...]:
        """Classes of that raster."""
        return self.job.models.segmenter.card.classes if self.job.models.segmenter else ()

    @property
    def detector(self) -> Card:
        """Card of the detector; for products of trucks."""
        return self.job.models.detector.card  # type: ignore[union-attr]

    @property
    def detector_name(self) -> str:
        """Name of the detector in layers and tables."""
        return f"{self.detector.id}-{self.detector.version}"

    @cached_property
    def candidates(self) -> Candidates:
        """Detections that may be trucks; for products of trucks."""
        return candidates_of(self.job, self.predictions, self.legend)

    @cached_property
    def counted(self) -> Traffic:
        """Trucks on the segments of roads; for products of traffic."""
        return count_on_roads(self.job, self.candidates, self.status, self.detector_name)

    @cached_property
    def search_area(self) -> SeenLayers:
        """Polygons of what was searched for trucks, and of what was not."""
        return seen_layers(self.status)

    @cached_property
    def report(self) -> ReportContext:
        """Return the context of the pages about this run."""
        job, models = self.job, self.job.models
        roads = None
        if len(self.layers.get("road_segments", ())):
            roads = road_table(job, self.counted, self.candidates, self.detector_name)
        return ReportContext(
            title=self.job.scene.id,
            scene=self.job.scene,
            picture=quicklook(self.job.scene, status=self.status),
            cards=tuple(bundle.card for bundle in (models.detector, models.segmenter) if bundle),
            seen_fraction=self.search_area.fraction,
            not_seen=self.search_area.not_seen,
            road_segments=self.layers.get("road_segments"),
            road_traffic=roads,
            landcover_raster=self.files.get("landcover.tif"),
            has_probabilities=PROBABILITIES in self.files,
            legend=self.legend or ReportContext.legend,
            roads_source=attribution_of(self.job.roads),
            seconds=self.seconds,
            warnings=self.warnings,
            trucks=self.layers.get("trucks"),
            vehicles=self.layers.get("vehicles"),
            folder=self.folder,
            files=self.files,
        )

    @cached_property
    def kept_evaluation(self) -> dict[str, Any] | None:
        """Record of an earlier run's evaluation in the folder; for what follows all layers."""
        return kept_evaluation(self.job, self.files, self.layers)

    @cached_property
    def chips(self) -> dict[str, bytes]:
        """Return pictures of trucks by id; empty with labels of trucks, where cases have them."""
        trucks = self.layers.get("trucks")
        if trucks is None or self.job.request.truck_labels is not None:
            return {}
        return truck_chips(self.job.scene, trucks)


@dataclass(frozen=True)
class Product:
    """One output of a run.

    Products are made in the order of `PRODUCTS`. `make` writes files into `context.folder`, as a rule through
    `pipeline.storage.atomic.replacing`, and returns them; the run lists them in `run.json` and the STAC item,
    and removes those of an earlier run that no product made again.
    """

    name: str
    make: Callable[[RunContext], Outputs]
    wanted: Callable[[Job], bool] = lambda _: True
    """Return whether a job asks for it and has the models for it."""
    needs: tuple[str, ...] = ()
    """Names of earlier products whose files or layers it uses, where they were wanted."""
    in_background: bool = False
    """Make it beside the products that follow, until one that needs it. It reads no files and layers of
    products."""
    counted_as: str | None = None
    """Stage of `seconds` in `run.json`; its name if None."""

    @property
    def stage(self) -> str:
        """Stage of `seconds` in `run.json`."""
        return self.counted_as or self.name


def landcover_polygons(context: RunContext) -> Outputs:
    """Outline the areas of the land-cover raster."""
    settings, file = context.job.request.config.landcover, context.folder / "landcover.gpkg"
    polygons = polygonise(
        _landcover(context), context.legend, settings.min_area_m2, settings.simplify_m, context.probabilities
    )
    write_gpkg(file, {"landcover": polygons}, _styles(context.legend))
    return Outputs({file.name: file}, {"landcover": polygons})


def landcover_raster(context: RunContext) -> Outputs:
    """Write the land-cover raster as a COG."""
    context.say("land cover as a COG and as polygons")
    file = context.folder / "landcover.tif"
    write_cog(_landcover(context), file, context.legend)
    return Outputs({file.name: file})


def landcover_probabilities(context: RunContext) -> Outputs:
    """Write the probabilities of all classes as a COG."""
    file = context.folder / PROBABILITIES
    write_probability_cog(cast(Path, context.probabilities), file, context.legend)
    return Outputs({file.name: file})


def trucks(context: RunContext) -> Outputs:
    """Make the layers of trucks and of vehicles of any kind; without roads also that of look-alikes."""
    context.say("trucks as layers")
    found = context.candidates
    others = {"look_alikes": found.look_alikes} if context.job.roads is None else {}
    return Outputs(layers={**found.layers(found.rows), **others})


def traffic(context: RunContext) -> Outputs:
    """Count trucks on segments of roads; the table is written beside those of other scenes."""
    context.say("traffic on roads")
    job, counted = context.job, context.counted
    table = write_traffic(counted.table, job.request.out / TRAFFIC, job.scene.id, context.detector_name)
    detections = context.folder / DETECTIONS
    with writing.replacing(detections) as part:
        write_geoparquet(counted.detections, part)
    return Outputs(
        {TRAFFIC: table, detections.name: detections},
        {**context.candidates.layers(counted.candidates), "road_segments": counted.segments},
    )


def truck_files(context: RunContext) -> Outputs:
    """Write trucks, what is around them and the searched area as `trucks.geojson` and `trucks.gpkg`."""
    geojson, gpkg = context.folder / "trucks.geojson", context.folder / "trucks.gpkg"
    write_geojson(context.layers["trucks"], geojson)
    names = ("trucks", "vehicles", "look_alikes", "road_segments")
    layers = {name: context.layers[name] for name in names if name in context.layers}
    area = {"seen": context.search_area.seen, "not_seen": context.search_area.not_seen}
    write_gpkg(gpkg, layers | area, _styles())
    return Outputs({geojson.name: geojson, gpkg.name: gpkg})


def pictures(context: RunContext) -> Outputs:
    """Draw what the page shows of the scene, while the land cover is outlined beside it."""
    context.say("report")
    _ = context.report, context.chips
    return Outputs()


def report(context: RunContext) -> Outputs:
    """Write the page about the run."""
    file = context.folder / REPORT
    write_report([file], context.report, chips=context.chips)
    return Outputs({"report": file})


def further_formats(context: RunContext) -> Outputs:
    """Write `export.formats`, and QGIS styles beside files that can't hold one: a `.qml` for each name."""
    job, layers = context.job, context.layers
    notice = copernicus_notice(job.scene)
    files = write_formats(layers, context.folder, job.request.config.export.formats, notice)
    unstyled = {path.stem for path in (*context.files.values(), *files.values()) if path.suffix != ".gpkg"}
    for name, qml in _styles(context.legend).items():
        if name in layers and name in unstyled:
            files[f"{name}.qml"] = context.folder / f"{name}.qml"
            with replacing(files[f"{name}.qml"]) as part:
                part.write_text(qml, encoding="utf-8")
    return Outputs(files)


def panoptic(context: RunContext) -> Outputs:
    """Write one segment for each pixel, land cover or truck."""
    folder, scene = context.folder, context.job.scene
    found = context.layers["trucks"]
    return Outputs(write_panoptic(folder, scene, _landcover(context), found, context.legend))


def evaluation(context: RunContext) -> Outputs:
    """Compare layers with the labels of the request, in `evaluation/`, and write the page about the run.

    Without labels that folder is kept.
    """
    job, request = context.job, context.job.request
    folder = context.folder / FOLDER
    if not request.has_labels:
        kept = context.kept_evaluation
        if kept and not kept["is_current"]:
            changed = "may have changed" if kept["is_current"] is None else "have changed"
            warn(
                f"{FOLDER}/ is of an earlier run, and the layers {changed} since. To evaluate these layers, "
                "give labels: --truck-labels, --landcover-labels."
            )
        return Outputs()
    context.say("evaluation against the labels")
    detections, thresholds = context.predictions.detections, job.thresholds
    below = vehicles_below = None
    if job.models.detector is not None:
        below = below_threshold(detections, job.scene, context.status, MinScores(thresholds.heavy))
    if thresholds.vehicle is not None:
        vehicles_below = below_threshold(detections, job.scene, context.status, thresholds)
    found = evaluate(
        trucks=context.layers.get("trucks"),
        truck_labels=request.truck_labels,
        seen=context.search_area.seen,
        not_seen=context.search_area.not_seen,
        below_threshold=below,
        vehicles=context.layers.get("vehicles"),
        vehicles_below_threshold=vehicles_below,
        roads=job.roads_in_view,
        landcover=context.files.get("landcover.tif"),
        landcover_labels=request.landcover_labels,
        legend=context.report.legend,
        scene=job.scene,
    )
    metrics = write_evaluation(folder, found, context.report, context.chips)
    return Outputs({"report": context.folder / REPORT}, metrics=metrics)


def _has_trucks(job: Job) -> bool:
    return job.models.detector is not None


def _has_landcover(job: Job) -> bool:
    return job.models.segmenter is not None


def _has_probabilities(job: Job) -> bool:
    return _has_landcover(job) and job.request.config.landcover.probabilities


def _has_traffic(job: Job) -> bool:
    return _has_trucks(job) and job.roads is not None and job.request.config.traffic.enabled


def _has_no_labels(job: Job) -> bool:
    return not job.request.has_labels


def _has_panoptic(job: Job) -> bool:
    return job.request.config.panoptic.enabled


_PRODUCTS: list[Product] = [
    # Outlines take as long as all that follows up to the report, and one core.
    Product("land-cover polygons", landcover_polygons, _has_landcover, in_background=True),
    Product("land cover", landcover_raster, _has_landcover),
    Product("land-cover probabilities", landcover_probabilities, _has_probabilities, counted_as="land cover"),
    Product("trucks", trucks, _has_trucks),
    Product("traffic", traffic, _has_traffic, needs=("trucks",), counted_as="trucks"),
    Product("truck files", truck_files, _has_trucks, needs=("trucks", "traffic"), counted_as="trucks"),
    Product("pictures", pictures, needs=("land cover", "trucks", "traffic"), counted_as="report"),
    Product("further formats", further_formats, needs=("land-cover polygons", "trucks", "traffic")),
    Product("panoptic", panoptic, _has_panoptic, needs=("trucks",), counted_as="further formats"),
    # It links to the files of all others. With labels the evaluation writes it.
    Product("report", report, _has_no_labels, needs=("pictures", "further formats")),
    Product("evaluation", evaluation, needs=("land cover", "trucks", "traffic")),
]
PRODUCTS = Registry(PRODUCT_PLUGINS, Product, "name", _PRODUCTS)
"""All outputs of a run, in the order in which they are made."""


def _landcover(context: RunContext) -> Path:
    return context.landcover  # type: ignore[return-value]


def _styles(legend: Sequence[LegendClass] = ()) -> dict[str, str]:
    return {
        "trucks": truck_style(),
        "vehicles": vehicle_style(),
        "look_alikes": look_alike_style(),
        "road_segments": road_segment_style(),
        "seen": seen_style(),
        "not_seen": not_seen_style(),
        "landcover": landcover_style(legend),
    }
