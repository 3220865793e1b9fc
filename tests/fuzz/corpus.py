"""Small valid inputs of every kind, made by the project's own simulator; nothing is committed."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import geopandas as gpd
import numpy as np
import rasterio
from numpy.typing import NDArray

from pipeline.models.bundle import open_bundle
from pipeline.simulation.simulate import simulate
from tests.scenes.products import write_manifest

SIZE, SEED = 64, 3
BANDS = ("B02", "B03", "B04", "B08")
NAME = "S2A_MSIL2A_20230824T102031_N0509_R065_T32UPD_20230824T140003"
VECTORS = {
    "gpkg": "roads.gpkg",
    "geojson": "roads.geojson",
    "fgb": "roads.fgb",
    "parquet": "roads.parquet",
    "shp.zip": "roads.shp.zip",
    "osm": "roads.osm",
}
"""Formats of roads and labels, and the names of their files of roads."""


@dataclass(frozen=True)
class Corpus:
    """Folder with one folder for each seed; a trial copies what it damages."""

    root: Path

    def copy(self, name: str, target: Path) -> Path:
        """Copy a seed (a file or a folder) into a folder, and return its place."""
        source, place = self.root / name, target / Path(name).name
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place)
        return place


def build(root: Path) -> Corpus:
    """Make all seeds; takes some 2 s."""
    product = simulate(root, SIZE, SEED)
    safe = root / f"{NAME}.SAFE"
    product.safe.rename(safe)
    write_manifest(safe)
    _zip(safe, root / f"{NAME}.zip")
    numbers, profile = _numbers(safe)
    for compress in ("none", "deflate"):
        _write_stack(root / "tif" / compress / "20230824T102031.tif", numbers, profile, compress)
    _write_bands(root / "bands" / "T32UPD_20230824T102031", numbers, profile)
    _write_item(root / "stac", numbers, profile)
    _write_vectors(root, product.roads, product.trucks)
    for name in ("trucks", "landcover"):
        bundle = open_bundle(name)
        shutil.copytree(bundle.weights.parent, root / "bundles" / name)
    return Corpus(root)


def _zip(safe: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in safe.rglob("*") if path.is_file()):
            archive.write(file, f"{safe.name}/{file.relative_to(safe).as_posix()}")


def _numbers(safe: Path) -> tuple[NDArray[np.uint16], dict[str, object]]:
    planes = []
    for band in BANDS:
        (file,) = safe.glob(f"GRANULE/*/IMG_DATA/R10m/*_{band}_10m.jp2")
        with rasterio.open(file) as raster:
            planes.append(raster.read(1))
            where = {"crs": raster.crs, "transform": raster.transform}
    return np.stack(planes), {**where, "width": SIZE, "height": SIZE, "dtype": "uint16", "driver": "GTiff"}


def _write_stack(path: Path, numbers: NDArray[np.uint16], profile: dict[str, object], compress: str) -> None:
    path.parent.mkdir(parents=True)
    with rasterio.open(path, "w", **profile, count=4, nodata=0, compress=compress) as raster:
        raster.write(numbers)
        raster.descriptions = BANDS
        raster.scales, raster.offsets = (0.0001,) * 4, (-0.1,) * 4


def _write_bands(folder: Path, numbers: NDArray[np.uint16], profile: dict[str, object]) -> None:
    folder.mkdir(parents=True)
    for band, plane in zip(BANDS, numbers, strict=True):
        with rasterio.open(folder / f"{folder.name}_{band}.tif", "w", **profile, count=1, nodata=0) as raster:
            raster.write(plane, 1)
            raster.scales, raster.offsets = (0.0001,), (-0.1,)


def _write_item(folder: Path, numbers: NDArray[np.uint16], profile: dict[str, object]) -> None:
    """Write an item as Earth Search does, with its rasters beside it."""
    folder.mkdir()
    assets = {}
    for key, band, plane in zip(("blue", "green", "red", "nir"), BANDS, numbers, strict=True):
        with rasterio.open(
            folder / f"{band}.tif", "w", **profile, count=1, nodata=0, compress="deflate"
        ) as file:
            file.write(plane, 1)
        assets[key] = {
            "href": f"./{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data", "reflectance"],
            "eo:bands": [{"name": key, "common_name": key}],
            "gsd": 10,
            "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}],
            "proj:shape": [SIZE, SIZE],
        }
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"],
        "id": "S2A_32UPD_20230824_0_L2A",
        "collection": "sentinel-2-l2a",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[10.4, 53.2], [10.6, 53.2], [10.6, 53.3], [10.4, 53.3], [10.4, 53.2]]],
        },
        "bbox": [10.4, 53.2, 10.6, 53.3],
        "properties": {
            "datetime": "2023-08-24T10:25:31.000Z",
            "created": "2023-08-24T15:00:00.000Z",
            "platform": "sentinel-2a",
            "grid:code": "MGRS-32UPD",
            "proj:epsg": 32632,
            "eo:cloud_cover": 3.5,
            "view:sun_azimuth": 160.0,
            "s2:processing_baseline": "05.09",
            "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_2APS_20230824T140003_S20230824T102531_N05.09",
            "earthsearch:boa_offset_applied": False,
        },
        "links": [{"rel": "self", "href": "https://catalogue.invalid/items/1"}],
        "assets": assets,
    }
    (folder / "item.json").write_text(json.dumps(item, indent=1), encoding="utf-8")


def _write_vectors(root: Path, roads: Path, trucks: Path) -> None:
    for stem, file in (("roads", roads), ("trucks", trucks)):
        table = gpd.read_file(file)
        folder = root / stem
        folder.mkdir()
        shutil.copy(file, folder / f"{stem}.gpkg")
        degrees = table.to_crs(4326)
        degrees.to_file(folder / f"{stem}.geojson", driver="GeoJSON")
        degrees.to_file(folder / f"{stem}.fgb", driver="FlatGeobuf")
        table.to_parquet(folder / f"{stem}.parquet")
        _write_shapefile(table, folder / f"{stem}.shp.zip")
        if stem == "roads":
            _write_osm(degrees, folder / "roads.osm")


def _write_shapefile(table: gpd.GeoDataFrame, target: Path) -> None:
    parts = target.parent / "parts"
    parts.mkdir()
    short = table.rename(columns={name: name[:10] for name in table.columns if name != "geometry"})
    short.to_file(parts / f"{target.name.split('.')[0]}.shp", encoding="UTF-8")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(parts.iterdir()):
            archive.write(file, file.name)
    shutil.rmtree(parts)


def _write_osm(roads: gpd.GeoDataFrame, target: Path) -> None:
    nodes, ways = [], []
    for number, road in enumerate(roads.itertuples(), start=1):
        first = len(nodes) + 1
        nodes += [
            f'<node id="{first + index}" lat="{lat:.7f}" lon="{lon:.7f}" version="1"/>'
            for index, (lon, lat) in enumerate(road.geometry.coords)
        ]
        refs = "".join(f'<nd ref="{node}"/>' for node in range(first, len(nodes) + 1))
        tags = f'<tag k="highway" v={quoteattr(road.road_class)}/><tag k="lanes" v="{road.lanes}"/>'
        ways.append(f'<way id="{number}" version="1">{refs}{tags}<tag k="oneway" v="{road.oneway}"/></way>')
    target.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<osm version="0.6" generator="tests">\n'
        + "\n".join([*nodes, *ways])
        + "\n</osm>\n",
        encoding="utf-8",
    )
