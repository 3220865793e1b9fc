"""What the networks say about a scene, in the scene's own pixel coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOTION_BANDS = ("B02", "B08", "B03", "B04")
"""Bands whose positions give a truck's motion, in the order in which an odd MSI detector sees them."""

SEEN, NODATA, CLOUD, NO_ROAD, SCREENED, SHADOW = 1, 0, 2, 3, 4, 5
"""Codes of the status raster: what became of a pixel in the search for trucks."""
STATUS_NAMES = {
    SEEN: "seen",
    NODATA: "nodata",
    CLOUD: "cloud",
    NO_ROAD: "no_road",
    SCREENED: "screened",
    SHADOW: "shadow",
}
LOOKED_AT = (SEEN, SCREENED)
"""A screener that sees no truck has looked: what it misses is missed, and counts against recall."""


PLACE_STEP_PX = 1 / 32
"""Finer differences of places are rounding noise: another tiling sums in another order."""


def pixels_holding(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """(N, 2) columns and rows of the pixels that hold points x, y; those on an edge not by their noise."""
    return np.floor(np.rint(points / PLACE_STEP_PX) * PLACE_STEP_PX).astype(np.intp)


@dataclass(frozen=True)
class Detections:
    """Trucks found, N of them, in pixels of the scene's 10 m grid.

    Coordinates run from the upper left corner of the upper left pixel: x along columns, y along rows,
    so that `grid.affine * (x, y)` is the place on the map.
    """

    boxes: NDArray[np.float64]
    """(N, 4): x_min, y_min, x_max, y_max."""
    scores: NDArray[np.float64]
    """(N,), 0-1."""
    displacement: NDArray[np.float64]
    """(N, 2): where B04 sees the truck minus where B02 sees it, (dx, dy) in pixels; NaN if not measurable."""
    displacement_sigma: NDArray[np.float64]
    """(N,): its standard deviation, in pixels; infinite where pixels do not tell, NaN where they lack."""

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """No trucks."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 2)), np.zeros(0))

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        """The detections at `index`, in its order."""
        return Detections(
            self.boxes[index], self.scores[index], self.displacement[index], self.displacement_sigma[index]
        )

    @property
    def centres(self) -> NDArray[np.float64]:
        """(N, 2): x, y of the boxes' centres."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @property
    def pixels(self) -> NDArray[np.intp]:
        """(N, 2): column, row of the pixels that hold the centres; see `pixels_holding`."""
        return pixels_holding(self.centres)

    @staticmethod
    def concatenate(parts: list[Detections]) -> Detections:
        """All of them, in the order given."""
        if not parts:
            return Detections.empty()
        return Detections(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.displacement for part in parts]),
            np.concatenate([part.displacement_sigma for part in parts]),
        )


@dataclass(frozen=True)
class Predictions:
    """Everything the engine has to say about a scene; rasters lie on disk, so any size of scene fits."""

    detections: Detections
    landcover_raster: str | None
    """Tiled GeoTIFF, uint8, class values of the bundle's legend, 255 where there is none."""
    status_raster: str
    """Tiled GeoTIFF, uint8, `STATUS_NAMES`."""
    tiles_total: int
    tiles_skipped: int
