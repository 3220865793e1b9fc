"""Roads, labels and areas in every format that is read."""

from __future__ import annotations

import json
import math
import random
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
from shapely import LineString, MultiPolygon, Point, Polygon, box

from tests.fuzz import damage
from tests.fuzz.corpus import NAME, VECTORS
from tests.fuzz.damage import BYTES, XML
from tests.fuzz.trial import ENGINE, TRUCKS_ONLY, Kind, Mutation, Trial

_HERE = (600000.0, 5899400.0, 600640.0, 5900040.0)


def _input(trial: Trial) -> Path:
    """Return the vector file of the trial; there is one."""
    (found,) = (path for path in trial.box.inputs.iterdir() if path.suffix not in (".SAFE", ".tif"))
    return found


def _named(trial: Trial, new: Path) -> None:
    """Give the command another file."""
    old = next(
        index for index, value in enumerate(trial.argv) if value.startswith("in/") and "SAFE" not in value
    )
    trial.argv[old] = f"in/{new.name}"


def _bytes(name: str) -> Mutation:
    def change(trial: Trial) -> None:
        file = _input(trial)
        file.write_bytes(BYTES[name](file.read_bytes(), trial.rng))

    return change


def structure(trial: Trial) -> None:
    """Damage the document, the database, or the member of the archive."""
    file = _input(trial)
    if file.suffix == ".geojson":
        tree, path, new = damage.damage_json(json.loads(file.read_text(encoding="utf-8")), trial.rng)
        trial.note = f"{path} {new!r}"[:200]
        file.write_bytes(damage.json_text(tree, trial.rng).encode("utf-8", "surrogatepass"))
    elif file.suffix == ".osm":
        name = trial.rng.choice([*XML])
        text = file.read_text(encoding="utf-8")
        change = (
            damage.xml_attribute if name in ("swap", "value", "remove", "repeat", "rename") else XML[name]
        )
        if name == "entities":
            text = text.replace("<node", "<bounds>x</bounds><node", 1)
        file.write_bytes(change(text, trial.rng).encode("utf-8", "surrogatepass"))
    elif file.suffix == ".gpkg":
        _damage_database(file, trial)
    elif file.name.endswith(".shp.zip"):
        _damage_members(file, trial)
    else:
        begin = trial.rng.choice((0, 0, max(0, file.stat().st_size - 2000)))
        data = file.read_bytes()
        file.write_bytes(damage.flip_bytes(data, trial.rng, begin, begin + 2000))


def _damage_members(file: Path, trial: Trial) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = trial.rng.choice(sorted(members))
    choice = trial.rng.choice(("damage", "damage", "remove", "other", "up", "many", "encoding"))
    trial.note = f"{choice} {name}"
    if choice == "damage":
        how = trial.rng.choice([*BYTES])
        members[name] = BYTES[how](members[name], trial.rng)
    elif choice == "remove":
        del members[name]
    elif choice == "other":
        members["other.shp"] = members[next(n for n in members if n.endswith(".shp"))][:100]
    elif choice == "up":
        members["../../" + name] = members.pop(name)
    elif choice == "many":
        members |= {f"d/{number}.csv": b"wkt\n" for number in range(2000)}
    else:
        cpg = next((n for n in members if n.endswith(".cpg")), "roads.cpg")
        members[cpg] = trial.rng.choice(
            (b"UTF-8", b"CP437", b"no such", b"1252", b"\xff\xfe", b"x" * 5000, b"")
        )
        dbf = next(n for n in members if n.endswith(".dbf"))
        members[dbf] = damage.flip_bytes(members[dbf], trial.rng, 300)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)


_SQL = (
    "UPDATE gpkg_contents SET srs_id = 999999",
    "UPDATE gpkg_contents SET min_x = 'nan', max_x = 1e308",
    "UPDATE gpkg_contents SET table_name = 'x'",
    "UPDATE gpkg_contents SET data_type = 'attributes'",
    "UPDATE gpkg_contents SET data_type = 'tiles'",
    "UPDATE gpkg_geometry_columns SET geometry_type_name = 'POINT'",
    "UPDATE gpkg_geometry_columns SET column_name = 'fid'",
    "UPDATE gpkg_spatial_ref_sys SET definition = 'nothing'",
    "UPDATE gpkg_spatial_ref_sys SET organization_coordsys_id = -5, definition = ''",
    "DELETE FROM gpkg_geometry_columns",
    "DELETE FROM gpkg_spatial_ref_sys",
    "DROP TABLE gpkg_contents",
    "PRAGMA user_version = 99999999",
    "PRAGMA application_id = 1",
    "UPDATE {table} SET geom = x'00'",
    "UPDATE {table} SET geom = x'47500001e610000001020000000200000000000000000000'",
    "UPDATE {table} SET geom = NULL",
    "UPDATE {table} SET geom = 'text'",
    "UPDATE {table} SET {column} = x'ff00ff'",
    "UPDATE {table} SET {column} = 1e308",
    "UPDATE {table} SET {column} = '<script>=1+1[red]'",
    "ALTER TABLE {table} ADD COLUMN \"[red]\" TEXT DEFAULT 'x'",
    "CREATE TABLE other AS SELECT * FROM {table}",
    "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END",
)
_VIEWS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT n.i AS fid, t.geom FROM n, {table}_x t",
    "SELECT a.fid AS fid, a.geom FROM {table}_x a, {table}_x b, {table}_x c, {table}_x d, {table}_x e, "
    "{table}_x f, {table}_x g, {table}_x h",
    "SELECT fid, geom FROM {table}",
    "SELECT fid, randomblob(1000000) AS geom FROM {table}_x",
)


def _damage_database(file: Path, trial: Trial) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as base:
        (table,) = base.execute("SELECT table_name FROM gpkg_contents").fetchone()
        columns = [
            row[1] for row in base.execute(f"PRAGMA table_info({table})") if row[1] not in ("fid", "geom")
        ]
        statements = [trial.rng.choice(_SQL).format(table=table, column=trial.rng.choice([*columns, "geom"]))]
        for (trigger,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            base.execute(f'DROP TRIGGER "{trigger}"')
        if trial.rng.random() < 0.25:
            view = trial.rng.choice(_VIEWS).format(table=table)
            statements = [f"ALTER TABLE {table} RENAME TO {table}_x", f"CREATE VIEW {table} AS {view}"]
        trial.note = statements[-1][:150]
        for statement in statements:
            base.execute(statement)


def _absurd_geometry(rng: random.Random) -> list[object]:
    """Return geometries that no road, label or area is."""
    x, y = _HERE[0] + 300, _HERE[1] + 300
    far = rng.choice((1e12, -1e30, 1e308, math.inf, math.nan, 2e7, 1e9))
    return rng.choice(
        (
            [LineString([(x, y), (far, y)])],
            [LineString([(x + 200 * math.sin(37 * i), y + 200 * math.cos(61 * i)) for i in range(1500)])],
            [LineString([(x, y), (x, y)])],
            [LineString([(x + i / 50, y), (x + i / 50, y + 300)]) for i in range(3000)],
            [box(-1e7, -1e7, 1e7, 1e7)],
            [box(x, y, x + 20, y + 20)] * 3000,
            [Polygon([(x, y), (x + 50, y + 50), (x, y + 50), (x + 50, y)])],
            [Polygon([(x, y), (x + 0.001, y), (x, y + 0.001)])],
            [Polygon([(x + 9 * math.sin(i), y + 9 * math.cos(i * 1.7)) for i in range(2000)])],
            [MultiPolygon([box(x + 30 * i, y, x + 30 * i + 20, y + 20) for i in range(9)])],
            [Point(x, y), box(x, y, x + 20, y + 20), LineString([(x, y), (x + 100, y)])],
            [None, box(x, y, x + 20, y + 20)],
            [None],
            [box(x, y, far, far) if math.isfinite(far) else Polygon([(x, y), (far, y), (x, far)])],
            [LineString([(x, y, 5), (x + 100, y, math.nan)])],
        )
    )


def geometry(trial: Trial) -> None:
    """Replace all features by absurd ones."""
    file = _input(trial)
    shapes = _absurd_geometry(trial.rng)
    crs = trial.rng.choice((32632, 32632, 32632, 4326, 3857, 5041, None))
    trial.note = f"{len(shapes)} features in {crs}: {str(shapes[0])[:80]}"
    columns = {"road_class": ["primary"] * len(shapes), "confidence": ["high"] * len(shapes)}
    table = gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)
    stem = file.name.split(".")[0]
    file.unlink()
    target = file.with_name(f"{stem}.{trial.rng.choice(('gpkg', 'parquet', 'geojson'))}")
    if target.suffix == ".parquet":
        table.to_parquet(target)
    elif target.suffix == ".gpkg":
        table.to_file(target, layer=stem)
    else:
        table.to_file(target, driver="GeoJSON", COORDINATE_PRECISION=3)
    _named(trial, target)


def columns(trial: Trial) -> None:
    """Add columns of absurd names, types and values."""
    file = _input(trial)
    seed = {".gpkg": file}.get(file.suffix)
    table = gpd.read_file(seed) if seed else None
    if table is None:
        stem = file.name.split(".")[0]
        table = gpd.read_file(trial.corpus.root / stem / f"{stem}.gpkg")
    count = len(table)
    name = trial.rng.choice(
        ("oneway", "lanes", "maxspeed", "confidence", "travel_deg", "speed_kmh", "id", "kind", "bridge",
        "score",
         "road_class", "driving_side", "tunnel", "name", "highway", "tags", "length_m", "[red]", "<b>",
         "x" * 300)
    )  # fmt: skip
    value = trial.rng.choice(
        (np.nan, np.inf, -1, 1e308, "", "x" * 100_000, "\x1b[2J", "=1+1", None, True, "[/red]", "١", "5;6")
    )
    trial.note = f"{name[:20]} = {str(value)[:40]!r}"
    table[name] = [value] * count
    file.unlink()
    target = file.with_name(f"{file.name.split('.')[0]}.parquet")
    table.to_parquet(target)
    _named(trial, target)


def recipe(trial: Trial) -> None:
    """Write a file that only names another source: a file beside the work, or a server."""
    secret, url = trial.box.beside, trial.server_url
    vrt = (
        '<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{source}</SrcDataSource>'
        "<SrcLayer>secret</SrcLayer>"
        "<GeometryType>wkbLineString</GeometryType><LayerSRS>EPSG:32632</LayerSRS>"
        '<GeometryField encoding="WKT" field="wkt"/></OGRVRTLayer></OGRVRTDataSource>'
    )
    file = _input(trial)
    file.unlink()
    stem = file.name.split(".")[0]
    source = trial.rng.choice((f"{secret}/secret.csv", f"{url}/secret.csv", f"/vsicurl/{url}/secret.geojson"))
    content = trial.rng.choice(
        (
            vrt.format(source=source), f'{{"type": "Topology", "href": "{url}/x"}}', f"{url}/secret.geojson",
            f'{{"type":"FeatureCollection","features":[],"links":[{{"rel":"next","href":"{url}/next"}}]}}',
            f"<kml><NetworkLink><Link><href>{url}/x.kml</href></Link></NetworkLink></kml>",
            f'<?xml version="1.0"?><FeatureCollection xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'xmlns:gml="http://www.opengis.net/gml" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            f'xsi:schemaLocation="x {url}/schema.xsd"><gml:featureMember xlink:href="{url}/x.gml#a"/>'
            "</FeatureCollection>",
            f"<OGRWFSDataSource><URL>{url}/wfs</URL></OGRWFSDataSource>",
            "[geometry]\nCREATE TABLE", f"ESRIJSON:{url}/query",
        )
    )  # fmt: skip
    ending = trial.rng.choice(
        ("vrt", "geojson", "zip", "gpkg", "kml", "gml", "json", "xml", "shp.zip", "tar", "csv", "")
    )
    target = trial.box.inputs / f"{stem}.{ending}".rstrip(".")
    if ending.endswith("zip"):
        with zipfile.ZipFile(target, "w") as archive:
            inner = trial.rng.choice(("vrt", "geojson", "xml", "txt", "gml"))
            archive.writestr(trial.rng.choice(("", "deep/er/")) + f"{stem}.{inner}", content)
    else:
        target.write_text(content)
    trial.note = f"{ending}: {content[:100]}"
    _named(trial, target)


def no_file(trial: Trial) -> None:
    """Name what is no file, or a layer that is none."""
    name = trial.rng.choice(
        (
            "in/nowhere.gpkg", "in", ".", "in/{0}:nolayer", "in/{0}:", ":", "in/{0}:[red]",
            "/vsizip/in/{0}", "MEMORY:x", "PG:dbname=x",
            "{1}/roads.geojson", "/vsicurl/{1}/roads.geojson", "GeoJSON:in/{0}", "in/{0}\n", "in/../in/{0}",
            "CSV:/etc/passwd",
            "../beside/secret.csv", "~nobody/x.gpkg", "in/" + "x" * 300, "\udcff.gpkg", "WFS:{1}",
            "in/{0}:" + "x" * 1000,
        )
    )  # fmt: skip
    text = name.format(_input(trial).name, trial.server_url)
    old = next(
        index for index, value in enumerate(trial.argv) if value.startswith("in/") and "SAFE" not in value
    )
    trial.argv[old], trial.note = text, ascii(text)[:80]
    trial.may_read = {"secret.csv"} if "secret.csv" in text else set()


def no_regular_file(trial: Trial) -> None:
    """Put a pipe, a link to itself or a folder in place of the file."""
    file = _input(trial)
    file.unlink()
    choice = trial.rng.choice(("folder", "loop", "empty"))
    trial.note = choice
    if choice == "folder":
        file.mkdir()
    elif choice == "loop":
        file.symlink_to(file)
    else:
        file.touch()


_MUTATIONS = {
    **{name: _bytes(name) for name in BYTES},
    "structure": structure,
    "geometry": geometry,
    "columns": columns,
    "recipe": recipe,
    "no_file": no_file,
    "no_regular_file": no_regular_file,
}


def _as(argument: str, stem: str) -> Callable[[Trial, str], None]:
    def prepare(trial: Trial, variant: str) -> None:
        trial.corpus.copy(f"{NAME}.SAFE", trial.box.inputs)
        file = trial.corpus.copy(f"{stem}/{stem}.{variant}", trial.box.inputs)
        trial.argv = [
            "run",
            f"in/{NAME}.SAFE",
            argument,
            f"in/{file.name}",
            "--out",
            "out",
            TRUCKS_ONLY,
            *ENGINE,
        ]
        trial.baseline = "safe"
        # Roads restrict the search; without the other network there is no land cover.
        trial.may_differ = {"trucks", "landcover"}

    return prepare


def _evaluate(trial: Trial, variant: str) -> None:
    """Score the trucks of the truth against labels: no network runs."""
    file = trial.corpus.copy(f"trucks/trucks.{variant}", trial.box.inputs)
    truth = trial.corpus.root / "trucks" / "trucks.gpkg"
    trial.argv = ["evaluate", "trucks", str(truth), f"in/{file.name}", "--out", "out"]


def _search(trial: Trial, variant: str) -> None:
    """Search in an area; its API is one that refuses."""
    file = trial.corpus.copy(f"roads/roads.{variant}", trial.box.inputs)
    table = gpd.read_file(file) if variant != "parquet" else gpd.read_parquet(file)
    areas = gpd.GeoDataFrame(geometry=[*table.to_crs(32632).buffer(50).head(3)], crs=32632)
    file.unlink()
    if variant == "parquet":
        areas.to_parquet(file)
    elif variant == "geojson":
        areas.to_crs(4326).to_file(file, driver="GeoJSON")
    else:
        areas.to_file(file, layer="roads")
    # The search ends at once with an error, after the area was read.
    trial.argv = [
        "batch",
        "--stac",
        f"{trial.server_url}/stac",
        "--area",
        f"in/{file.name}",
        "--out",
        "out",
        "--no-prefect",
    ]


ROADS = Kind("roads", _as("--roads", "roads"), _MUTATIONS, tuple(VECTORS))
LABELS = Kind("labels", _evaluate, _MUTATIONS, tuple(name for name in VECTORS if name != "osm"))
AREA = Kind("area", _search, _MUTATIONS, ("gpkg", "geojson", "parquet"))
