"""One scene's job in stages that any orchestrator can call: prepare, run each shard, finish."""

from pipeline.job.computing import run_shard, run_shards, stored_shard, tell_stored
from pipeline.job.finishing import finish, run_directly, run_prepared_directly, tidy_after_failure
from pipeline.job.layers import trucks_of
from pipeline.job.preparation import Job, prepare
from pipeline.job.record import Result
from pipeline.job.request import OVERPASS, Request

__all__ = [
    "OVERPASS",
    "Job",
    "Request",
    "Result",
    "finish",
    "prepare",
    "run_directly",
    "run_prepared_directly",
    "run_shard",
    "run_shards",
    "stored_shard",
    "tell_stored",
    "tidy_after_failure",
    "trucks_of",
]
