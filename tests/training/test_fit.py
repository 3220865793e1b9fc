"""A training is checked, goes on after a kill to the same bytes, stops early, and outlives a full disk."""

import csv
import hashlib
import multiprocessing
import os
import signal
from pathlib import Path

import lightning as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pipeline.errors import OutputError, TrainingError
from pipeline.training.fit import EpochSampler, FitSettings, fit, half_precision, prepare, training_loader
from pipeline.training.learning_curve import read_metrics
from tests.conftest import only_on

SMALL = {"steps": 12, "batch": 4, "check_every": 3, "threads": 1, "precision": "float32"}


class Line(Dataset):
    """y = 2 x, drawn from (seed, index); at `dies_at` the process is killed as by a power cut."""

    def __init__(self, seed: int, dies_at: int = -1) -> None:
        self.seed, self.dies_at = seed, dies_at

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(self.seed * 10_000 + index)
        x = torch.rand(1, generator=generator)
        return x, 2 * x


class FillsTheDisk(Line):
    """From its 16th example on no file may grow beyond 2 kB."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index == 16:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return super().__getitem__(index)


class Slope(pl.LightningModule):
    """One weight, batch norm's state and dropout: all that a resumed training could forget."""

    def __init__(self, rate: float = 0.05) -> None:
        super().__init__()
        self.rate = rate
        self.layers = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))

    def training_step(self, batch, _):
        loss = nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, _):
        self.log("val_loss", nn.functional.mse_loss(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def validation() -> DataLoader:
    x = torch.linspace(0, 1, 16)[:, None]
    return DataLoader(TensorDataset(x, 2 * x), 8)


def train(out: Path, dies_at: int = -1, rate: float = 0.05, watch: bool = True, **changes):
    """One small training, and the hash of the weights it ends in."""
    settings = FitSettings(**SMALL | changes)
    prepare(settings)
    module = Slope(rate)
    loader = training_loader(Line(settings.seed, dies_at), settings)
    fit(module, loader, validation() if watch else None, settings, out)
    weights = b"".join(value.numpy().tobytes() for value in module.state_dict().values())
    return hashlib.sha256(weights).hexdigest()


def steps_of(out: Path) -> int:
    return torch.load(out / "last.ckpt", weights_only=True)["global_step"]


def in_another_process(work) -> int:
    """The exit code of a process that does `work`, minus the signal that killed it."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(autouse=True, scope="module")
def as_many_threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, hash) of a training that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(out)


def test_what_a_training_leaves(whole):
    out, _ = whole
    assert steps_of(out) == 12
    left = {path.name for path in out.iterdir()}
    assert left == {"last.ckpt", "metrics.csv", "tensorboard", "learning_curve.png"}
    assert read_metrics(out / "metrics.csv")["val_loss"][0] == [2, 5, 8, 11]
    assert list((out / "tensorboard").glob("events*"))


def test_the_same_seed_gives_the_same_weights(whole, tmp_path):
    assert train(tmp_path) == whole[1] != train(tmp_path / "other", seed=1)


def test_the_number_of_processes_that_make_examples_changes_nothing(whole, tmp_path):
    assert train(tmp_path, workers=2) == whole[1]


@only_on("linux", why="fork")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_training_goes_on_to_the_same_bytes(whole, tmp_path, workers):
    """kill -9 in the middle of the third epoch, then the same command again."""
    assert in_another_process(lambda: train(tmp_path, dies_at=32)) == -signal.SIGKILL
    assert steps_of(tmp_path) == 6
    assert train(tmp_path, workers=workers) == whole[1]
    assert steps_of(tmp_path) == 12
    with (tmp_path / "metrics.csv").open() as file, (whole[0] / "metrics.csv").open() as wanted:
        assert list(csv.DictReader(file)) == list(csv.DictReader(wanted))


def test_a_finished_training_is_not_trained_again(whole, tmp_path):
    first = train(tmp_path)
    written = (tmp_path / "last.ckpt").stat().st_mtime_ns
    assert train(tmp_path) == first
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == written


def test_it_stops_when_the_validation_figure_gets_no_better(tmp_path):
    """A step of nothing never gets better: the first check and two more, then again as it was."""
    first = train(tmp_path, rate=0.0, patience=2, steps=30)
    assert steps_of(tmp_path) == 9
    assert train(tmp_path, rate=0.0, patience=2, steps=30) == first


def test_with_patience_the_best_weights_are_kept(tmp_path):
    train(tmp_path, patience=4)
    best = min(read_metrics(tmp_path / "metrics.csv")["val_loss"][1])
    settings = FitSettings(**SMALL, patience=4)
    module = Slope()
    fit(module, training_loader(Line(0), settings), validation(), settings, tmp_path)
    module.eval()
    with torch.no_grad():
        losses = [nn.functional.mse_loss(module.layers(x), y) for x, y in validation()]
    assert float(torch.stack(losses).mean()) == pytest.approx(best, rel=1e-5)


def test_other_settings_do_not_go_on(whole, tmp_path):
    train(tmp_path)
    with pytest.raises(TrainingError, match=r"another batch: 4, now 5. Give the same settings .* --out"):
        train(tmp_path, batch=5)
    train(tmp_path, threads=2)


def test_a_broken_checkpoint_is_named(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"PK\x03\x04 half of a file")
    with pytest.raises(TrainingError, match=r"last\.ckpt is not a checkpoint.* Delete it"):
        train(tmp_path)


@only_on("linux", why="fork, and a limit for the size of files")
def test_a_full_disk_leaves_the_earlier_checkpoint_whole(whole, tmp_path):
    reported = tmp_path / "told"

    def victim() -> None:
        settings = FitSettings(**SMALL)
        prepare(settings)
        with pytest.raises(OutputError) as error:
            fit(Slope(), training_loader(FillsTheDisk(0), settings), None, settings, tmp_path)
        reported.write_text(str(error.value))

    assert in_another_process(victim) == 0
    line = reported.read_text()
    assert "last.ckpt cannot be written" in line and "File too large" in line
    assert "repeat the command" in line
    assert steps_of(tmp_path) == 3
    assert not list(tmp_path.glob(".*"))
    assert train(tmp_path, watch=False) == whole[1]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/out can't be written"):
        train(tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("steps", "check_every", "epochs", "epoch_steps"),
    [(6000, 250, 24, 250), (2, 200, 1, 2), (1000, 300, 3, 333), (7, 2, 4, 2)],
)
def test_steps_are_rounded_to_whole_checks(steps, check_every, epochs, epoch_steps):
    settings = FitSettings(steps=steps, check_every=check_every)
    assert (settings.epochs, settings.epoch_steps) == (epochs, epoch_steps)


def test_indices_go_on_from_epoch_to_epoch():
    sampler = EpochSampler(3)
    assert list(sampler) == [0, 1, 2]
    sampler.set_epoch(2)
    assert list(sampler) == [6, 7, 8]


def test_half_precision_can_be_asked_for():
    assert half_precision(FitSettings(precision="bfloat16"))
    assert not half_precision(FitSettings(precision="float32"))


def test_the_result_is_the_mean_of_the_steps_that_it_blends(whole, tmp_path):
    settings = FitSettings(**SMALL, blend=(6,))
    prepare(settings)
    module = Slope()
    fit(module, training_loader(Line(0), settings), None, settings, tmp_path)
    early, last = (
        torch.load(tmp_path / name, weights_only=True)["state_dict"] for name in ("step-6.ckpt", "last.ckpt")
    )
    key = "layers.0.weight"
    assert not torch.equal(early[key], last[key])
    torch.testing.assert_close(module.state_dict()[key], (early[key] + last[key]) / 2, rtol=0, atol=0)
    assert train(tmp_path, watch=False, blend=(6,)) == train(tmp_path / "again", watch=False, blend=(6,))


def test_a_step_that_is_never_checked_can_not_be_blended(tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint of step 5 to average with"):
        train(tmp_path, blend=(5,))
