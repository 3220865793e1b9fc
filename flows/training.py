"""A training under Prefect: train and evaluate, then publish the bundle; on a schedule and on record."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.handover import named_by, run_as_flow
from flows.server import FlowRecord
from pipeline.fields import fields_of
from pipeline.models.bundle import Bundle
from pipeline.processes import configure_process
from pipeline.report.markdown import code, plain
from pipeline.training.request import TrainingRequest, publish_bundle, run_training


@task(name="train", cache_policy=NO_CACHE, persist_result=False)
def train_task(request: TrainingRequest) -> Bundle:
    """Train and evaluate; an interrupted training in the same folder is resumed."""
    return run_training(request)


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish_task(bundle: Bundle, folder: Path) -> Bundle:
    """Copy a bundle to the folder that others read it from."""
    return publish_bundle(bundle, folder)


@flow(name="train", flow_run_name=named_by("kind", "out", unique=True))
@fields_of(TrainingRequest)
def train(request: TrainingRequest) -> str:
    """Train a model and publish its bundle; return the folder of the bundle.

    Parameters are as in `truckscape train`. For deployments: all are plain text.
    """
    configure_process()
    with FlowRecord(get_run_logger().info) as record:
        return str(_work(request, record).folder)


def train_requested(request: TrainingRequest, say: Callable[[str], None]) -> Bundle:
    """Run the flow for the command line, whose request is already checked.

    Raises OrchestratorError if Prefect's server is not there to begin with.
    """
    run_name = f"{request.kind}-{request.out.name}-{uuid4().hex[:4]}"
    return run_as_flow(partial(_work, request), say, name="train", run_name=run_name)


def _work(request: TrainingRequest, record: FlowRecord) -> Bundle:
    bundle: Bundle = train_task(request)
    if request.publish:
        bundle = publish_task(bundle, request.publish)
    record.summarise(summary_markdown(bundle), "training-summary", bundle.card.id)
    return bundle


def summary_markdown(bundle: Bundle) -> str:
    """Return the measured quality of a bundle, for Prefect's pages."""
    card = bundle.card
    quality: dict[str, Any] = card.quality.get("held_out") or card.quality
    shown = yaml.safe_dump(quality, sort_keys=False, allow_unicode=True, width=100)
    head = f"## {plain(card.id)} {plain(card.version)}\n\n{plain(card.architecture)}, {code(bundle.folder)}"
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", shown)), default=0))
    return f"{head}\n\n{fence}yaml\n{shown}{fence}\n"
