"""What a detector says of places where the truth is known: every box of it, before any threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pydantic import Field

from pipeline.config import Config, Engine, SceneSettings, Trucks
from pipeline.evaluation.columns import HEAVY
from pipeline.evaluation.features import read_polygons
from pipeline.evaluation.labels import read_truck_labels
from pipeline.evaluation.trucks.boxes import centres, to_metres
from pipeline.evaluation.trucks.evidence import measure_evidence
from pipeline.evaluation.trucks.scores import TruckEvaluation, evaluate_trucks
from pipeline.inference.motion import evidence
from pipeline.layers.look_alikes import look_alike_reasons
from pipeline.layers.search_area import seen_layers, where_seen
from pipeline.layers.surroundings import near_cloud, values_at
from pipeline.models.bundle import Bundle, Calibration
from pipeline.open_data.resolve import located
from pipeline.roads.read import in_view, read_roads
from pipeline.run import Request, merged, prepare, run_shards
from pipeline.run.products import RunContext
from pipeline.scenes.readers.naming import FIRST_LIGHT
from pipeline.scenes.sun import long_shadow, shadow_length
from pipeline.settings import MOST_PX, SeedNumber, Settings
from pipeline.simulation.dates import LAST_DATE
from pipeline.simulation.product import write_product
from pipeline.simulation.world.stage import Stage

_APART_M = 1e6
"""Places that are pooled are laid side by side, this far from each other."""
_ANY_METRES = "EPSG:32631"


class Place(Settings):
    """A scene on disk, with what is known of it."""

    name: str
    scene: str = Field(description="as for `truckscape run`, or open data: data:NAME, data:NAME/file")
    labels: Path | None = Field(None, description="boxes of trucks; without them there is hardly a truck")
    roads: Path | None = None
    within: Path | None = Field(None, description="polygons to keep to, such as blocks held out of training")
    bands: tuple[str, ...] | None = Field(None, description="names of a GeoTIFF's bands, where it has none")
    values: SceneSettings = SceneSettings()


class Seed(Settings):
    """A simulated scene."""

    seed: SeedNumber
    size: int = Field(768, ge=64, le=MOST_PX, description="pixels")
    day: date | None = Field(
        None,
        ge=FIRST_LIGHT,
        le=LAST_DATE,
        description="date of the scene; null: one of the seed, from April to August",
    )


@dataclass(frozen=True)
class Observed:
    """All boxes of a detector at a place, or at several, beside the truth; in a CRS that counts in metres."""

    name: str
    trucks: gpd.GeoDataFrame
    """As `pipeline.layers.trucks` makes them; `score` as the network gives it until `calibrated`.

    With columns `evidence`, see `pipeline.inference.motion.evidence`, and `on_water`, see
    `pipeline.run.candidates`.
    """
    reference: gpd.GeoDataFrame
    """Labels of `read_truck_labels`, with columns of the layer of trucks that decide their recall, see
    `pipeline.layers.expected.groups_of`."""
    seen: gpd.GeoDataFrame
    roads: gpd.GeoDataFrame | None
    shadow: float | None = None
    """Length of shadows over the height of what casts them; None if unknown, or of several places."""

    @property
    def km2(self) -> float:
        """Searched area."""
        return float(self.seen.area.sum() / 1e6)

    def of_vehicles(self) -> Observed:
        """Return the same for vehicles of any kind: each label is one, and `score` is `vehicle_score`.

        Detections without `vehicle_score` keep their score.
        """
        trucks = self.trucks
        if "vehicle_score" in trucks:
            trucks = trucks.assign(score=trucks["vehicle_score"])
        return replace(self, trucks=trucks, reference=self.reference.assign(vehicle=HEAVY))

    def calibrated(self, calibration: Calibration) -> Observed:
        """Return the same with scores calibrated for the place's shadows."""
        calibration = calibration.under(long_shadow(self.shadow))
        scores = calibration.probability(self.trucks["score"].to_numpy(), self.trucks["evidence"].to_numpy())
        return replace(self, trucks=self.trucks.assign(score=scores))

    def evaluate(self, near_roads: bool, threshold: float = 0.0) -> TruckEvaluation:
        """Evaluate detections of at least `threshold`, near roads only or everywhere, there as `passing`.

        With a threshold of 0 look-alikes are not left out.
        """
        everywhere = self.passing(threshold) if threshold > 0 else self.trucks
        kept = self.trucks[self.trucks["score"] >= threshold] if near_roads else everywhere
        return evaluate_trucks(kept, self.reference, self.seen, self.roads if near_roads else None)

    def passing(self, threshold: float) -> gpd.GeoDataFrame:
        """Return the detections that are trucks at a threshold, in a run without roads."""
        above = self.trucks["score"].to_numpy() >= threshold
        reasons = look_alike_reasons(self.trucks, above, self.trucks["on_water"].to_numpy())
        return self.trucks[above & (reasons == "")]


def observe_place(bundle: Bundle, place: Place, folder: Path, engine: Engine) -> Observed:
    """Run a detector over a place and keep the network's scores; `folder` takes temporary files.

    Raises
    ------
    TruckscapeError
        Whatever a run or its labels may raise.
    """
    place = located(place)
    config = Config(
        scene=place.values,
        engine=engine,
        trucks=Trucks(bundle=str(bundle.folder), score_threshold=0.0),
    )
    job = prepare(Request(place.scene, folder / place.name, config, place.bands))
    run_shards(job, range(len(job.shards)))
    predictions = merged(job, calibrated=False)
    status = Path(predictions.status_raster)
    found = where_seen(predictions.detections, status)
    found = found.take(found.north_to_south())  # as the layer has them
    context = RunContext(job, replace(predictions, detections=found))
    trucks = context.candidates.rows
    trucks["evidence"] = evidence(found.displacement, found.displacement_sigma)
    trucks["on_water"] = context.candidates.on_water
    seen = seen_layers(status).seen
    if place.labels:
        reference = read_truck_labels(place.labels, trucks.crs)
    else:
        nothing: dict[str, list[str]] = {name: [] for name in ("id", "confidence", "travel_deg", "speed_kmh")}
        reference = gpd.GeoDataFrame(nothing, geometry=[], crs=trucks.crs)
    reference = _with_surroundings(reference, context)
    roads = in_view(read_roads(place.roads, trucks.crs)) if place.roads else None
    if place.within:
        seen = gpd.clip(seen, read_polygons(place.within, "The area to keep to", trucks.crs))
        inside = shapely.intersects(
            shapely.union_all(seen.geometry.to_numpy()), shapely.points(centres(trucks))
        )
        trucks = trucks[inside].reset_index(drop=True)
    metric = to_metres(seen, reference).crs
    return Observed(
        place.name,
        trucks.to_crs(metric),
        reference.to_crs(metric),
        seen.to_crs(metric),
        None if roads is None else roads.to_crs(metric),
        shadow_length(job.scene),
    )


def observe_seed(bundle: Bundle, seed: Seed, folder: Path, engine: Engine) -> Observed:
    """As `observe_place` for a simulated product."""
    name = f"seed_{seed.seed}" if seed.day is None else f"seed_{seed.seed}_{seed.day}"
    product = write_product(folder / f"{name}_product", Stage.of(seed.size, seed.seed, day=seed.day))
    place = Place(name=name, scene=str(product.safe), labels=product.trucks, roads=product.roads)
    return observe_place(bundle, place, folder, engine)


def _with_surroundings(reference: gpd.GeoDataFrame, context: RunContext) -> gpd.GeoDataFrame:
    """Add to labels what the layer of trucks says of detections: motion, land cover and cloud near by."""
    scene, places = context.job.scene, centres(reference)
    bounds = reference.geometry.bounds.to_numpy()
    measured = measure_evidence(scene, places, bounds[:, 2:] - bounds[:, :2])
    pixels = np.stack(~scene.grid.affine * tuple(places.T), axis=1)
    cloudy = near_cloud(scene, pixels, Trucks().cloud_buffer_m, context.status)
    names: dict[int, str] = {item.value: item.name for item in context.legend}
    classes = values_at(context.landcover, *places.T) if context.landcover else np.zeros(0)
    return reference.assign(
        moved=measured["displacement_px"],
        moved_sigma=measured["displacement_sigma_px"],
        landcover=[names.get(int(value)) for value in classes] if context.landcover else None,
        near_cloud=False if cloudy is None else cloudy,
    )


def pool(name: str, places: Sequence[Observed]) -> Observed:
    """Several places as one, side by side, so that nothing of one can match anything of another."""

    def together(frames: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
        moved = [
            frame.set_geometry(frame.geometry.translate(xoff=index * _APART_M)).set_crs(
                _ANY_METRES, allow_override=True
            )
            for index, frame in enumerate(frames)
        ]
        parts = [frame for frame in moved if len(frame)] or moved[:1]
        return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=_ANY_METRES)

    roads = [place.roads for place in places if place.roads is not None]
    return Observed(
        name,
        together([place.trucks for place in places]),
        together([place.reference for place in places]),
        together([place.seen for place in places]),
        together(roads) if len(roads) == len(places) else None,
    )
