"""One scene's job in stages that any orchestrator can call: prepare, run each shard, finish."""

from pipeline.run.finish import finish, run_directly, run_prepared_directly, work_on
from pipeline.run.predict import merged, run_shard, run_shards, stored_shard, tell_stored
from pipeline.run.prepare import Job, prepare
from pipeline.run.record import Result
from pipeline.run.request import OVERPASS, Request

__all__ = [
    "OVERPASS",
    "Job",
    "Request",
    "Result",
    "finish",
    "merged",
    "prepare",
    "run_directly",
    "run_prepared_directly",
    "run_shard",
    "run_shards",
    "stored_shard",
    "tell_stored",
    "work_on",
]
