"""Whole runs: layers land where they should in any CRS, come back from any format, and go with their run."""

import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as gdal_transform
from rasterio.windows import Window

from pipeline.config import load_config
from pipeline.errors import GeoreferenceError
from pipeline.run import Request, Result, run_directly
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels

FAST = ["engine.threads=1", "tiling.tile_px=256"]
BANDS = ("B02", "B03", "B04", "B08")
SIDE = 128


@pytest.fixture(scope="module")
def pixels(product) -> np.ndarray:
    """Reflectance (4, SIDE, SIDE) where the simulated product has most trucks."""
    scene = open_scene(str(product.safe))
    places = gpd.read_file(product.trucks).to_crs(scene.grid.crs.proj).centroid
    columns, rows = ~scene.grid.affine * (places.x.to_numpy(), places.y.to_numpy())
    corners = [(y, x) for y in range(0, 129, 32) for x in range(0, 129, 32)]

    def trucks_in(corner: tuple[int, int]) -> int:
        y, x = corner
        return int(((rows > y) & (rows < y + SIDE) & (columns > x) & (columns < x + SIDE)).sum())

    top, left = max(corners, key=trucks_in)
    return read_pixels(scene, Window(left, top, SIDE, SIDE), BANDS).reflectance


def write_scene(path: Path, pixels: np.ndarray, crs: str, transform: Affine) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=pixels.shape[1], width=pixels.shape[2], count=4, dtype="float32",
        nodata=0, crs=crs, transform=transform,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
        dataset.descriptions = BANDS
        dataset.update_tags(acquired="2023-04-21T10:20:31.024Z")
    return path


def run(scene: Path | str, out: Path, *settings: str, **given) -> Result:
    return run_directly(Request(str(scene), out, load_config(None, [*FAST, *settings]), **given))


@pytest.fixture(scope="module")
def of_pixels(pixels, tmp_path_factory) -> np.ndarray:
    """Corners (N, 4, 2) in pixels of the trucks that are found, from a run in UTM."""
    folder = tmp_path_factory.mktemp("utm")
    transform = Affine(10, 0, 600_000, 0, -10, 5_800_000)
    result = run(write_scene(folder / "scene.tif", pixels, "EPSG:32632", transform), folder)
    found = gpd.read_file(result.folder / "trucks.gpkg", layer="trucks").geometry
    corners = np.array([shapely.get_coordinates(shape)[:4] for shape in found])
    assert len(corners) > 2
    return np.stack(~transform * (corners[..., 0], corners[..., 1]), axis=-1)


@pytest.mark.parametrize(
    ("crs", "x", "y"),
    [
        ("EPSG:3857", 20_036_900, 1_000_000),  # near the equator; its last 600 m are beyond 180 degrees
        ("EPSG:32733", 300_000, 6_200_000),
        ("EPSG:32631", 833_300, 1_000),  # 6 degrees east, where zone 32 begins, and the equator
        ("EPSG:32660", 833_300, 400),
        ("EPSG:32701", 166_000, 8_000_000),
    ],
    ids=[
        "web mercator beyond 180",
        "south",
        "zone edge",
        "180 from the west",
        "from the east",
    ],
)
def test_layers_land_where_they_should(pixels, of_pixels, tmp_path, crs, x, y):
    transform = Affine(10, 0, x, 0, -10, y)
    folder = run(write_scene(tmp_path / "scene.tif", pixels, crs, transform), tmp_path).folder

    on_map = np.stack(transform * (of_pixels[..., 0], of_pixels[..., 1]), axis=-1)
    trucks = gpd.read_file(folder / "trucks.gpkg", layer="trucks")
    assert trucks.crs == crs
    corners = np.array([shapely.get_coordinates(shape)[:4] for shape in trucks.geometry])
    assert corners == pytest.approx(on_map, abs=1e-3)

    # GDAL's way to longitude and latitude. It may say 180.1 where GeoJSON says -179.9.
    lon, lat = gdal_transform(crs, "EPSG:4326", *on_map.reshape(-1, 2).T)
    reported = json.loads((folder / "trucks.geojson").read_text())["features"]
    assert len(reported) == len(trucks)
    for number, feature in enumerate(reported):
        of_truck = slice(4 * number, 4 * number + 4)
        around = shapely.MultiPoint(
            [(east % 360, north) for east, north in zip(lon[of_truck], lat[of_truck], strict=True)]
        ).convex_hull
        shape = shapely.geometry.shape(feature["geometry"])
        assert -180 <= shape.bounds[0] <= shape.bounds[2] <= 180
        whole = shapely.union_all(
            [
                shapely.transform(part, lambda at: np.column_stack([at[:, 0] % 360, at[:, 1]]))
                if part.bounds[2] < 180
                else part
                for part in shapely.get_parts(shape)
            ]
        )
        assert shapely.hausdorff_distance(whole, around) < 2e-7

    square = shapely.box(x, y - 10 * SIDE, x + 10 * SIDE, y)
    with rasterio.open(folder / "landcover.tif") as raster:
        assert shapely.box(*raster.bounds).equals(square)
        assert raster.crs == rasterio.CRS.from_string(crs)
    areas = gpd.read_file(folder / "landcover.gpkg", layer="landcover")
    assert areas.crs == crs
    assert square.buffer(1e-3).contains(areas.union_all())
    looked = [gpd.read_file(folder / "trucks.gpkg", layer=name).area.sum() for name in ("seen", "not_seen")]
    assert sum(looked) == pytest.approx(square.area)

    item = pystac.Item.from_file(str(folder / "item.json"))
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    middle_lon, middle_lat = to_degrees.transform(x + 5 * SIDE, y - 5 * SIDE)
    west, south, east, north = item.bbox
    assert (middle_lon - west) % 360 < (east - west) % 360
    assert south < middle_lat < north


@pytest.fixture(scope="module")
def in_utm(product, tmp_path_factory) -> tuple[Path, gpd.GeoSeries]:
    """The simulated product as a GeoTIFF, and the centres of the trucks that are found on it."""
    folder = tmp_path_factory.mktemp("original")
    scene = open_scene(str(product.safe))
    pixels = read_pixels(scene, Window(0, 0, *scene.shape[::-1]), BANDS).reflectance
    file = write_scene(folder / "scene.tif", pixels, scene.grid.crs.to_wkt(), scene.grid.affine)
    trucks = gpd.read_file(run(file, folder).folder / "trucks.gpkg", layer="trucks")
    assert len(trucks) > 5
    return file, trucks.centroid


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_trucks_of_a_warped_scene_are_where_they_are_in_utm(in_utm, tmp_path, crs):
    """Its pixels have no one size in metres, or not the one of its map: they are read on a grid of 10 m."""
    file, trucks = in_utm
    scene = tmp_path / "scene.tif"
    with (
        rasterio.open(file) as source,
        WarpedVRT(source, crs=crs, resampling=Resampling.cubic, nodata=0) as there,
    ):
        write_scene(scene, there.read(), crs, there.transform)
    folder = run(scene, tmp_path / "out").folder

    found = gpd.read_file(folder / "trucks.gpkg", layer="trucks")
    assert found.crs == trucks.crs
    nearest = shapely.STRtree(trucks.to_numpy()).query_nearest(
        found.centroid.to_numpy(), return_distance=True
    )
    near = np.unique(nearest[0][1][nearest[1] < 10])
    assert len(near) >= 0.7 * len(trucks)
    assert len(near) >= 0.7 * len(found)
    reported = gpd.read_file(folder / "trucks.geojson").to_crs(trucks.crs).centroid
    assert shapely.distance(reported.to_numpy(), found.centroid.to_numpy()).max() < 0.1

    with rasterio.open(folder / "landcover.tif") as raster:
        assert (raster.crs, raster.res) == (trucks.crs, (10, 10))
    not_seen = gpd.read_file(folder / "trucks.gpkg", layer="not_seen")
    assert "nodata" in set(not_seen["reason"])
    record = json.loads((folder / "run.json").read_text())
    assert record["source"] == str(scene)
    assert record["inputs"] == {str(scene): hashlib.sha256(scene.read_bytes()).hexdigest()}


def test_web_mercator_whose_pixels_are_not_10_m_on_the_ground_is_refused_in_one_line(pixels, tmp_path):
    transform = Affine(10, 0, 1_500_000, 0, -10, 6_800_000)
    scene = write_scene(tmp_path / "scene.tif", pixels, "EPSG:3857", transform)
    with pytest.raises(GeoreferenceError, match=r"these have 6\.1\d x 6\.1\d m on the ground") as refusal:
        run(scene, tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


FORMATS = {"geojson": ".geojson", "flatgeobuf": ".fgb", "parquet": ".parquet"}


@pytest.fixture(scope="module")
def exported(product, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    formats = f"export.formats=[{', '.join([*FORMATS, 'pmtiles'])}]"
    return run(product.safe, out, formats, "panoptic.enabled=true", roads=product.roads).folder


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Without a geometry, and missing values as None: what every format can say."""
    text = pd.DataFrame(frame.drop(columns=[frame.geometry.name, "bbox"], errors="ignore"))
    return text.astype(object).where(text.notna(), None).reset_index(drop=True)


@pytest.mark.parametrize("layer", ["trucks", "vehicles", "landcover", "road_segments"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_layer_comes_back_from_every_format_as_it_is_in_the_geopackage(exported, layer, kind):
    source = exported / ("landcover.gpkg" if layer == "landcover" else "trucks.gpkg")
    ours = gpd.read_file(source, layer=layer)
    path = exported / f"{layer}{FORMATS[kind]}"
    back = gpd.read_parquet(path) if kind == "parquet" else gpd.read_file(path)
    key = {"trucks": ["id"], "vehicles": ["id"], "road_segments": ["segment_id"], "landcover": None}[layer]
    if key is None and kind == "flatgeobuf":  # in the order of its index
        order = shapely.get_coordinates(back.representative_point()).round(2)
        there = shapely.get_coordinates(ours.representative_point()).round(2)
        back = back.iloc[np.lexsort(order.T)].reset_index(drop=True)
        ours = ours.iloc[np.lexsort(there.T)].reset_index(drop=True)
    elif key:
        back, ours = (frame.sort_values(key).reset_index(drop=True) for frame in (back, ours))
    assert len(back) == len(ours) > 0
    assert back.crs == ("EPSG:4326" if kind == "geojson" else ours.crs)
    there = ours.to_crs(back.crs).geometry.to_numpy()
    tolerance = 1.5e-7 if kind == "geojson" else 1e-3  # of 7 decimals in x and in y
    assert shapely.hausdorff_distance(back.geometry.to_numpy(), there).max() < tolerance
    if kind == "geojson" and "acquired_date" in back:  # GDAL reads a date as a time
        back["acquired_date"] = back["acquired_date"].dt.strftime("%Y-%m-%d")
    reported, known = plain(back), plain(ours)
    assert list(reported.columns) == [
        *(["id"] if "id" in reported and "id" not in known else []),
        *known.columns,
    ]
    for name in known.columns:
        assert reported[name].tolist() == known[name].tolist(), name


@pytest.mark.parametrize(
    ("name", "layer"), [("trucks.gpkg", "trucks"), ("trucks.fgb", "trucks"), ("trucks.parquet", None)]
)
def test_types_are_the_same_in_every_format(exported, name, layer):
    if layer is None:
        types = {field.name: str(field.type) for field in pq.read_schema(exported / name)}
    else:
        _, table = pyogrio.read_arrow(exported / name, layer=layer)
        types = {field.name: str(field.type) for field in table.schema}
        frame = gpd.read_file(exported / name, layer=layer)
        assert frame["acquired"].dtype == "datetime64[ms, UTC]"
    assert types["acquired"].startswith("timestamp[ms")
    assert types["score"] == types["heading_deg"] == types["speed_kmh"] == "double"
    assert types["near_cloud"] == types["touches_edge"] == "bool"
    assert types["msi_detector"] == "int64"
    for text in ("id", "scene_id", "band_order", "landcover", "road_id", "model"):
        assert types[text] in ("string", "large_string")


def test_times_are_rfc_3339_in_geojson(exported):
    features = json.loads((exported / "trucks.geojson").read_text())["features"]
    acquired = json.loads((exported / "run.json").read_text())["acquired"]
    (reported,) = {feature["properties"]["acquired"] for feature in features}
    assert reported.endswith("Z")
    assert pd.Timestamp(reported) == pd.Timestamp(acquired)


def test_what_is_no_longer_asked_for_goes_and_the_item_names_what_is_there(exported, product):
    mine = exported / "notes.txt"
    mine.write_text("of the user")
    before = {path.name for path in exported.iterdir()}
    assert {"trucks.pmtiles", "road_segments.fgb", "landcover.geojson", "panoptic.tif"} <= before
    run(product.safe, exported.parent, "export.formats=[parquet]", "landcover.enabled=false")
    there = {path.name for path in exported.iterdir()}
    assert there == {
        "trucks.geojson", "trucks.gpkg", "trucks.parquet", "trucks.qml", "look_alikes.parquet",
        "look_alikes.qml", "vehicles.parquet", "vehicles.qml", "report.html", "item.json", "run.json",
        "notes.txt", ".shards",
    }  # fmt: skip
    named = {asset["href"] for asset in json.loads((exported / "item.json").read_text())["assets"].values()}
    made = json.loads((exported / "run.json").read_text())["outputs"]
    assert named == {f"./{name}" for name in made}
    assert set(made) == there - {"item.json", "run.json", "notes.txt", ".shards"}
