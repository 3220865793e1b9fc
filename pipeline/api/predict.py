"""Trucks and land cover of a scene or an array, in a private folder that is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from pipeline.api.folders import private_folder
from pipeline.api.messages import python_names
from pipeline.api.options import Options, run_config
from pipeline.api.progress import Progress, Reporter
from pipeline.api.scene import Crs, Scene
from pipeline.api.scene import open as open_scene
from pipeline.api.vectors import Vectors, vector_file
from pipeline.errors import ArrayError, RoadsError

if TYPE_CHECKING:  # they take seconds
    import geopandas as gpd
    import numpy as np
    import pystac
    import xarray as xr
    from affine import Affine

    from pipeline.run import Job

Source: TypeAlias = "Scene | str | Path | pystac.Item | np.ndarray[Any, Any] | xr.DataArray"
"""A scene, what `open` takes, or an array of reflectance."""


def detect(
    source: Source,
    *,
    roads: Vectors | None = None,
    bands: Sequence[str] | None = None,
    transform: Affine | Sequence[float] | None = None,
    crs: Crs | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | Literal["none"] | None = None,
    acquired: str | date | None = None,
    model: str | Path | None = None,
    score_threshold: float | None = None,
    settings: Options | None = None,
    progress: Progress | None = None,
) -> gpd.GeoDataFrame:
    """Return the moving trucks of a scene or an array: the layer `trucks` of a run, in the scene's CRS.

    `source` is a scene, a path, a URL, a `pystac.Item`, or an array (bands, rows, columns) of reflectance
    0-1, NaN without data, at 10 m. An array needs `bands`, `transform` (affine) and `crs`, unless it is of
    xarray and states them. Values are normalised by the model's card: give them as they are. `scale` and
    `offset` (reflectance = number * scale + offset), `nodata` and `acquired` are for what the source does
    not state. `roads` are lines with columns of OpenStreetMap (`highway`, ...), in any CRS: only their
    surroundings are searched, with a lower threshold. `model` is the name or folder of a bundle. `settings`
    are those of a run, by name. Without trucks the frame is empty and has all columns.

    Nothing stays on disk. Land cover is mapped for the column `landcover` and to reject look-alikes on
    water; `settings={"landcover.enabled": False}` leaves it out.

    Memory: `engine.memory_mb` (2500 by default), and for arrays their size as a temporary file.

    Raises
    ------
    Error
        `ArrayError`, `GeoreferenceError` and `RadiometryError` for arrays that are none of a scene,
        `BundleError` for missing bands, and those of `open`, of roads and of a run.
    """
    options = _with(settings, {"trucks.bundle": model, "trucks.score_threshold": score_threshold})
    given = _Source(source, bands, transform, crs, scale, offset, nodata, acquired)
    with _job(given, roads, {"trucks.enabled": True, **options}, progress) as (job, reporter):
        return _trucks(job, reporter)


def landcover(
    source: Source,
    *,
    probabilities: bool = False,
    bands: Sequence[str] | None = None,
    transform: Affine | Sequence[float] | None = None,
    crs: Crs | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | Literal["none"] | None = None,
    acquired: str | date | None = None,
    model: str | Path | None = None,
    settings: Options | None = None,
    progress: Progress | None = None,
) -> xr.DataArray:
    """Return the land cover of a scene or an array, of which the arguments are those of `detect`.

    Classes (y, x) as uint8, 255 without a class, with names and colours as `flag_meanings` and `flag_colors`;
    or with `probabilities` the probability of each class (class, y, x), float32, NaN without a class.

    Memory: `engine.memory_mb`, and one byte a pixel; with probabilities 36 (4.3 GB for a granule, of which
    `run` writes a file instead).

    Raises
    ------
    Error
        As `detect`.
    """
    chosen = {"landcover.bundle": model, "landcover.probabilities": probabilities}
    options = {**_with(settings, chosen), "trucks.enabled": False, "landcover.enabled": True}
    given = _Source(source, bands, transform, crs, scale, offset, nodata, acquired)
    with _job(given, None, options, progress) as (job, reporter):
        return _landcover(job, reporter, probabilities)


class _Source:
    """Scene or array as the user gave it."""

    def __init__(self, source: Any, bands: Any, transform: Any, crs: Any, *values: Any) -> None:
        self._source, self._bands, self._transform, self._crs = source, bands, transform, crs
        self._values = dict(zip(("scale", "offset", "nodata", "acquired"), values, strict=True))

    def opened(self, folder: Path) -> Scene:
        """Return the scene; an array becomes a file in `folder`."""
        source = self._source
        if isinstance(source, Scene | str | Path) or hasattr(source, "assets"):
            return self._opened_scene(source)
        if not hasattr(source, "__array__"):
            raise ArrayError(
                "A scene, a path, a URL, a pystac.Item or an array of NumPy or xarray is expected. Received: "
                f"{type(source).__name__}."
            )
        from pipeline.api.arrays import image_of, write_image

        scaled = self._values["scale"] is not None
        image = image_of(source, self._bands, self._transform, self._crs, scaled)
        path = folder / "array.tif"
        write_image(image, path)
        return open_scene(path, **{**self._values, "acquired": self._values["acquired"] or image.acquired})

    def _opened_scene(self, source: Any) -> Scene:
        for name, value in (("transform", self._transform), ("crs", self._crs)):
            if value is not None:
                raise ArrayError(f"{name}= is for arrays; a scene has its place.")
        if not isinstance(source, Scene):
            return open_scene(source, bands=self._bands, **self._values)
        if self._bands is not None or any(value is not None for value in self._values.values()):
            raise ArrayError(
                "bands=, scale=, offset=, nodata= and acquired= are given where a scene is opened: "
                "open(path, scale=...)."
            )
        return source


@contextmanager
def _job(
    source: _Source, roads: Vectors | None, options: Options, progress: Progress | None
) -> Iterator[tuple[Job, Reporter]]:
    """Prepare a run in a private folder and compute its shards; afterwards the folder is removed."""
    from pipeline.run import Request, prepare, run_shards, work_on

    reporter = Reporter(progress)
    reporter.say("checking the scene and its files")
    with python_names(), private_folder() as folder:
        scene = source.opened(folder)
        out = folder / "out"
        request = Request(
            scene.href or scene.id,
            out,
            run_config(scene.settings, options),
            scene.names,
            None if roads is None else vector_file(roads, folder, "roads=", RoadsError),
            opened=scene.data if scene.href is None else None,
            catalog=False,
        )
        job = prepare(request)
        with work_on(job):
            reporter.begin("networks over tiles", sum(map(len, job.shards)))
            run_shards(job, range(len(job.shards)), reporter.on_tile)
            yield job, reporter


def _trucks(job: Job, reporter: Reporter) -> gpd.GeoDataFrame:
    """Return the layer of trucks of a job whose shards are stored, as a run makes it."""
    from pipeline.run import merged
    from pipeline.run.products import PRODUCTS, RunContext

    context = RunContext(job, merged(job), reporter.say)
    for product in PRODUCTS:
        if product.name in ("trucks", "traffic") and product.wanted(job):
            context.add(product.make(context))
    return context.layers["trucks"]


def _landcover(job: Job, reporter: Reporter, with_probabilities: bool) -> xr.DataArray:
    from pipeline.api.pixels import classes, probabilities
    from pipeline.run import merged
    from pipeline.run.products import RunContext

    reporter.say("land cover")
    context = RunContext(job, merged(job), reporter.say)
    if with_probabilities:
        return probabilities(cast(Path, context.probabilities), job.scene.grid, context.legend)
    return classes(cast(Path, context.landcover), job.scene.grid, context.legend)


def _with(settings: Options | None, arguments: Options) -> Options:
    """Return settings with the arguments that are given."""
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    return {**(settings or {}), **{name: value for name, value in chosen.items() if value is not None}}
