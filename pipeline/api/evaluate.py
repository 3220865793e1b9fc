"""Trucks against reference boxes: figures, and every mistake as a feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.api.folders import private_folder
from pipeline.api.messages import python_names
from pipeline.api.scene import Scene
from pipeline.api.vectors import Vectors, vector_file
from pipeline.errors import LabelsError, RoadsError

if TYPE_CHECKING:  # it takes seconds
    import geopandas as gpd


@dataclass(frozen=True)
class Score:
    """Trucks against a reference."""

    metrics: Mapping[str, Any]
    """Figures of `trucks` (heavy vehicles) and `moving_vehicles` (of any kind), as in `metrics.json`."""
    cases: gpd.GeoDataFrame
    """True and false positives and false negatives with their likely cause, as `confusion_cases.gpkg`."""

    def __repr__(self) -> str:
        found = self.metrics["trucks"]["centres"]["20m"]
        names = [name for name in ("precision", "recall", "f1") if found.get(name) is not None]
        figures = ", ".join(f"{name} {found[name]:.3f}" for name in names) or "no figures"
        return f"<truckscape.Score {figures} (centres within 20 m), {len(self.cases)} cases>"


def evaluate(
    trucks: Vectors, reference: Vectors, *, roads: Vectors | None = None, scene: Scene | None = None
) -> Score:
    """Compare detected trucks with reference boxes.

    Both are a GeoDataFrame or a file; `trucks` may be the folder of a run, too, whose searched area then
    counts. `roads` restrict the comparison to their surroundings. The causes of mistakes are inferred from
    the pixels of `scene`, if it is given.

    Raises
    ------
    LabelsError, RoadsError
        If trucks, reference or roads can't be used.
    EvaluationError
        If nothing was measured, as with a reference of another place.
    """
    from pipeline.evaluation.evaluate import check_measured, evaluate_truck_file, file_of_run

    with python_names(), private_folder() as folder:
        predicted = vector_file(trucks, folder / "trucks", "trucks=", LabelsError)
        found = evaluate_truck_file(
            file_of_run(predicted, "trucks.gpkg", "trucks.geojson"),
            vector_file(reference, folder / "reference", "reference=", LabelsError),
            None if roads is None else vector_file(roads, folder / "roads", "roads=", RoadsError),
            None if scene is None else scene.data,
        )
        check_measured(found.metrics)
    assert found.truck_cases is not None  # noqa: S101 (there are labels of trucks)
    return Score(found.metrics, found.truck_cases)
