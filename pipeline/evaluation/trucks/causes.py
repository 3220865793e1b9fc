"""Rules for the likely cause of a mistake, on attributes and on evidence measured in the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.columns import LIGHT
from pipeline.evaluation.trucks.boxes import column
from pipeline.evaluation.trucks.evidence import EVIDENCE_COLUMNS

UNKNOWN = "unknown"
LIGHT_VEHICLE = "light vehicle"
"""Cause of a false positive that is on a labelled light vehicle."""
NEAR_CLOUD_M, NEAR_SHADOW_M = 100.0, 50.0
EDGE_M = 15.0
"""A truck within about a box of the end of the data, or of the border of the observed area, is truncated."""
CROWD_M = 40.0
"""Trucks closer together than this blend into each other."""
SLOW_KMH = 40.0
"""Slowest truck whose bands differ by more than about a pixel (11 m at 40 km/h); slower ones look parked."""
ROAD_M = 30.0
SEAM_M = 100.0
CLOUD_SHIFT_PX = 0.8
"""In simulated scenes 68 % of the false alarms on cloud edges have surroundings that shift by more, and 10 %
of the other ones; the ground shifts by 0.2 (median)."""
LARGE_PX = 12.0
"""Pixels of something bright; a truck has 3 to 6."""
BRIGHT_CONTRAST, FAINT_CONTRAST = 0.03, 0.01
"""Reflectance above the surroundings: of roofs at least, and of trucks that hardly show."""
MOVING_SIGMAS = 3.0

FROM_PIXELS = frozenset(
    {
        "aircraft",
        "cloud that moves",
        "roof or greenhouse",
        "no band displacement",
        "other vehicle",
        "faint",
    }
)
"""Causes that cannot be inferred without the scene."""


@dataclass(frozen=True)
class Verdict:
    """The likely cause of each of N cases."""

    cause: NDArray[np.object_]
    """(N,): the first rule that holds, or `UNKNOWN`."""
    also: NDArray[np.object_]
    """(N,): the other rules that hold, separated by commas; None without any."""


def false_positive_causes(facts: pd.DataFrame) -> Verdict:
    """Infer the causes of false positives, the first rule that holds:

    `light vehicle` (a label says so), `scene edge` (data end within `EDGE_M`), `duplicate` (a TP within
    `CROWD_M`), `localisation` (an FN between 20 and 30 m off), `aircraft` (seen by each band alone, too far
    apart for a road vehicle, and off the road), `near cloud or shadow`, `cloud that moves` (the surroundings
    shift between the bands, by their height; or something moves off the road and clouds are within 400 m),
    `over water`, `roof or greenhouse` (bright, larger than a truck, at rest, and not on a road), `no band
    displacement` (parked), `off road`, `MSI seam`, `slow or parked`, `other vehicle` (it moves as traffic
    does: a car or van, or a heavy vehicle that was not labelled), `over built`, `over bare`.

    `facts` has any of the columns `vehicle`, `touches_edge`, `near_cloud`, `off_road`, `landcover`,
    `speed_kmh`, `neighbour_m`, `near_id`, `road_m`, `EVIDENCE_COLUMNS`. Rules on missing columns or values do
    not hold.
    """
    appearance = _appearance_rules(facts)
    return _first_rule(
        len(facts),
        (
            _light_rule(facts),
            ("scene edge", _true(facts, "touches_edge") | (column(facts, "no_data_m") <= EDGE_M)),
            ("duplicate", column(facts, "neighbour_m") <= CROWD_M),
            ("localisation", _known(facts, "near_id")),
            *appearance,
        ),
    )


def true_negative_causes(facts: pd.DataFrame) -> Verdict:
    """Infer why places look like a truck: `false_positive_causes` without those of a detection."""
    return _first_rule(len(facts), (_light_rule(facts), *_appearance_rules(facts)))


def false_negative_causes(facts: pd.DataFrame) -> Verdict:
    """Infer the causes of false negatives, the first rule that holds:

    `scene edge`, `edge of the area seen`, `below threshold` (a box of a lower score within the matching
    radius), `localisation` (an FP between 20 and 30 m off), `merged with its neighbour` (another
    truck within `CROWD_M`), `near cloud or shadow`, `slow` (below `SLOW_KMH`), `no band displacement`
    (none is clear in the pixels), `faint` (hardly brighter than around, or of medium confidence), `MSI seam`.

    `facts` has `at_edge`, `below_score`, `near_id`, `neighbour_m`, `speed_kmh`, `confidence`, and
    `EVIDENCE_COLUMNS`, as far as known.
    """
    faint = np.abs(column(facts, "contrast")) < FAINT_CONTRAST
    return _first_rule(
        len(facts),
        (
            ("scene edge", column(facts, "no_data_m") <= EDGE_M),
            ("edge of the area seen", _true(facts, "at_edge")),
            ("below threshold", np.isfinite(column(facts, "below_score"))),
            ("localisation", _known(facts, "near_id")),
            ("merged with its neighbour", column(facts, "neighbour_m") <= CROWD_M),
            ("near cloud or shadow", _near_cloud(facts)),
            ("slow", column(facts, "speed_kmh") < SLOW_KMH),
            ("no band displacement", _at_rest(facts)),
            ("faint", faint | (_column(facts, "confidence") == "medium")),
            ("MSI seam", column(facts, "seam_m") <= SEAM_M),
        ),
    )


def without_evidence(facts: pd.DataFrame) -> list[str]:
    """Return the causes that could not be inferred because nothing was measured in the scene."""
    if any(np.isfinite(column(facts, name)).any() for name in EVIDENCE_COLUMNS):
        return []
    return sorted(FROM_PIXELS)


_Rule = tuple[str, NDArray[np.bool_]]


def _light_rule(facts: pd.DataFrame) -> _Rule:
    return LIGHT_VEHICLE, np.asarray(_column(facts, "vehicle") == LIGHT, dtype=bool)


def _appearance_rules(facts: pd.DataFrame) -> tuple[_Rule, ...]:
    road_m, landcover = column(facts, "road_m"), _column(facts, "landcover")
    at_rest = _at_rest(facts)
    large = (column(facts, "contrast") >= BRIGHT_CONTRAST) & (column(facts, "bright_px") >= LARGE_PX)
    moves = column(facts, "displacement_px") >= MOVING_SIGMAS * column(facts, "displacement_sigma_px")
    off_road = (road_m > ROAD_M) | (_true(facts, "off_road") & np.isnan(road_m))
    far = np.isfinite(column(facts, "far_displacement_px"))
    shifted = column(facts, "surroundings_shift_px") >= CLOUD_SHIFT_PX
    puff = moves & off_road & np.isfinite(column(facts, "cloud_m"))
    return (
        ("aircraft", far & ~(road_m <= ROAD_M)),
        ("near cloud or shadow", _near_cloud(facts)),
        ("cloud that moves", shifted | puff),
        ("over water", (landcover == "water") | (column(facts, "ndwi") > 0)),
        ("roof or greenhouse", at_rest & large & ~(road_m <= ROAD_M)),
        ("no band displacement", at_rest),
        ("off road", off_road),
        ("MSI seam", column(facts, "seam_m") <= SEAM_M),
        ("slow or parked", column(facts, "speed_kmh") < SLOW_KMH),
        ("other vehicle", moves),
        *((f"over {name}", landcover == name) for name in ("built", "bare")),
    )


def _near_cloud(facts: pd.DataFrame) -> NDArray[np.bool_]:
    near = (column(facts, "cloud_m") <= NEAR_CLOUD_M) | (column(facts, "shadow_m") <= NEAR_SHADOW_M)
    return np.asarray(near | _true(facts, "near_cloud"))


def _at_rest(facts: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (N,): True if the pixels have data and show no motion."""
    return np.asarray(np.isinf(column(facts, "displacement_sigma_px")))


def _first_rule(count: int, rules: Sequence[_Rule]) -> Verdict:
    names = np.array([name for name, _ in rules], dtype=object)
    holds = np.array([rule for _, rule in rules], dtype=bool).reshape(len(rules), count)
    cause, also = np.full(count, UNKNOWN, dtype=object), np.full(count, None, dtype=object)
    for case in np.flatnonzero(holds.any(axis=0)):
        first, *others = names[holds[:, case]]
        cause[case], also[case] = first, ", ".join(others) or None
    return Verdict(cause, also)


def _column(facts: pd.DataFrame, name: str) -> NDArray[np.object_]:
    if name not in facts:
        return np.full(len(facts), None, dtype=object)
    return facts[name].to_numpy(dtype=object)


def _true(facts: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    if name not in facts:
        return np.zeros(len(facts), dtype=bool)
    return facts[name].astype("boolean").fillna(False).to_numpy(dtype=bool)


def _known(facts: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    return np.asarray(pd.notna(_column(facts, name)), dtype=bool)
