"""A training under Prefect: train and evaluate, then publish the bundle; on a schedule and on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import yaml
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.server import FlowRecord
from pipeline.models.bundle import Bundle, open_bundle
from pipeline.processes import configure_process
from pipeline.training.request import TrainingRequest, publish_bundle, run_training


@task(name="train", cache_policy=NO_CACHE, persist_result=False)
def train_task(request: TrainingRequest) -> Bundle:
    """Train and evaluate; goes on with what was cut short in the same folder."""
    return run_training(request)


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish_task(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle where others pick it up."""
    return publish_bundle(bundle, folder)


@flow(name="train")
def train(
    kind: Literal["detector", "segmenter"],
    out: str,
    config: str | None = None,
    settings: tuple[str, ...] = (),
    imagery: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
    bands: tuple[str, ...] | None = None,
    complete: str | None = None,
    class_field: str | None = None,
    publish: str | None = None,
) -> str:
    """Train a model and publish its bundle; returns the folder it lies in.

    Everything is as in `truckscape train`. For deployments: all parameters are plain text.
    """
    configure_process()
    request = TrainingRequest(
        kind=kind,
        out=Path(out),
        config=Path(config) if config else None,
        overrides=tuple(settings),
        imagery=tuple(imagery),
        labels=tuple(Path(path) for path in labels),
        bands=tuple(bands) if bands else None,
        complete=Path(complete) if complete else None,
        class_field=class_field,
        publish=Path(publish) if publish else None,
    )
    errand = _UNDER_WAY.get(request.out)
    if errand:
        return _train(request, errand)
    with FlowRecord(get_run_logger().info) as record:
        return _train(request, _Errand(record))


def train_requested(request: TrainingRequest, say: Callable[[str], None]) -> Bundle:
    """The flow for the command line, whose request is already checked.

    Raises OrchestratorError if Prefect's server is not there to begin with.
    """
    named = train.with_options(flow_run_name=f"{request.kind}-{request.out.name}-{uuid4().hex[:4]}")
    parameters: dict[str, Any] = {
        "kind": request.kind,
        "out": str(request.out),
        "config": str(request.config) if request.config else None,
        "settings": request.overrides,
        "imagery": request.imagery,
        "labels": tuple(str(path) for path in request.labels),
        "bands": request.bands,
        "complete": str(request.complete) if request.complete else None,
        "class_field": request.class_field,
        "publish": str(request.publish) if request.publish else None,
    }
    try:
        with FlowRecord(say) as record:
            errand = _UNDER_WAY[request.out] = _Errand(record)
            return open_bundle(record.result_of(lambda: named(**parameters), lambda: errand.made))
    finally:
        _UNDER_WAY.pop(request.out, None)


class _Errand:
    """A training on its way through a flow, and where the bundle lies that it made."""

    def __init__(self, record: FlowRecord) -> None:
        self.record = record
        self.made: str | None = None


_UNDER_WAY: dict[Path, _Errand] = {}
"""Trainings of the command line, by the folder that they write to."""


def _train(request: TrainingRequest, errand: _Errand) -> str:
    bundle: Bundle = train_task(request)
    if request.publish:
        bundle = publish_task(bundle, request.publish)
    errand.made = str(bundle.folder)
    errand.record.summarise(summary_markdown(bundle), "training-summary", bundle.card.id)
    return errand.made


def summary_markdown(bundle: Bundle) -> str:
    """What came out, for Prefect's pages."""
    card = bundle.card
    quality: dict[str, Any] = card.quality.get("held_out") or card.quality
    shown = yaml.safe_dump(quality, sort_keys=False, allow_unicode=True, width=100)
    return f"## {card.id} {card.version}\n\n{card.architecture}, `{bundle.folder}`\n\n```yaml\n{shown}```\n"
