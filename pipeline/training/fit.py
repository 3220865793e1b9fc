"""The loop of every training: precision, checkpoints that survive a kill, early stopping, logs, the curve.

A training is a sequence of steps, in epochs of `check_every` steps. After each epoch it is validated and
`last.ckpt` is replaced. An example is a function of the seed and its index, and the random numbers of a step
are a function of the seed and the step. So a training that was killed resumes to the same bytes.
"""

from __future__ import annotations

import csv
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from pydantic import Field
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.config import Engine
from pipeline.errors import TrainingError
from pipeline.fields import MOST_SEED
from pipeline.inference import machine
from pipeline.private_interfaces import callback_state
from pipeline.settings import MOST_STEPS, MOST_THREADS, Settings
from pipeline.training.checkpoints import (
    BEST,
    LAST,
    CompleteCheckpoints,
    mean_weights,
    read_checkpoint,
    read_step,
    reporting_full_disk,
    step_path,
)
from pipeline.training.learning_curve import draw_learning_curve

log = logging.getLogger(__name__)

_MAY_CHANGE = ("threads", "workers")
"""Settings that a resumed training may change: they do not affect the result."""


class FitSettings(Settings):
    """Settings that every training has."""

    steps: int = Field(
        1000, ge=1, le=MOST_STEPS, description="optimiser steps; rounded to complete validations"
    )
    batch: int = Field(16, ge=1, le=10_000, description="examples a step")
    check_every: int = Field(
        200, ge=1, le=MOST_STEPS, description="steps from one checkpoint and validation to the next"
    )
    patience: int = Field(
        0,
        ge=0,
        le=MOST_STEPS,
        description="validations without an improvement before it stops early; 0: never",
    )
    average: float = Field(0.995, ge=0, lt=1, description="decay of the moving average of the weights")
    average_from: int = Field(0, ge=0, le=MOST_STEPS, description="first step whose weights are averaged")
    blend: tuple[Annotated[int, Field(ge=1, le=MOST_STEPS)], ...] = Field(
        (), description="validated steps whose averaged weights the final ones are averaged with"
    )
    clip: float = Field(5.0, ge=1e-6, le=1e6, description="norm to which gradients are clipped")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor computes it natively, else float32"
    )
    seed: int = Field(0, ge=0, le=MOST_SEED)
    threads: int | None = Field(
        None, ge=1, le=MOST_THREADS, description="of the processor; all cores when not set"
    )
    workers: int = Field(0, ge=0, le=MOST_THREADS, description="processes that make examples")

    @property
    def epochs(self) -> int:
        """Number of validations."""
        return max(1, round(self.steps / self.check_every))

    @property
    def epoch_steps(self) -> int:
        """Steps from one validation to the next: nearly `check_every`."""
        return max(1, round(self.steps / self.epochs))


class EpochSampler(Sampler[int]):
    """Indices that continue from epoch to epoch, so that a resumed training sees the same examples."""

    def __init__(self, size: int) -> None:
        self.size, self.epoch = size, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.size, (self.epoch + 1) * self.size))

    def __len__(self) -> int:
        return self.size


def training_loader(
    examples: Dataset[Any], settings: FitSettings, collate: Callable[[list[Any]], Any] | None = None
) -> DataLoader[Any]:
    """Return endless batches of examples; `examples[i]` must depend on nothing but the seed and `i`."""
    return DataLoader(
        examples,
        settings.batch,
        sampler=EpochSampler(settings.batch * settings.epoch_steps),
        collate_fn=collate,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
    )


def half_precision(settings: FitSettings) -> bool:
    """Return whether to compute in bfloat16: if asked for, or if processor or GPU support it natively."""
    return machine.half_precision(Engine(precision=settings.precision))


def prepare(settings: FitSettings) -> None:
    """Set threads and seeds; call it before the network is built, so that its weights repeat, too."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    pl.seed_everything(settings.seed, verbose=False)


def fit(
    module: pl.LightningModule,
    train_loader: DataLoader[Any],
    validation_loader: DataLoader[Any] | None,
    settings: FitSettings,
    out: Path,
    *,
    monitor: str = "val_loss",
    better: Literal["min", "max"] = "min",
    autocast: bool = True,
) -> None:
    """Train `module`; it then holds the moving average of its weights, with `patience` the best one's.

    With `blend` it holds the mean of that and of the moving averages at those steps: a flatter place of the
    loss, which generalises better (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).

    `train_loader` comes from `training_loader`. `monitor` is a metric that the module logs in
    `validation_step`; `autocast=False` is for a module that chooses its half precision. Writes to `out`:
    `last.ckpt` (and `best.ckpt` with `patience`), `metrics.csv`, `tensorboard/` and `learning_curve.png`.
    Resumes from `out/last.ckpt` if it exists.

    Raises
    ------
    TrainingError
        If `out` holds a training with other settings, or a checkpoint that can't be read.
    OutputError
        If the disk is full or `out` can't be written; earlier checkpoints stay complete.
    """
    with reporting_full_disk(out):
        out.mkdir(parents=True, exist_ok=True)
        earlier = read_checkpoint(out / LAST)
        if earlier is not None:
            _check_same_settings(earlier, settings, out)
        step = int(earlier["global_step"]) if earlier else 0
        watched = settings.patience > 0 and validation_loader is not None
        if not _stopped_early(earlier, settings) and step < settings.epochs * settings.epoch_steps:
            # Workers fetch before Lightning sets the epoch.
            if isinstance(train_loader.sampler, EpochSampler):
                train_loader.sampler.set_epoch(step // settings.epoch_steps)
            trainer = _trainer(settings, out, step, monitor if watched else None, better, autocast)
            with _without_denormals():
                trainer.fit(
                    module,
                    train_loader,
                    validation_loader,
                    ckpt_path=out / LAST if earlier else None,
                    weights_only=True,
                )
            earlier = read_checkpoint(out / LAST)
        if (out / "metrics.csv").is_file():
            draw_learning_curve(out / "metrics.csv", out / "learning_curve.png")
    final = read_checkpoint(out / BEST) if watched else earlier
    if earlier is None or final is None:
        raise TrainingError(f"{out} has lost its checkpoints; train again into an empty folder.")
    module.load_state_dict(mean_weights([final, *(read_step(out, at) for at in settings.blend)]))


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Let denormal numbers be 0, with which processors compute many times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _trainer(
    settings: FitSettings,
    out: Path,
    step: int,
    monitor: str | None,
    better: Literal["min", "max"],
    autocast: bool,
) -> pl.Trainer:
    whole: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": True}
    callbacks: list[Callback] = [
        _SeedSteps(settings),
        EMAWeightAveraging(decay=settings.average, update_starting_at_step=settings.average_from),
        _LogProgress(settings.epochs * settings.epoch_steps),
        _KeepSteps(out, settings.blend),
    ]
    if monitor:
        callbacks += [
            EarlyStopping(monitor, patience=settings.patience, mode=better, check_finite=False),
            ModelCheckpoint(out, filename=Path(BEST).stem, monitor=monitor, mode=better, **whole),
        ]
    # Without a metric to rank them, the one checkpoint that is kept is the last one.
    callbacks.append(ModelCheckpoint(out, filename=Path(LAST).stem, **whole))
    on_terminal = sys.stderr.isatty()
    if on_terminal:
        callbacks.append(RichProgressBar(leave=True))
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if autocast and half_precision(settings) else "32-true",
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip,
        num_sanity_val_steps=0,
        logger=[_csv_logger(out, step), TensorBoardLogger(out, name="tensorboard", version="")],
        log_every_n_steps=min(20, settings.epoch_steps),
        callbacks=callbacks,
        plugins=[CompleteCheckpoints()],
        enable_progress_bar=on_terminal,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


class _SeedSteps(Callback):
    """Seed of dropout and sampling for each step; keeps the settings with the checkpoint."""

    def __init__(self, settings: FitSettings) -> None:
        self.settings = settings

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        torch.manual_seed(self.settings.seed + 1_000_003 * (trainer.global_step + 1))

    def state_dict(self) -> dict[str, Any]:
        return {"settings": self.settings.model_dump(mode="json")}


class _LogProgress(Callback):
    """A line in the log for each validation."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.began: tuple[int, float] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = trainer.global_step, time.monotonic()
        if trainer.global_step:
            log.info("resumes from step %d of %d", trainer.global_step, self.total)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step, (first, since) = trainer.global_step, self.began or (0, time.monotonic())
        left = (time.monotonic() - since) / max(1, step - first) * (self.total - step)
        figures = ", ".join(f"{name} {float(value):.3f}" for name, value in trainer.callback_metrics.items())
        log.info("step %d of %d: %s; about %.0f min left", step, self.total, figures, left / 60)


class _KeepSteps(Callback):
    """Checkpoints of the steps that the result will be averaged with."""

    def __init__(self, out: Path, steps: tuple[int, ...]) -> None:
        self.out, self.steps = out, steps

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step in self.steps:
            trainer.save_checkpoint(step_path(self.out, trainer.global_step))


def warm_cosine(parameters: Iterable[torch.nn.Parameter], settings: Any, floor: float) -> dict[str, Any]:
    """Return AdamW whose learning rate warms up linearly and falls by half a cosine to a `floor` of itself.

    `settings` have `learning_rate`, `warmup` and `steps`; the result is for Lightning's
    `configure_optimizers`.
    """
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=1e-3)

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / settings.warmup)
        progress = min(1.0, step / settings.steps)
        return warm * (floor + (1 - floor) * 0.5 * (1 + float(np.cos(np.pi * progress))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _csv_logger(out: Path, step: int) -> CSVLogger:
    """Return Lightning's logger, which deletes earlier logs, with the rows before `step` restored."""
    path = out / "metrics.csv"
    rows: list[dict[str, str]] = []
    if step and path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"] or 0) < step]
    path.unlink(missing_ok=True)
    logger = CSVLogger(out, name="", version="", flush_logs_every_n_steps=1)
    for row in rows:  # as they were written, so that the file's bytes do not depend on the stop
        known: dict[str, Any] = {name: value for name, value in row.items() if value and name != "step"}
        logger.experiment.log_metrics(known, int(row["step"]))
    return logger


def _check_same_settings(checkpoint: dict[str, Any], settings: FitSettings, out: Path) -> None:
    before = checkpoint.get("callbacks", {}).get(_SeedSteps.__qualname__, {}).get("settings", {})
    now = settings.model_dump(mode="json")
    for name in sorted({*before} & {*now} - {*_MAY_CHANGE}):  # a newer version may know more settings
        if before[name] != now[name]:
            raise TrainingError(
                f"{out} holds a training with another {name}: {before[name]!r}, now {now[name]!r}. "
                "Give the same settings to resume, or another --out."
            )


def _stopped_early(checkpoint: dict[str, Any] | None, settings: FitSettings) -> bool:
    state = callback_state(checkpoint, EarlyStopping) if checkpoint else {}
    return bool(state) and state["wait_count"] >= settings.patience
