"""GeoPackage with the styles of its layers."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import geopandas as gpd

from pipeline.layers.formats.writing import replacing, write_vector

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
            write_vector(layer, part, "GPKG", layer=name, append=number > 0, **creation)
        _store_styles(part, {name: styles[name] for name in layers if name in styles})


def _store_styles(gpkg: Path, styles: Mapping[str, str]) -> None:
    """Write the table in which QGIS keeps styles, registered as an attributes table."""
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
