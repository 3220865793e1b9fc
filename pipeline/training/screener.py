"""Training of the tile screener on the detector's chips."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import lightning as pl
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from pipeline.config import Engine
from pipeline.errors import TrainingError
from pipeline.inference.engine import Search, predict_shards
from pipeline.inference.run_models import Models
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.normalise import normalise
from pipeline.models.registry import build_network
from pipeline.models.screener import BLOCK_PX, CELL_PX
from pipeline.scenes.open import open_scene
from pipeline.settings import MOST_PX, MOST_STEPS, SeedNumber
from pipeline.simulation.chips.chip import CHIP_BANDS, HEAVY
from pipeline.simulation.simulate import simulate, simulate_scene
from pipeline.tiling import plan
from pipeline.training.detector.chips import Chips, Target, grounds_and_traffic
from pipeline.training.detector.settings import ChipTraining
from pipeline.training.detector.train import blank_card
from pipeline.training.fit import fit, prepare, training_loader, warm_cosine

_Width = Annotated[int, Field(ge=1, le=4096)]
_TRUCK_WEIGHT = 4.0
"""Of a cell with a truck against one without: a miss costs a truck, a false alarm some milliseconds."""


class ScreenerTraining(ChipTraining):
    """Settings of a training of the tile screener."""

    simulated_px: int = Field(512, ge=128, le=MOST_PX)
    widths: tuple[_Width, _Width, _Width] = (16, 24, 48)
    steps: int = Field(1200, ge=1, le=MOST_STEPS)
    chip_px: int = Field(64, ge=64, le=4096, multiple_of=BLOCK_PX)
    learning_rate: float = Field(3e-3, ge=1e-9, le=10)
    warmup: int = Field(50, ge=1, le=MOST_STEPS)
    keep: float = Field(
        0.98, gt=0, le=1, description="share of the trucks to keep where the threshold is chosen"
    )
    threshold_seeds: tuple[SeedNumber, ...] = Field(
        (3001, 3002), min_length=1, description="simulated scenes to choose the threshold on"
    )
    measure_seeds: tuple[SeedNumber, ...] = Field(
        (3011, 3012, 3013), min_length=1, description="simulated scenes to measure on: others than those"
    )
    speed_with: str | None = Field("trucks", description="bundle of the detector whose time is measured")


def train_screener(settings: ScreenerTraining, out: Path) -> Bundle:
    """Train a screener and leave it in `out/bundle`; the same command resumes after a stop.

    Its threshold keeps `settings.keep` of the trucks of simulated scenes; the card states how many it loses
    on others, how many blocks it rejects there, and what that saves.

    Raises
    ------
    TrainingError
        If a simulated scene serves twice, or those for the threshold hold no truck; see also `fit`.
    """
    prepare(settings)
    _check_seeds(settings)
    detector = blank_card()
    card = with_halo(
        detector.model_copy(
            update={
                "id": "screener",
                "task": "screening",
                "architecture": "block_screener",
                "arguments": {"widths": list(settings.widths)},
                "training_data": settings.sources,
                "limitations": _LIMITATIONS,
            }
        )
    )
    module = ScreenerModule(card, settings)
    grounds, traffic = grounds_and_traffic(settings)
    chips = Chips(card, grounds, traffic, settings.chip_px, settings.seed)
    fit(module, training_loader(chips, settings, collate), None, settings, out)
    network = module.screener.eval()
    threshold = choose_threshold(network, card, settings)
    quality = measure(network, card, threshold, settings.measure_seeds, settings.simulated_px)
    card = card.model_copy(update={"score_threshold": threshold, "quality": quality})
    bundle = save_bundle(out / "bundle", card, network.state_dict())
    if settings.speed_with:
        speed = measure_speed(bundle, open_bundle(settings.speed_with), settings.measure_seeds[0])
        bundle = save_bundle(
            out / "bundle",
            card.model_copy(update={"quality": quality | {"speed": speed}}),
            network.state_dict(),
        )
    return bundle


class ScreenerModule(pl.LightningModule):
    """One optimisation of the screener: weighted cross entropy of the cells, AdamW, a cosine to zero."""

    def __init__(self, card: Card, settings: ScreenerTraining) -> None:
        super().__init__()
        self.settings = settings
        self.screener = build_network(card).to(memory_format=torch.channels_last)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        """Mean loss over the cells that count."""
        images, truth, weight = batch
        images = images.contiguous(memory_format=torch.channels_last)
        logits = self.screener.cells(images)[:, 0].float()  # type: ignore[operator]
        losses = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = (losses * weight).sum() / weight.sum().clamp_min(1.0)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """Learning rate: linear warm-up, then half a cosine to a hundredth."""
        return warm_cosine(self.parameters(), self.settings, floor=0.01)


def collate(examples: list[tuple[Tensor, Target]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (N, C, H, W) with the truth and weight of their cells, (N, H / 8, W / 8).

    Cells are to keep heavy vehicles; those of light ones are ignored.
    """
    images = torch.stack([image for image, _ in examples])
    cells = []
    for _, target in examples:
        boxes, heavy = target["boxes"].numpy(), target["labels"].numpy() == HEAVY
        ignored = np.concatenate([target["ignored"].numpy(), boxes[~heavy]])
        cells.append(cell_targets(boxes[heavy], ignored, images.shape[-1]))
    truth, weight = (torch.from_numpy(np.stack(part)) for part in zip(*cells, strict=True))
    return images, truth, weight


def cell_targets(
    trucks: NDArray[np.float32], ambiguous: NDArray[np.float32], size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return truth and weight of the cells of a chip of `size` pixels, each (size / 8, size / 8).

    A cell is positive if it holds the middle of a truck. One that a truck or an ambiguous box merely touches
    has no weight.
    """
    side = size // CELL_PX
    truth, weight = np.zeros((side, side), np.float32), np.ones((side, side), np.float32)
    for x_min, y_min, x_max, y_max in np.concatenate([trucks, ambiguous]) / CELL_PX:
        rows = slice(max(0, int(np.floor(y_min))), max(0, int(np.ceil(y_max))))
        weight[rows, max(0, int(np.floor(x_min))) : max(0, int(np.ceil(x_max)))] = 0
    centres = (trucks[:, :2] + trucks[:, 2:]) / 2 / CELL_PX
    for x, y in np.clip(centres, 0, side - 1e-3).astype(int):
        truth[y, x], weight[y, x] = 1, _TRUCK_WEIGHT
    return truth, weight


def choose_threshold(network: nn.Module, card: Card, settings: ScreenerTraining) -> float:
    """Return the highest threshold that keeps `settings.keep` of the trucks of its seeds, rounded down.

    Raises
    ------
    TrainingError
        If there is no truck in them.
    """
    scores = np.concatenate(
        [block_scores(network, card, seed, settings.simulated_px)[1] for seed in settings.threshold_seeds]
    )
    if not len(scores):
        raise TrainingError(
            "No truck in the simulated scenes of threshold_seeds: give more seeds or a larger simulated_px."
        )
    best = float(np.quantile(scores, 1 - settings.keep, method="lower"))
    return np.floor(best * 1e4) / 1e4


def measure(
    network: nn.Module, card: Card, threshold: float, seeds: Sequence[int], size: int
) -> dict[str, Any]:
    """Return losses and savings at a threshold on simulated scenes, as plain numbers for the card."""
    pairs = [block_scores(network, card, seed, size) for seed in seeds]
    blocks = np.concatenate([scores.ravel() for scores, _ in pairs])
    trucks = np.concatenate([scores for _, scores in pairs])
    lost = int((trucks < threshold).sum())
    return {
        "simulated_scenes": {
            "seeds": list(seeds),
            "trucks": len(trucks),
            "trucks_in_rejected_blocks": lost,
            "recall_loss": round(lost / len(trucks), 4) if len(trucks) else None,
            "blocks": len(blocks),
            "blocks_rejected": round(float((blocks < threshold).mean()), 3),
        }
    }


@torch.inference_mode()
def block_scores(
    network: nn.Module, card: Card, seed: int, size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores of the blocks of a simulated scene (R, C), and for its certain trucks (N,)."""
    scene = simulate_scene(size // BLOCK_PX * BLOCK_PX, seed, CHIP_BANDS)
    image = normalise(scene.reflectance, np.ones(scene.reflectance.shape[1:], bool), card)
    scores = network(image[None])[0, 0].double().sigmoid().numpy()
    boxes = np.array([truck.box for truck in scene.trucks if truck.confidence == "high"]).reshape(-1, 4)
    middle = np.clip((boxes[:, :2] + boxes[:, 2:]) / 2, 0, size // BLOCK_PX * BLOCK_PX - 1e-6)
    cols, rows = (middle // BLOCK_PX).astype(int).T
    return scores, scores[rows, cols]


def measure_speed(screener: Bundle, detector: Bundle, seed: int, size: int = 1024) -> dict[str, Any]:
    """Seconds to search a simulated scene with a detector, one thread, with and without the screener."""
    engine = Engine(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        scene = open_scene(str(simulate(Path(folder) / "product", size, seed).safe))
        seconds: list[float] = []
        for models in (Models(detector, None), Models(detector, None, screener)):
            tiles = plan(scene.shape, size, models.halo, models.stride)
            list(predict_shards(scene, [tiles[:1]], models, Search(), engine))  # loads networks, warms caches
            begun = time.perf_counter()
            list(predict_shards(scene, [tiles], models, Search(), engine))
            seconds.append(time.perf_counter() - begun)
    without, with_it = seconds
    return {
        "simulated_px": size,
        "seed": seed,
        "detector": detector.card.architecture,
        "seconds_without": round(without, 2),
        "seconds_with": round(with_it, 2),
    }


def _check_seeds(settings: ScreenerTraining) -> None:
    groups = (settings.simulated, settings.threshold_seeds, settings.measure_seeds)
    seeds = [seed for group in groups for seed in set(group)]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise TrainingError(
            f"Seeds of simulated, threshold_seeds and measure_seeds must differ. In two of them: {twice}."
        )


_LIMITATIONS = (
    "What it rejects is lost to the detector: see recall_loss. Measured on simulated scenes only.",
    "Off by default; worth it over large areas without roads, not where a road mask is given.",
)
