"""A training under Prefect: train and evaluate, then publish the bundle; on a schedule and on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import yaml
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from pipeline.models.bundle import Bundle, open_bundle
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
    return str(_train(request).folder)


def train_requested(request: TrainingRequest) -> Bundle:
    """The flow for the command line, whose request is already checked."""
    named = train.with_options(flow_run_name=f"{request.kind}-{request.out.name}-{uuid4().hex[:4]}")
    folder = named(
        kind=request.kind,
        out=str(request.out),
        config=str(request.config) if request.config else None,
        settings=request.overrides,
        imagery=request.imagery,
        labels=tuple(str(path) for path in request.labels),
        bands=request.bands,
        complete=str(request.complete) if request.complete else None,
        class_field=request.class_field,
        publish=str(request.publish) if request.publish else None,
    )
    return open_bundle(folder)


def _train(request: TrainingRequest) -> Bundle:
    bundle: Bundle = train_task(request)
    create_markdown_artifact(summary_markdown(bundle), key="training-summary", description=bundle.card.id)
    return publish_task(bundle, request.publish) if request.publish else bundle


def summary_markdown(bundle: Bundle) -> str:
    """What came out, for Prefect's pages."""
    card = bundle.card
    quality: dict[str, Any] = card.quality.get("held_out") or card.quality
    shown = yaml.safe_dump(quality, sort_keys=False, allow_unicode=True, width=100)
    return f"## {card.id} {card.version}\n\n{card.architecture}, `{bundle.folder}`\n\n```yaml\n{shown}```\n"
