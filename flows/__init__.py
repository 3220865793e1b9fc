"""Prefect flows: thin orchestration around the functions of `pipeline`."""

import importlib
import multiprocessing
import os
from contextlib import nullcontext

from pipeline.private_interfaces import without_unusable_proxies
from pipeline.processes import configure_process
from pipeline.stopping import end_on_signals, end_with_parent, ends_on_signals

# Before rasterio and Prefect's clients: a worker imports this package first of all, to load its flow or task.
configure_process()
without_unusable_proxies()
end_with_parent()
if "PREFECT__FLOW_RUN_ID" in os.environ:
    if multiprocessing.parent_process() is None:  # else a worker of the process that Prefect has started
        end_on_signals()
elif ends_on_signals():
    # Prefect would take SIGTERM over for the time of a flow, and then send it to this process again.
    importlib.import_module("prefect.flow_engine").capture_sigterm = nullcontext  # type: ignore[attr-defined]
