"""Streets of a chip: an arc, its carriageways, and the variation of road surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.simulation.chips.palette import ChipWorld, Image, asphalt, blend, colour, fractal
from pipeline.simulation.rendering import strip_coverage


@dataclass(frozen=True)
class Arc:
    """Arc of constant curvature through a point; s runs along it, d across it to the right, in pixels."""

    x: float
    y: float
    heading_deg: float
    curvature: float

    def place(self, s: float, d: float) -> tuple[float, float, float]:
        """Return (x, y, heading) at a distance along and across."""
        start = np.deg2rad(self.heading_deg)
        turn = self.curvature * s
        angle = start + turn
        if abs(self.curvature) < 1e-9:
            x, y = self.x + s * np.sin(start), self.y - s * np.cos(start)
        else:
            x = self.x + (np.cos(start) - np.cos(angle)) / self.curvature
            y = self.y - (np.sin(angle) - np.sin(start)) / self.curvature
        return float(x + d * np.cos(angle)), float(y + d * np.sin(angle)), float(np.rad2deg(angle) % 360)

    def coordinates(self, size: int) -> tuple[Image, Image]:
        """Return two arrays (size, size): distance along it from its point, and across it to the right."""
        cols, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        start = np.deg2rad(self.heading_deg)
        along = (cols - self.x) * np.sin(start) - (rows - self.y) * np.cos(start)
        across = (cols - self.x) * np.cos(start) + (rows - self.y) * np.sin(start)
        if abs(self.curvature) > 1e-9:
            radius = 1 / self.curvature
            across = radius - np.sign(radius) * np.hypot(along, across - radius)
        return along.astype(np.float32), across.astype(np.float32)


def any_arc(rng: np.random.Generator, size: int, bend: float, margin: float = 0.15) -> Arc:
    """Draw an arc through the chip, straight in half of the cases."""
    x, y = rng.uniform(margin * size, (1 - margin) * size, 2)
    curvature = 0.0 if rng.uniform() < 0.5 else rng.normal(0, bend)
    return Arc(float(x), float(y), float(rng.uniform(0, 360)), float(curvature))


@dataclass(frozen=True)
class Street:
    """Geometry of a street, in pixels: one carriageway on each side of its middle."""

    arc: Arc
    lanes: int
    """Lanes of each carriageway."""
    lane_px: float
    shoulder: float
    median: float

    @property
    def carriageway(self) -> float:
        """Return the width of one carriageway."""
        return self.lanes * self.lane_px + 2 * self.shoulder

    @property
    def half_width(self) -> float:
        """Return the distance from its middle to its edge."""
        return self.median / 2 + self.carriageway

    def lane(self, index: int) -> float:
        """Return the distance of a lane's middle from the street's; 0 is the innermost lane."""
        return self.median / 2 + self.shoulder + (index + 0.5) * self.lane_px


def any_street(rng: np.random.Generator, size: int) -> Street:
    """Draw a motorway with two or three lanes each way, or a road with one."""
    motorway = rng.uniform() < 0.7
    return Street(
        any_arc(rng, size, 0.006),
        lanes=int(rng.integers(2, 4)) if motorway else 1,
        lane_px=float(rng.uniform(0.34, 0.38)),
        shoulder=float(rng.uniform(0.1, 0.4) if motorway else rng.uniform(0, 0.1)),
        median=float(rng.uniform(0.2, 1.2)) if motorway else 0.0,
    )


def pave(rng: np.random.Generator, image: Image, world: ChipWorld, street: Street) -> None:
    """Draw the street, sometimes faint as under trees or invisible, since any ground may be a surface."""
    size = image.shape[1]
    along, across = street.arc.coordinates(size)
    before = image.copy()
    if rng.uniform() < 0.6:
        _verge(rng, image, street, across)
    surface = asphalt(rng)
    for side in (-1, 1):
        middle = np.float32(side * (street.median + street.carriageway) / 2)
        share = strip_coverage(across - middle, street.carriageway, world.blur)
        blend(image, share, surface * np.float32(rng.normal(1, 0.08)))
    paved = np.clip(strip_coverage(across, 2 * street.half_width, world.blur), 0, 1)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), rng.uniform(0.6, 2.5))
    image += paved * image * np.float32(rng.uniform(0, 0.10) / max(float(texture.std()), 1e-6)) * texture
    if rng.uniform() < 0.35:
        _lanes(rng, image, world, street, across)
    if rng.uniform() < 0.3:
        _sections(rng, image, paved, along)
    if rng.uniform() < 0.2:
        _edge_lines(rng, image, street, across)
    cover = rng.choice([1.0, rng.uniform(0.4, 0.9), 0.0], p=[0.74, 0.15, 0.11])
    image += np.float32(1 - cover) * (before - image)


def _verge(rng: np.random.Generator, image: Image, street: Street, across: Image) -> None:
    """Draw mown grass or gravel on both sides."""
    grass = rng.uniform() < 0.6
    what = colour(rng, "green") * np.float32(0.6) if grass else asphalt(rng) * np.float32(1.3)
    width = 2 * street.half_width + rng.uniform(0.5, 5)
    blend(image, rng.uniform(0.3, 0.9) * strip_coverage(across, width, 1.0), what)


def _lanes(rng: np.random.Generator, image: Image, world: ChipWorld, street: Street, across: Image) -> None:
    """Vary the lanes, as wear and repairs do."""
    for side in (-1, 1):
        for index in range(street.lanes):
            share = strip_coverage(across - np.float32(side * street.lane(index)), street.lane_px, world.blur)
            image *= 1 + share * np.float32(rng.normal(0, 0.12))


def _sections(rng: np.random.Generator, image: Image, paved: Image, along: Image) -> None:
    """Vary the surface in steps along the street: new asphalt, concrete, bridges."""
    size = image.shape[1]
    for start in rng.uniform(-size, size, int(rng.integers(1, 6))):
        length = np.exp(rng.uniform(np.log(0.5), np.log(40)))
        share = strip_coverage(along - np.float32(start), float(length), 0.4) * paved
        image *= 1 + share * np.float32(rng.normal(0, 0.2))


def _edge_lines(rng: np.random.Generator, image: Image, street: Street, across: Image) -> None:
    """Add hedges, noise barriers and their shadows, with gaps."""
    size = image.shape[1]
    for side in (-1, 1):
        at = np.float32(side * (street.half_width + rng.uniform(0, 1)))
        share = strip_coverage(across - at, rng.uniform(0.2, 1.2), 0.5) * np.float32(rng.uniform(0.2, 0.9))
        broken = np.clip(fractal(rng, size, rng.uniform(1, 6)) + rng.uniform(0, 2), 0, 1)
        blend(image, share * broken, colour(rng, "dark") if rng.uniform() < 0.6 else asphalt(rng))


def bridge(rng: np.random.Generator, image: Image, world: ChipWorld, street: Street) -> Image:
    """Add a bridge across the street, over its traffic; return the hidden share of each pixel, (H, W)."""
    size = image.shape[1]
    x, y, heading = street.arc.place(rng.uniform(-size / 3, size / 3), 0.0)
    over = Arc(x, y, (heading + 90 + rng.normal(0, 20)) % 360, 0.0)
    _, across = over.coordinates(size)
    width = rng.uniform(0.5, 2.5)
    shadow = strip_coverage(across - np.float32(rng.choice([-1, 1]) * width / 2), 0.6, world.blur)
    image *= 1 - shadow * np.float32(rng.uniform(0.1, 0.6))
    share = strip_coverage(across, width, world.blur)
    blend(image, share, asphalt(rng))
    return share
