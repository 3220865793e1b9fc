"""GeoPackage with the styles of its layers."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow as pa
import pyogrio

from pipeline.layers.formats.writing import ROWS_AS_WKB, ROWS_AT_ONCE, replacing

_LAYER_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)"""


def write_gpkg(path: Path, layers: Mapping[str, gpd.GeoDataFrame], styles: Mapping[str, str]) -> None:
    """Layers by name as one GeoPackage 1.2, with QGIS styles (QML by layer name) that load by themselves.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as part:
        for number, (name, layer) in enumerate(layers.items()):
            creation = {} if number else {"dataset_options": {"VERSION": "1.2"}}
            if len(layer) > ROWS_AT_ONCE:
                _write_in_parts(layer, part, layer_name=name, append=number > 0, **creation)
            else:
                pyogrio.write_dataframe(
                    layer,
                    part,
                    driver="GPKG",
                    layer=name,
                    append=number > 0,
                    geometry_type=None if len(layer) else "Polygon",
                    **creation,
                )
        _store_styles(part, {name: styles[name] for name in layers if name in styles})


def _write_in_parts(layer: gpd.GeoDataFrame, gpkg: Path, layer_name: str, **options: Any) -> None:
    """A large layer of polygons through Arrow, so that only some rows exist a second time, as WKB."""

    def table(rows: slice) -> pa.Table:
        return pa.table(layer.iloc[rows].to_arrow(index=False))

    starts = range(0, len(layer), ROWS_AS_WKB)
    batches = (batch for start in starts for batch in table(slice(start, start + ROWS_AS_WKB)).to_batches())
    pyogrio.write_arrow(
        pa.RecordBatchReader.from_batches(table(slice(0)).schema, batches),
        gpkg,
        driver="GPKG",
        layer=layer_name,
        geometry_name=layer.geometry.name,
        geometry_type="Polygon",
        crs=layer.crs.to_wkt() if layer.crs else None,
        **options,
    )
    pa.default_memory_pool().release_unused()  # which it would keep: 80 MB of a granule's land cover


def _store_styles(gpkg: Path, styles: Mapping[str, str]) -> None:
    """The table in which QGIS keeps styles, registered as an attributes table of the GeoPackage."""
    with closing(sqlite3.connect(gpkg)) as database, database:
        database.execute(_LAYER_STYLES)
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0)"
        )
        for name, qml in styles.items():
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
                "styleName, styleQML, styleSLD, useAsDefault, description, owner) "
                "SELECT '', '', table_name, column_name, table_name, ?, '', 1, '', '' "
                "FROM gpkg_geometry_columns WHERE table_name = ?",
                (qml, name),
            )
