"""Predictions of the networks for a scene, in the scene's pixel coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOTION_BANDS = ("B02", "B08", "B03", "B04")
"""Bands whose positions give a truck's motion, in the order in which an odd MSI detector sees them."""

SEEN, NODATA, CLOUD, NO_ROAD, SCREENED, SHADOW = 1, 0, 2, 3, 4, 5
"""Codes of the status raster: the result of each pixel in the search for trucks."""
STATUS_NAMES = {
    SEEN: "seen",
    NODATA: "nodata",
    CLOUD: "cloud",
    NO_ROAD: "no_road",
    SCREENED: "screened",
    SHADOW: "shadow",
}
LOOKED_AT = (SEEN, SCREENED)
"""Searched pixels. A screener that rejects a place has searched it: its misses count against recall."""

PROBABILITY_STEPS = 200
"""Land-cover probabilities are stored as bytes: 200 times the probability, rounded."""
NO_CLASS = 255
"""Value of rasters of classes and of their probabilities where a pixel has no class."""

PLACE_STEP_PX = 1 / 32
"""Resolution of places. Finer differences are rounding noise, as another tiling sums in another order."""


def pixels_holding(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return columns and rows (N, 2) of the pixels that contain points x, y, robust to noise at edges."""
    return np.floor(np.rint(points / PLACE_STEP_PX) * PLACE_STEP_PX).astype(np.intp)


@dataclass(frozen=True)
class MinScores:
    """Scores from which detections count: of heavy vehicles, and of vehicles of any kind; either suffices."""

    heavy: float = 0.0
    vehicle: float | None = None
    """None: only that of heavy vehicles decides."""

    def reached(
        self, scores: NDArray[np.float64], vehicle_scores: NDArray[np.float64] | None
    ) -> NDArray[np.bool_]:
        """Return (N,): True where either score, (N,), is high enough; None: there is no such score."""
        enough = scores >= self.heavy
        if self.vehicle is not None and vehicle_scores is not None:
            enough = enough | (vehicle_scores >= self.vehicle)
        return enough


ANY_SCORE = MinScores()


@dataclass(frozen=True)
class Detections:
    """N detected trucks, in pixels of the scene's 10 m grid.

    Coordinates are relative to the upper left corner of the upper left pixel: x along columns, y along rows,
    so that `grid.affine * (x, y)` is the place on the map.
    """

    boxes: NDArray[np.float64]
    """(N, 4): x_min, y_min, x_max, y_max."""
    scores: NDArray[np.float64]
    """(N,), 0-1: the network's in a shard, calibrated once shards are merged."""
    displacement: NDArray[np.float64]
    """(N, 2): from the place in B02 to that in B04, (dx, dy) in pixels; NaN if not measurable."""
    displacement_sigma: NDArray[np.float64]
    """(N,): its standard deviation, in pixels; infinite if unclear, NaN if pixels are missing."""
    vehicle_scores: NDArray[np.float64] | None = None
    """(N,), like `scores`, of a vehicle of any kind; None if the network knows one kind only."""

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, vehicles: bool = False) -> Detections:
        """Return no detections; with `vehicles` those of a network that scores vehicles of any kind, too."""
        nothing = np.zeros(0)
        return cls(np.zeros((0, 4)), nothing, np.zeros((0, 2)), nothing, nothing if vehicles else None)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        """Return the detections at `index`, in its order."""
        vehicles = self.vehicle_scores
        return Detections(
            self.boxes[index],
            self.scores[index],
            self.displacement[index],
            self.displacement_sigma[index],
            None if vehicles is None else vehicles[index],
        )

    def north_to_south(self) -> NDArray[np.intp]:
        """Return the indices (N,) that sort the boxes from north to south, then from west to east."""
        x_min, y_min, x_max, y_max = self.boxes.T
        return np.lexsort((x_max, y_max, x_min + x_max, y_min + y_max))

    @property
    def centres(self) -> NDArray[np.float64]:
        """(N, 2): x, y of the boxes' centres."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @property
    def pixels(self) -> NDArray[np.intp]:
        """(N, 2): column, row of the pixels that contain the centres; see `pixels_holding`."""
        return pixels_holding(self.centres)

    @staticmethod
    def concatenate(parts: list[Detections]) -> Detections:
        """Concatenate detections of one network in the order given."""
        if not parts:
            return Detections.empty()
        vehicles = [part.vehicle_scores for part in parts if part.vehicle_scores is not None]
        return Detections(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.displacement for part in parts]),
            np.concatenate([part.displacement_sigma for part in parts]),
            np.concatenate(vehicles) if vehicles else None,
        )


@dataclass(frozen=True)
class Predictions:
    """All predictions for a scene; rasters are on disk, so any size of scene fits."""

    detections: Detections
    landcover_raster: str | None
    """Tiled GeoTIFF, uint8, class values of the bundle's legend, 255 without a class."""
    probability_raster: str | None
    """Tiled GeoTIFF, uint8, a band for each class of the legend, in its order: `PROBABILITY_STEPS` times the
    probability, 255 without a class; None if a run keeps no probabilities."""
    status_raster: str
    """Tiled GeoTIFF, uint8, `STATUS_NAMES`."""
    class_pixels: NDArray[np.int64]
    """(256,): pixels of each value of the land-cover raster."""
    probability_sums: NDArray[np.int64] | None
    """(K,): sum of each band of the raster of probabilities over all pixels with a class."""
    tiles_total: int
    tiles_skipped: int
