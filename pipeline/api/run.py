"""A complete run: layers, files and metrics of one scene."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.api.messages import python_names
from pipeline.api.options import Options, run_config
from pipeline.api.progress import Progress, Reporter
from pipeline.api.scene import Scene
from pipeline.api.scene import open as open_scene
from pipeline.api.vectors import Vectors, vector_file
from pipeline.errors import RoadsError
from pipeline.storage.out_folder import ROADS

if TYPE_CHECKING:  # they take seconds
    import geopandas as gpd
    import pystac

_FILES = {"landcover": "landcover.gpkg"}
"""Files of layers that are not in `trucks.gpkg`."""


class Layers(Mapping[str, "gpd.GeoDataFrame"]):
    """Vector layers of a run by name, read from its files at each access: those of a granule are large."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)

    def __getitem__(self, name: str) -> gpd.GeoDataFrame:
        import pandas as pd

        from pipeline.layers.columns import LAYERS
        from pipeline.storage.untrusted_vectors import read_layer

        frame = read_layer(f"{self._files[name]}:{name}", f"Layer {name}", ("polygons", "lines"))
        types = LAYERS[name].columns if name in LAYERS else {}
        typed = {column: kind.convert(frame[column]) for column, kind in types.items() if column in frame}
        for column, values in typed.items():
            if isinstance(values.dtype, pd.StringDtype):  # as in frames that come from no file
                typed[column] = values.astype(object).where(values.notna(), None)
        return frame.assign(**typed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"<truckscape.Layers {', '.join(self)}>"


@dataclass(frozen=True)
class Result:
    """Results of a run."""

    folder: Path
    """Folder of the scene, with all files."""
    files: Mapping[str, Path]
    """Files by name, such as `trucks.gpkg`."""
    layers: Layers
    """Vector layers by name: `trucks`, `vehicles`, `seen`, `not_seen`, `landcover`, `road_segments`,
    `look_alikes`."""
    metrics: Mapping[str, Any]
    """Figures against the labels, as `evaluation/metrics.json`; empty without labels."""
    record: Mapping[str, Any]
    """Content of `run.json`: counts, parameters, models, warnings."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.record["counts"].items())
        return f"<truckscape.Result {self.folder}: {counts}>"


def run(
    scene: Scene | str | Path | pystac.Item,
    out: str | Path,
    *,
    roads: Vectors | None = None,
    truck_labels: str | Path | None = None,
    landcover_labels: str | Path | None = None,
    config: str | Path | None = None,
    settings: Options | None = None,
    progress: Progress | None = None,
) -> Result:
    """Detect trucks and map land cover of a scene into `out/<scene id>`, as `truckscape run` does.

    `roads` are a file or a GeoDataFrame of lines, or `overpass` to fetch those of OpenStreetMap; a frame is
    kept in `out/.roads`. Labels are files. `config` is a YAML file of settings, and `settings` replace some
    of them by name, such as `{"trucks.score_threshold": 0.4}`. An interrupted run resumes.

    Raises
    ------
    Error
        As `open`, and `BundleError`, `RoadsError`, `LabelsError`, `OutputError` and others, one line each.
    """
    from pipeline.run import OVERPASS, Request, prepare, run_prepared_directly

    reporter = Reporter(progress)
    reporter.say("checking the scene and its files")
    opened = scene if isinstance(scene, Scene) else open_scene(scene)
    folder = Path(out)
    with python_names():
        lines = None
        if roads is not None:
            is_server = str(roads) == OVERPASS if isinstance(roads, str | Path) else False
            lines = Path(OVERPASS) if is_server else vector_file(roads, folder / ROADS, "roads=", RoadsError)
        request = Request(
            opened.href or opened.id,
            folder,
            run_config(opened.settings, settings, config),
            opened.names,
            lines,
            None if truck_labels is None else Path(truck_labels),
            None if landcover_labels is None else Path(landcover_labels),
            opened=opened.data if opened.href is None else None,
        )
        job = prepare(request)
        reporter.begin("networks over tiles", sum(len(job.shards[index]) for index in job.missing()))
        done = run_prepared_directly(job, reporter.say, reporter.on_tile)
    return Result(done.folder, done.outputs, _layers(done.folder, done.run), done.metrics, done.run)


def _layers(folder: Path, record: Mapping[str, Any]) -> Layers:
    """Return the layers that a run has written."""
    names = [*record["counts"], *(("seen", "not_seen") if "trucks" in record["counts"] else ())]
    files = {name: folder / _FILES.get(name, "trucks.gpkg") for name in names}
    return Layers({name: path for name, path in files.items() if path.is_file()})
