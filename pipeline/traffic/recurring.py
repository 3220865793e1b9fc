"""Detections that are at the same place on more dates than traffic explains: static look-alikes of trucks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.stats import false_discovery_control, poisson

from pipeline.layers.columns import INTEGER, NUMBER, TEXT, Layer

RADIUS_M = 10.0
"""Largest distance between two detections of one place: one pixel. Their positions differ by the errors of
registration and of the box: with a standard deviation of 3 m in each direction, 94 % of pairs are nearer. A
larger radius finds few more, and more often has trucks of dense traffic in it."""
RADII = np.array([0.3, 0.6, 1.0])
"""Shares of that radius within which dates are counted; the least p-value, times their number, counts. Where
registration is good, what stands is found within 3 m, and fewer trucks are as near by chance."""
LEAST_DATES = 3
"""Fewest dates of a recurring place."""
FALSE_SHARE = 0.05
"""Share of false places among those flagged, that Benjamini and Hochberg's procedure allows."""
AROUND_M = 500.0
"""Radius in which the density of detections is measured."""
_ALONG_M = 150.0  # a road is straight enough here to tell its carriageways
_CROWDED = 0.01
_AT_ONCE = 2_000

RECURRING = Layer(
    "Polygon",
    {
        "place_id": TEXT,
        "dates": TEXT,
        "dates_here": INTEGER,
        "dates_searched": INTEGER,
        "q_value": NUMBER,
        "truck_ids": TEXT,
    },
)
"""The layer `recurring`: a circle of `RADIUS_M` for each place."""

_TO_XYZ = cache(partial(pyproj.Transformer.from_crs, "EPSG:4979", "EPSG:4978", always_xy=True))
_Numbers = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Search:
    """The area of one scene that was searched for trucks."""

    scene_id: str
    acquired: date | None
    """Time of acquisition, or its date."""
    seen: gpd.GeoSeries
    """Polygons, with their CRS."""


@dataclass(frozen=True)
class Recurring:
    """Detections of many dates, tested for recurrence."""

    columns: pd.DataFrame
    """`recurring` (boolean), `dates_here` and `dates_searched` (integers, null without a date) and `place_id`
    (text, null unless recurring) of each detection, with the index of the detections."""
    places: gpd.GeoDataFrame
    """The layer `RECURRING` in EPSG:4326, from north to south."""


def find_recurring(
    trucks: gpd.GeoDataFrame, searches: Sequence[Search], radius_m: float = RADIUS_M
) -> Recurring:
    """Flag detections within `radius_m` of which there are detections on more dates than by chance.

    `trucks` has `id`, `scene_id` and a geometry, whose centre of the bounds is the place, in any CRS;
    `searches` has one entry for each scene. A date is a day in the mean solar time of the scene: its
    acquisitions count once, and so does a truck of two scenes of one date. Null hypothesis of the test: on
    date d, detections near the place are Poisson with the density of the detections within `AROUND_M`, which
    lie along roads, so a detection is within r with

        p_d = 1 - exp(-2 r k_d)

    where k_d is their number by length of road, averaged over dates, or that of the date if it has
    significantly more there (as in a jam; the local background of Zhang et al. 2008, MACS, Genome Biology
    9:R137). On a date without a jam, only the share of it counts that is as far from the road's axis. Given
    the detection itself, the number of further dates is Poisson-binomial over the dates on which the place
    was searched; its upper tail is the p-value. It is the least of those of `RADII`, times their number
    (Bonferroni). The procedure of Benjamini and Hochberg (1995) over all
    detections keeps the expected share of false ones among those that pass below `FALSE_SHARE`. A place
    also needs `LEAST_DATES` dates, and has every detection within the radius of one that passes. The result
    is the same in any order of `trucks` and `searches`. Memory: nine bytes for each detection and date.

    Raises
    ------
    KeyError
        If a truck has a `scene_id` that no search has.
    """
    looks = _Looks.of(searches)
    placed = _placed(trucks, looks)
    xyz = _earth_centred(placed["lon"], placed["lat"])
    tested = _Tested(placed, xyz, _searched(placed, searches, looks), radius_m)
    return _result(trucks, placed, tested, looks)


@dataclass(frozen=True)
class _Looks:
    """Numbers of the dates, in their order."""

    number: Mapping[str, int | None]
    """By scene; None without a date."""
    dates: tuple[str, ...]
    """First date of each in UTC, YYYY-MM-DD."""

    @classmethod
    def of(cls, searches: Sequence[Search]) -> _Looks:
        days = {search.scene_id: solar_day(search) for search in searches}
        ordered = sorted({day for day in days.values() if day})
        shown = {day: min(_utc_date(one) for one in searches if days[one.scene_id] == day) for day in ordered}
        numbers = {day: number for number, day in enumerate(ordered)}
        of_scene = {scene: numbers[day] if day else None for scene, day in days.items()}
        return cls(of_scene, tuple(shown.values()))


class _Tested:
    """Dates and adjusted p-values of each detection. All arrays are (N,)."""

    def __init__(self, placed: pd.DataFrame, xyz: _Numbers, searched: _Flags, radius_m: float) -> None:
        self.xyz, self.radius_m = xyz, radius_m
        self.look = placed["look"].to_numpy(np.intp)
        pairs = KDTree(xyz).query_pairs(radius_m, output_type="ndarray").astype(np.intp)
        one, other = pairs.T
        apart = np.linalg.norm(xyz[one] - xyz[other], axis=1)
        self.counts = _counts(placed["scene_id"].to_numpy(dtype=object), self.look, pairs)
        self.dates_here = _dates_here(self.look, pairs)
        # what is detected was searched, also beside the edge of the area
        searched[one, self.look[other]] = searched[other, self.look[one]] = True
        self.searched, self.dates_searched = searched, searched.sum(axis=1)
        self.counted = np.flatnonzero(self.counts)
        self.tree = KDTree(xyz[self.counted])
        p_values = np.ones(len(xyz))
        radii = RADII * radius_m
        within = np.stack([_dates_here(self.look, pairs[apart <= radius]) for radius in radii])
        candidates = np.flatnonzero(self.counts & (self.dates_here >= LEAST_DATES))
        candidates = candidates[np.argsort(self.dates_here[candidates], kind="stable")]  # for `at_least`
        for start in range(0, len(candidates), _AT_ONCE):
            part = candidates[start : start + _AT_ONCE]
            p_values[part] = self._p_values(part, within[:, part], radii)
        self.q_values = np.ones(len(xyz))
        if len(self.counted):
            self.q_values[self.counted] = false_discovery_control(p_values[self.counted])
        self.passes = (self.q_values <= FALSE_SHARE) & (self.dates_here >= LEAST_DATES)

    def _p_values(self, places: _Indices, within: _Indices, radii: _Numbers) -> _Numbers:
        """Return the chance of as many further dates as `within` (R, places) one of R radii at each place."""
        around = KDTree(self.xyz[places]).sparse_distance_matrix(self.tree, AROUND_M, output_type="ndarray")
        place, at = np.divmod(np.sort(around["i"] * self.tree.n + around["j"]), self.tree.n)
        other = self.counted[at]
        east, north = _on_ground(self.xyz[places], place, self.xyz[other])
        apart = np.hypot(east, north) > self.radius_m
        place, other, east, north = place[apart], other[apart], east[apart], north[apart]
        on_line = _same_line(len(places), place, east, north, radii)
        density = self._density(places, place, other, on_line)
        chances = -np.expm1(-2 * radii[:, None, None] * density) * self.searched[places]
        chances[:, np.arange(len(places)), self.look[places]] = 0.0
        tails = np.stack([at_least(*pair) for pair in zip(chances, within - 1, strict=True)])
        return np.asarray(np.where(within >= LEAST_DATES, len(radii) * tails, 1.0).min(axis=0).clip(max=1.0))

    def _density(self, places: _Indices, place: _Indices, other: _Indices, on_line: _Numbers) -> _Numbers:
        """Return the detections a metre of road on the line of each place, (R, places, dates).

        `on_line` (R, places) is the share of them that are on its line.
        """
        shape = (len(places), self.searched.shape[1])
        # One detection more than there is: none on some dates is no density of 0.
        least = 1 / self.dates_searched[places]
        near = np.flatnonzero(np.bincount(other, minlength=len(self.look)))
        row = np.zeros(len(self.look), np.intp)
        row[near] = np.arange(len(near))
        weights = coo_array(
            (1 / self.dates_searched[other], (place, row[other])), shape=(len(places), len(near))
        )
        pooled = least + weights.sum(axis=1)
        searched = weights.tocsr() @ self.searched[near].astype(np.float64)
        covered = (searched + least[:, None]) / pooled[:, None]
        here = np.bincount(place * shape[1] + self.look[other], minlength=shape[0] * shape[1]).reshape(shape)
        is_crowded = poisson.sf(here - 1, pooled[:, None] * covered) < _CROWDED
        around = np.where(is_crowded, here / covered, (pooled * on_line)[..., None])
        return np.asarray(around / (2 * (AROUND_M - self.radius_m)))


def _placed(trucks: gpd.GeoDataFrame, looks: _Looks) -> pd.DataFrame:
    """Return the detections with a date in an order that depends on them only: row, place and look."""
    bounds = trucks.bounds.to_numpy().reshape(-1, 4)
    middles = shapely.points((bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 1] + bounds[:, 3]) / 2)
    centres = gpd.GeoSeries(middles, crs=trucks.crs).to_crs("EPSG:4326")
    placed = pd.DataFrame(
        {
            "row": np.arange(len(trucks)),
            "id": trucks["id"].astype(str).to_numpy(),
            "scene_id": trucks["scene_id"].astype(str).to_numpy(),
            "lon": centres.x.to_numpy(),
            "lat": centres.y.to_numpy(),
            "look": pd.array(trucks["scene_id"].astype(str).map(looks.number).to_numpy(), dtype="Int64"),
        }
    )
    placed = placed[placed["look"].notna()].astype({"look": np.intp})
    return placed.sort_values(["look", "lat", "lon", "scene_id", "id"], ignore_index=True)


def solar_day(search: Search) -> date | None:
    """Return the day in the mean solar time of a scene: no overpass is near its midnight."""
    moment = search.acquired
    if not isinstance(moment, datetime) or not len(search.seen):
        return moment.date() if isinstance(moment, datetime) else moment
    west, _, east, _ = search.seen.to_crs("EPSG:4326").total_bounds
    return (_utc(moment) + timedelta(hours=(west + east) / 30)).date()


def _utc_date(search: Search) -> str:
    moment = search.acquired
    return (_utc(moment).date() if isinstance(moment, datetime) else moment).isoformat()  # type: ignore[union-attr]


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _earth_centred(lon: pd.Series, lat: pd.Series) -> _Numbers:
    """Return places as earth-centred coordinates, in metres: distances across UTM zones are right, too."""
    return np.stack(_TO_XYZ().transform(lon.to_numpy(), lat.to_numpy(), np.zeros(len(lon))), axis=-1)


def _on_ground(origins: _Numbers, origin: _Indices, xyz: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Return metres east and north of places (N, 3) from their `origin` (N,) in `origins`.

    On a sphere, good for some hundred metres.
    """
    up = origins / np.linalg.norm(origins, axis=1, keepdims=True)
    flat = np.hypot(up[:, 0], up[:, 1])
    axes = np.stack([-up[:, 1], up[:, 0], np.zeros(len(up))], axis=1), -up * up[:, 2:] + [0.0, 0.0, 1.0]
    away = xyz - origins[origin]
    east, north = (np.einsum("ij,ij->i", away, (axis / flat[:, None])[origin]) for axis in axes)
    return east, north


def _counts(scene: NDArray[np.object_], look: _Indices, pairs: _Indices) -> _Flags:
    """Return which detections count: of a truck in several scenes of one date the first."""
    counts = np.ones(len(look), dtype=bool)
    one, other = pairs.T
    again = pairs[(look[one] == look[other]) & (scene[one] != scene[other])]
    for first, second in again[np.lexsort(again.T)].tolist():
        counts[second] &= not counts[first]
    return counts


def _dates_here(look: _Indices, pairs: _Indices) -> _Indices:
    """Return the number of dates with a detection within the radius of each."""
    both_ways = np.concatenate([pairs, pairs[:, ::-1]])
    here, dates = both_ways[:, 0], int(look.max(initial=0)) + 1
    others = look[both_ways[:, 1]]
    further = np.unique((here * dates + others)[others != look[here]])
    return 1 + np.bincount(further // dates, minlength=len(look))


def _searched(placed: pd.DataFrame, searches: Sequence[Search], looks: _Looks) -> _Flags:
    """Return whether each place was searched on each date, (N, dates)."""
    searched = np.zeros((len(placed), len(looks.dates)), dtype=bool)
    points = gpd.GeoSeries(gpd.points_from_xy(placed["lon"], placed["lat"]), crs="EPSG:4326")
    trees: dict[str, shapely.STRtree] = {}
    for search in searches:
        look = looks.number[search.scene_id]
        if look is None or not len(search.seen):
            continue
        crs = search.seen.crs.to_wkt()
        if crs not in trees:
            trees[crs] = shapely.STRtree(points.to_crs(crs).to_numpy())
        _, inside = trees[crs].query(search.seen.to_numpy(), predicate="intersects")
        searched[inside, look] = True
    searched[np.arange(len(placed)), placed["look"]] = True
    return searched


def _same_line(places: int, place: _Indices, east: _Numbers, north: _Numbers, radii: _Numbers) -> _Numbers:
    """Return the share (R, places) of the detections near each place that are as far from the road's axis.

    The axis is the principal axis of the detections within `_ALONG_M`; as far means within one of R radii.
    """
    near = np.hypot(east, north) <= _ALONG_M
    place, east, north = place[near], east[near], north[near]
    number = np.bincount(place, minlength=places)

    def mean(values: _Numbers) -> _Numbers:
        return np.bincount(place, values, minlength=places) / np.maximum(number, 1)

    x, y = east - mean(east)[place], north - mean(north)[place]
    turn = 0.5 * np.arctan2(2 * mean(x * y), mean(x * x) - mean(y * y))
    across = north * np.cos(turn)[place] - east * np.sin(turn)[place]
    chords = [np.sqrt(np.clip(1 - (across / radius) ** 2, 0, None)) for radius in radii]
    beside = np.stack([np.bincount(place, chord, minlength=places) for chord in chords])
    return np.asarray((1 + beside) / (1 + number))


def at_least(chances: _Numbers, numbers: _Indices) -> _Numbers:
    """Return the chance of at least so many successes in independent trials, a row of `chances` each.

    Poisson-binomial distribution by recursion over the trials (Barlow and Heidtmann 1984).
    """
    most = int(numbers.max(initial=0))
    exactly = np.zeros((len(chances), most + 1))  # the last column: `most` or more
    exactly[:, 0] = 1.0
    for chance in chances.T:
        step = exactly * chance[:, None]
        stays = step[:, -1].copy()
        exactly -= step
        exactly[:, 1:] += step[:, :-1]
        exactly[:, -1] += stays
    reached = np.arange(most + 1) >= numbers[:, None]
    return np.asarray((exactly * reached).sum(axis=1).clip(0, 1))


def _result(trucks: gpd.GeoDataFrame, placed: pd.DataFrame, tested: _Tested, looks: _Looks) -> Recurring:
    """Return the places, and columns for all detections."""
    anchors = np.flatnonzero(tested.passes)
    apart, nearest = KDTree(tested.xyz[anchors]).query(tested.xyz, distance_upper_bound=tested.radius_m)
    at = np.isfinite(apart)
    members = placed[at].assign(
        group=_groups(anchors, tested)[nearest[at]], q_value=tested.q_values[anchors][nearest[at]]
    )
    circles, rows, place_ids = [], [], np.full(len(trucks), None, dtype=object)
    for index in members.groupby("group").indices.values():
        group = members.iloc[index]
        lon, lat = _middle(tested.xyz[group.index])
        place_id = f"{lat:.5f},{lon:.5f}"
        place_ids[group["row"]] = place_id
        circles.append(_circle(lon, lat, tested.radius_m))
        dates = sorted({looks.dates[look] for look in group["look"]})
        rows.append(
            {
                "place_id": place_id,
                "dates": " ".join(dates),
                "dates_here": len(dates),
                "dates_searched": tested.dates_searched[group.index].max(),
                "q_value": group["q_value"].min(),
                "truck_ids": " ".join(group["id"]),
            }
        )
    frame = pd.DataFrame(rows, columns=list(RECURRING.columns))
    places = RECURRING.conform(gpd.GeoDataFrame(frame, geometry=circles, crs="EPSG:4326"))
    columns = pd.DataFrame(
        {
            "recurring": pd.Series(at, index=placed["row"]).reindex(range(len(trucks)), fill_value=False),
            "dates_here": pd.Series(tested.dates_here, index=placed["row"], dtype="Int64"),
            "dates_searched": pd.Series(tested.dates_searched, index=placed["row"], dtype="Int64"),
            "place_id": pd.Series(place_ids, dtype=object),
        },
        index=range(len(trucks)),
    )
    order = places["place_id"].map(lambda text: [-float(text.split(",")[0]), float(text.split(",")[1])])
    places = places.loc[order.sort_values().index].reset_index(drop=True)
    return Recurring(columns.set_axis(trucks.index), places)


def _groups(anchors: _Indices, tested: _Tested) -> _Indices:
    """Return the number of the place of each anchor: those within the radius of each other are one."""
    pairs = KDTree(tested.xyz[anchors]).query_pairs(tested.radius_m, output_type="ndarray")
    near = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(anchors),) * 2)
    return np.asarray(connected_components(near, directed=False)[1], dtype=np.intp)


def _middle(xyz: _Numbers) -> tuple[float, float]:
    x, y, z = xyz.mean(axis=0)
    lon, lat, _ = _TO_XYZ().transform(x, y, z, direction="INVERSE")
    return float(lon), float(lat)


def _circle(lon: float, lat: float, radius_m: float) -> shapely.Polygon:
    azimuths = np.arange(0, -360, -11.25)
    lons, lats, radii = (np.full(len(azimuths), value) for value in (lon, lat, radius_m))
    x, y, _ = pyproj.Geod(ellps="WGS84").fwd(lons, lats, azimuths, radii)
    return shapely.Polygon(np.stack([x, y], axis=1))
