"""Checkpoints of a training: written completely or not at all, read without running code, averaged."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from pipeline.errors import OutputError, TrainingError
from pipeline.storage.atomic import replacing

LAST, BEST = "last.ckpt", "best.ckpt"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the state of a training, tensors and plain values only; None without a file."""
    if not path.is_file():
        return None
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise TrainingError(
            f"{path} is not a checkpoint that can be read ({type(error).__name__}). "
            "Delete it to train from the start."
        ) from error
    return checkpoint


def step_path(out: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step to average with."""
    return out / f"step-{step}.ckpt"


def read_step(out: Path, step: int) -> dict[str, Any]:
    """Read the checkpoint of a step; TrainingError if it is missing."""
    checkpoint = read_checkpoint(step_path(out, step))
    if checkpoint is None:
        raise TrainingError(
            f"{out} has no checkpoint of step {step} to average with: `blend` names steps at which it "
            "saves a checkpoint. Train again into an empty folder."
        )
    return checkpoint


def mean_weights(checkpoints: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the mean of their weights; counts of batches are those of the first."""
    states = [checkpoint["state_dict"] for checkpoint in checkpoints]
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }


class CompleteCheckpoints(TorchCheckpointIO):
    """Checkpoint writer for files that appear complete or not at all.

    Lightning's own moves them from another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write through memory: torch's own writer hides the error of the disk."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            with replacing(Path(path)) as part:
                part.write_bytes(buffer.getbuffer())
        except OutputError as error:
            raise OutputError(
                f"{error}. Free some space and repeat the command: earlier checkpoints are complete, "
                "and it resumes from the last one."
            ) from error


@contextmanager
def reporting_full_disk(out: Path) -> Iterator[None]:
    """Raise OutputError if the disk of `out` is full, or `out` can't be written."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise OutputError(
                f"The disk of {out} is full ({error.strerror}). Free some space and repeat the "
                "command: it resumes from the last checkpoint."
            ) from error
        if isinstance(error, FileExistsError | NotADirectoryError | PermissionError):
            raise OutputError(f"The folder {out} can't be written ({error.strerror}).") from error
        raise
