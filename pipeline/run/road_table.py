"""Traffic on the roads of a run whose layers are being made: by segment, and by road for its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import pandas as pd

from pipeline.layers.traffic import Traffic, road_traffic
from pipeline.run.candidates import Candidates
from pipeline.run.prepare import Job
from pipeline.traffic.runs import Network, Runs, finished_run
from pipeline.traffic.table import traffic_by_road


def count_on_roads(job: Job, candidates: Candidates, status: Path, model: str) -> Traffic:
    """Count trucks on segments of the roads of a job that has some; `status` as of `road_traffic`.

    Light vehicles are put on segments, too, but are no part of the detections from which counts are made.
    """
    counted = road_traffic(
        candidates.rows,
        candidates.shares,
        job.roads,
        job.scene,
        status,
        job.request.config.traffic,
        buffer_m=job.request.config.trucks.road_buffer_m,
        model=model,
        attribution=attribution_of(job.roads),
    )
    detections = counted.detections[candidates.may_be_heavy].reset_index(drop=True)
    return replace(counted, detections=detections)


def attribution_of(roads: gpd.GeoDataFrame | None) -> str | None:
    """Return the attribution of roads that a user gave; None without roads."""
    if roads is None or not len(roads):
        return None
    return "Roads: as given; where they come from OpenStreetMap, (c) OpenStreetMap contributors, ODbL"


def road_table(job: Job, counted: Traffic, candidates: Candidates, model: str) -> pd.DataFrame:
    """Return the table that `pipeline.traffic.table.traffic_of` gives of the run once it is finished."""
    network, scene = Network(), job.scene
    record = {
        "scene": scene.id,
        "acquired": scene.acquired.isoformat() if scene.acquired else None,
        "models": {"detection": model},
        "simulated": scene.simulated,
        "recall": candidates.recall,
    }
    run = finished_run(job.folder, record, counted.segments, counted.detections, network)
    return traffic_by_road(Runs((run,), network.segments, ())).table
