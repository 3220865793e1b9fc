"""A sample of points as files: to be filled in by interpreters, who don't see the map, and read back.

`POINTS.gpkg` and `POINTS.geojson` hold what interpreters need and nothing of the map. `POINTS.design.json`
holds what was mapped where, and the strata; it stays with whoever drew the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.errors import LabelsError, OutputError
from pipeline.evaluation.areas.estimates import AreaEstimates, estimate_areas
from pipeline.evaluation.areas.sampling import Allocation, Sample
from pipeline.layers.formats.geojson import write_geojson
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.styles import interpretation_style, pixel_style
from pipeline.models.legend import LegendClass
from pipeline.safe_json import read_limited
from pipeline.storage.atomic import make_folder, replacing
from pipeline.storage.untrusted_vectors import file_of, read_layer

CANNOT_TELL = (255, "cannot tell")
"""Value and name of the answer that the class is unknown; such a point is ignored."""
_SHOWN = 5


class Stratum(BaseModel):
    """A class of the map: what there is of it, and how much of that was drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    value: int
    name: str
    colour: str
    pixels: int
    hectares: float
    weight: float
    points: int
    expected_accuracy: float


class DesignPoint(BaseModel):
    """A point of the sample: the centre of a pixel, and the class mapped there."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: int
    x: float
    y: float
    map_class: int


class Design(BaseModel):
    """The design of a sample, and the map's classes at its points."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    map: str
    crs: str
    """Well-known text."""
    pixel_m: float
    seed: int
    allocation: Allocation
    expected_error: float
    strata: tuple[Stratum, ...]
    points: tuple[DesignPoint, ...]

    @property
    def legend(self) -> tuple[LegendClass, ...]:
        """The classes of the map."""
        return tuple(LegendClass(value=s.value, name=s.name, colour=s.colour) for s in self.strata)


@dataclass(frozen=True)
class Interpreted:
    """The points of a sample with what interpreters saw there."""

    design: Design
    reference: NDArray[np.int64]
    """(N,): value of the class seen at each point of the design, or that of `CANNOT_TELL`."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """(K, K) points by mapped (rows) and reference class; points of unknown class are left out."""
        count = len(self.design.strata)
        position = {stratum.value: i for i, stratum in enumerate(self.design.strata)}
        counts = np.zeros((count, count), dtype=np.int64)
        for point, seen in zip(self.design.points, self.reference.tolist(), strict=True):
            if seen != CANNOT_TELL[0]:
                counts[position[point.map_class], position[seen]] += 1
        return counts

    def estimate(self) -> AreaEstimates:
        """Areas and accuracies; see `pipeline.evaluation.areas.estimates.estimate_areas`."""
        hectares = [stratum.hectares for stratum in self.design.strata]
        return estimate_areas(self.design.legend, self.counts, hectares)

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the estimates with the design of the sample, as plain numbers for JSON."""
        drawn = ("map", "seed", "allocation", "expected_error")
        return {
            **self.estimate().metrics(),
            "cannot_tell": int((self.reference == CANNOT_TELL[0]).sum()),
            "design": self.design.model_dump(mode="json", include=set(drawn)),
        }

    def layer(self) -> gpd.GeoDataFrame:
        """Return the points with `map_class`, `reference_class` (names; None: cannot tell) and `agrees`."""
        names = {stratum.value: stratum.name for stratum in self.design.strata}
        mapped = np.array([point.map_class for point in self.design.points])
        agrees = pd.array(mapped == self.reference, dtype="boolean")
        agrees[self.reference == CANNOT_TELL[0]] = pd.NA
        return gpd.GeoDataFrame(
            {
                "id": [point.id for point in self.design.points],
                "map_class": [names[value] for value in mapped.tolist()],
                "reference_class": [names.get(value) for value in self.reference.tolist()],
                "agrees": agrees,
            },
            geometry=gpd.points_from_xy(*_xy(self.design).T),
            crs=self.design.crs,
        )


def design_path(points: Path) -> Path:
    """Return the path of the design of a file of points."""
    file = file_of(points)
    return file.parent / f"{file.stem}.design.json"


def write_points(sample: Sample, landcover: Path | str, path: Path) -> dict[str, Path]:
    """Write a sample as `path` (GeoPackage), as GeoJSON and its design beside it; the paths by what they are.

    The GeoPackage has the layers `points`, with an empty field `reference` that QGIS fills in from a list of
    the classes, and `pixels`, the outlines of what is to be judged.

    Raises
    ------
    OutputError
        If `path` is no `.gpkg`, one of the files exists (interpreters' work is never overwritten), or can't
        be written.
    """
    if path.suffix != ".gpkg":
        raise OutputError(f"The points go into a GeoPackage, whose name ends in .gpkg. Received: {path}")
    paths = {"points": path, "geojson": path.with_suffix(".geojson"), "design": design_path(path)}
    there = [str(each) for each in paths.values() if each.exists()]
    if there:
        raise OutputError(
            f"{', '.join(there)} would be overwritten, and with it what was filled in. Give another --out, "
            "or remove it."
        )
    design = _design(sample, landcover)
    xy, crs = sample.xy, design.crs
    ids = np.arange(1, len(sample) + 1)
    todo = {
        "id": ids,
        "reference": pd.array([None] * len(sample), dtype="Int16"),
        "comment": np.full(len(sample), None, dtype=object),
    }
    points = gpd.GeoDataFrame(todo, geometry=shapely.points(xy), crs=crs)
    half = design.pixel_m / 2
    pixels = gpd.GeoDataFrame({"id": ids}, geometry=shapely.box(*(xy - half).T, *(xy + half).T), crs=crs)
    styles = {"points": interpretation_style(sample.legend, CANNOT_TELL), "pixels": pixel_style()}
    make_folder(path.parent)
    with replacing(paths["design"]) as part:
        part.write_text(design.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_geojson(points, paths["geojson"])
    write_gpkg(path, {"points": points, "pixels": pixels}, styles)
    return paths


def read_points(path: Path | str, design: Path | str | None = None) -> Interpreted:
    """Read the answers of interpreters, checked against the design of the sample.

    `path` is the GeoPackage or the GeoJSON of `write_points`, or any other vector file of its points with the
    columns `id` and `reference` (value or name of a class, or of `CANNOT_TELL`), in any CRS. `design` is
    beside it by default.

    Raises
    ------
    LabelsError
        If a file can't be read, points are missing, doubled, not of this sample or moved out of their pixel,
        a class is unknown, or a point has none yet.
    """
    drawn = read_design(Path(design) if design is not None else design_path(Path(path)))
    frame = _read(path, drawn)
    ids = [_integer(value) for value in frame["id"]]
    known = {point.id for point in drawn.points}
    _refuse(path, "ids are in it more than once", sorted({i for i in ids if ids.count(i) > 1}, key=str))
    _refuse(path, "ids are not of this sample", [i for i in ids if i not in known])
    _refuse(path, f"of {len(known)} points of the sample are missing", sorted(known - set(ids)))
    frame = frame.iloc[np.argsort(np.array(ids, dtype=np.int64))]
    offset = np.abs(shapely.get_coordinates(frame.geometry.to_numpy()) - _xy(drawn)).max(axis=1)
    moved = offset > drawn.pixel_m / 2
    _refuse(
        path,
        f"points lie outside of their pixel, by up to {offset.max():.0f} m, and must be put back",
        [point.id for point, far in zip(drawn.points, moved, strict=True) if far],
    )
    seen = [_answer(value, drawn.legend) for value in frame["reference"]]
    pairs = list(zip(drawn.points, seen, frame["reference"], strict=True))
    strange = [f"{raw} ({point.id})" for point, answer, raw in pairs if answer == "unknown"]
    names = ", ".join(f"{item.value} {item.name}" for item in (*drawn.legend,))
    _refuse(path, f"points have an unknown class, which is none of {names}", strange)
    _refuse(
        path,
        f"of {len(known)} points have no reference class yet ({CANNOT_TELL[0]} if unknown)",
        [point.id for point, answer, _ in pairs if answer is None],
    )
    return Interpreted(drawn, np.array(seen, dtype=np.int64))


def read_design(path: Path) -> Design:
    """Read the design of a sample.

    Raises
    ------
    LabelsError
        If it is missing or is none.
    """
    try:
        design = Design.model_validate_json(read_limited(path))
    except OSError as error:
        raise LabelsError(
            f"The design of the sample can't be read: {path}. It was written when the sample was drawn; "
            "--design tells where it is."
        ) from error
    except ValueError as error:  # pydantic's, too
        raise LabelsError(f"{path} is not a design that `truckscape sample` wrote.") from error
    return design


def _design(sample: Sample, landcover: Path | str) -> Design:
    hectares, points = sample.hectares, sample.points
    return Design(
        map=Path(landcover).name,
        crs=sample.grid.crs.to_wkt() if sample.grid.crs else "",
        pixel_m=float(abs(sample.grid.affine.determinant)) ** 0.5,
        seed=sample.seed,
        allocation=sample.allocation,
        expected_error=sample.expected_error,
        strata=tuple(
            Stratum(
                **item.model_dump(),
                pixels=int(sample.pixels[i]),
                hectares=float(hectares[i]),
                weight=float(sample.pixels[i] / sample.pixels.sum()),
                points=int(points[i]),
                expected_accuracy=float(sample.expected_accuracy[i]),
            )
            for i, item in enumerate(sample.legend)
        ),
        points=tuple(
            DesignPoint(id=number, x=x, y=y, map_class=sample.legend[stratum].value)
            for number, ((x, y), stratum) in enumerate(
                zip(sample.xy.tolist(), sample.stratum.tolist(), strict=True), start=1
            )
        ),
    )


def _xy(design: Design) -> NDArray[np.float64]:
    return np.array([(point.x, point.y) for point in design.points])


def _read(path: Path | str, design: Design) -> gpd.GeoDataFrame:
    frame = read_layer(path, "Interpreted points", "points", ("points",))
    absent = [name for name in ("id", "reference") if name not in frame]
    if absent:
        raise LabelsError(f"Interpreted points have columns id and reference; {path} has no {absent[0]}.")
    if not isinstance(frame, gpd.GeoDataFrame) or set(frame.geometry.geom_type) != {"Point"}:
        raise LabelsError(f"Interpreted points must be points, each with its place; {path} holds others.")
    if frame.crs is None:
        raise LabelsError(f"Interpreted points have no CRS: {path}. Assign the one that they were drawn in.")
    return frame.to_crs(design.crs)


def _refuse(path: Path | str, what: str, which: Sequence[object]) -> None:
    """Tell what is wrong with which points, the first of them by name."""
    if which:
        shown = ", ".join(str(each) for each in which[:_SHOWN]) + (", ..." if len(which) > _SHOWN else "")
        raise LabelsError(f"{path}: {len(which)} {what}: {shown}")


def _integer(value: object) -> int | str:
    text = str(value).strip().removesuffix(".0")
    return int(text) if text.isdigit() else text


def _answer(value: object, legend: Sequence[LegendClass]) -> int | str | None:
    """Value of a class from its value or name; None where nothing was filled in, else "unknown"."""
    if value is None or value is pd.NA or value != value or not str(value).strip():  # noqa: PLR0124 NaN
        return None
    names = {item.name: item.value for item in legend} | {CANNOT_TELL[1]: CANNOT_TELL[0]}
    answer = _integer(value)
    answer = answer if isinstance(answer, int) else names.get(answer.lower().replace("_", " "), "unknown")
    return answer if answer in names.values() else "unknown"
