"""Detections of a run that may be trucks: rows of the layer, reasons against them, and what they count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from pipeline.inference.predictions import MinScores, Predictions
from pipeline.layers.columns import LOOK_ALIKES
from pipeline.layers.expected import Recall, Shares
from pipeline.layers.look_alikes import all_around, look_alike_reasons, no_reasons
from pipeline.layers.trucks import found_trucks
from pipeline.models.bundle import Card
from pipeline.models.legend import LegendClass
from pipeline.run.prepare import Job
from pipeline.scenes.sun import shadow_length


@dataclass(frozen=True)
class Candidates:
    """N detections from the lowest scores that count, of heavy vehicles or of vehicles of any kind."""

    rows: gpd.GeoDataFrame
    """Rows of the layer of trucks."""
    on_water: NDArray[np.bool_]
    """(N,): mapped water is all around; False without land cover."""
    reasons: NDArray[np.object_]
    """(N,): why it is no truck, see `pipeline.layers.look_alikes`; empty for those that may be."""
    shares: Shares
    """Of those that are too unlikely to be heavy, too: they contribute nothing."""
    threshold: float
    may_be_heavy: NDArray[np.bool_]
    """(N,): from the lowest score of heavy vehicles that counts."""
    vehicles: NDArray[np.bool_] | None
    """(N,): trucks, and other moving vehicles; None without a threshold of these."""

    def layers(self, rows: gpd.GeoDataFrame) -> dict[str, gpd.GeoDataFrame]:
        """Return the layers `trucks` and, where their threshold is known, `vehicles`.

        `rows` are those of this value, or the same with more in them, as their segments of roads. Trucks are
        above their threshold, and left out for no reason.
        """
        chosen = {"trucks": self.shares.counted, "vehicles": self.vehicles}
        return {name: rows[mask].reset_index(drop=True) for name, mask in chosen.items() if mask is not None}

    @property
    def look_alikes(self) -> gpd.GeoDataFrame:
        """Return the layer of those above the threshold that are left out."""
        others = (self.rows["score"].to_numpy() >= self.threshold) & ~self.shares.counted
        return LOOK_ALIKES.conform(
            self.rows[others].assign(reason=self.reasons[others]).reset_index(drop=True)
        )

    @property
    def recall(self) -> dict[str, float | bool]:
        """Return what all detections of a run have in common; see `pipeline.layers.expected.Shares`."""
        shares = self.shares
        return {
            "all": shares.missing,
            "dispersion": shares.dispersion,
            "known": shares.known,
            "share_error": shares.share_error,
            "visible": shares.visible,
            "visible_error": shares.visible_error,
        }

    @property
    def expected(self) -> dict[str, float]:
        """Return the expected number of trucks in the scene, and its 95 % interval."""
        total = self.shares.total
        low, high = total.interval
        values = {"trucks": total.expected[0], "low": low[0], "high": high[0]}
        return {name: round(float(value), 3) for name, value in values.items()}


def candidates_of(job: Job, predictions: Predictions, legend: Sequence[LegendClass]) -> Candidates:
    """Return the candidates of a job with a detector; `legend` has the classes of its land cover.

    Near roads, and with a threshold of the user's own, none is left out.
    """
    card: Card = job.models.detector.card  # type: ignore[union-attr]
    trucks, traffic = job.request.config.trucks, job.request.config.traffic
    landcover = Path(predictions.landcover_raster) if predictions.landcover_raster else None
    threshold = job.score_threshold or 0.0
    rows = found_trucks(
        predictions.detections,
        job.scene,
        Path(predictions.status_raster),
        trucks,
        MinScores(job.min_scores.heavy, job.vehicle_threshold),
        model=f"{card.id}-{card.version}",
        landcover=landcover,
        legend=legend,
        roads=job.roads_in_view,
    )
    on_water, reasons = _on_water(rows, landcover, legend), no_reasons(len(rows))
    scores = rows["score"].to_numpy()
    if job.roads is None and trucks.score_threshold is None:
        reasons = look_alike_reasons(rows, scores >= threshold, on_water)
    if traffic.recall is None:
        recall = Recall.of_card(card.quality, near_roads=job.roads is not None) or Recall.unknown()
    else:
        recall = Recall(traffic.recall, 0.0)
    may_be_heavy = scores >= job.min_scores.heavy
    shares = recall.shares(rows, threshold, (reasons != "") | ~may_be_heavy, shadow_length(job.scene))
    vehicles = _vehicles(job, rows, shares.counted, on_water)
    return Candidates(rows, on_water, reasons, shares, threshold, may_be_heavy, vehicles)


def _vehicles(
    job: Job, rows: gpd.GeoDataFrame, trucks: NDArray[np.bool_], on_water: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Return (N,) the moving vehicles of any kind, all `trucks` among them; None without their threshold.

    The rule of look-alikes holds with vehicles in place of trucks: a moving car is company, too.
    """
    thresholds = job.thresholds
    if thresholds.vehicle is None:
        return None
    scores, vehicle_scores = rows["score"].to_numpy(), rows["vehicle_score"].to_numpy()
    found = vehicle_scores >= thresholds.vehicle
    if job.roads is None and job.request.config.trucks.vehicle_threshold is None:
        above = thresholds.reached(scores, vehicle_scores)
        found &= look_alike_reasons(rows, above, on_water) == ""
    return np.asarray(found | trucks)


def _on_water(
    rows: gpd.GeoDataFrame, landcover: Path | None, legend: Sequence[LegendClass]
) -> NDArray[np.bool_]:
    water = [each.value for each in legend if each.name == "water"]
    if landcover is None or not water:
        return np.zeros(len(rows), np.bool_)
    centres = rows.geometry.centroid
    return all_around(landcover, np.stack([centres.x, centres.y], axis=1), water[0])
