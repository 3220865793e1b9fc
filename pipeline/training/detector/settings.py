"""Settings of trainings of the truck detector, and of any network on its chips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from pipeline.settings import MOST_PX, MOST_STEPS, SeedNumber, Settings
from pipeline.training.fit import FitSettings
from pipeline.training.sources import LabelledSource
from pipeline.validation.detector_card import DetectorMeasurement
from pipeline.validation.observe import Seed

_Pixel = Annotated[float, Field(ge=-1e6, le=1e6)]
PixelBox = tuple[_Pixel, _Pixel, _Pixel, _Pixel]
PixelPlace = tuple[_Pixel, _Pixel]


class GroundScene(Settings):
    """A real scene to draw traffic on, and the vehicles in it."""

    renamed: ClassVar = {"doubtful": "ambiguous"}

    path: str = Field(description="as for `truckscape run`, or open data: data:NAME, data:NAME/file")
    trucks: tuple[PixelBox, ...] = Field((), description="boxes in pixels: x_min, y_min, x_max, y_max")
    ambiguous: tuple[PixelBox, ...] = Field((), description="boxes in which nothing is learned")
    look_alikes: tuple[PixelPlace, ...] = Field(
        (), description="places (x, y in pixels) of what resembles a vehicle and is none: shown more often"
    )


class TruckSource(LabelledSource):
    """A scene and the boxes of its trucks."""

    labels: Path = Field(description="boxes of trucks; column confidence: high, medium, low or ignore")
    complete: Path | None = Field(
        None,
        description="polygons in which every truck is labelled; without them, blocks that hold a box count "
        "as labelled, and nothing else is shown",
    )


class LabelSettings(Settings):
    """Settings of reading and splitting labels."""

    block_px: int = Field(128, ge=64, le=MOST_PX, multiple_of=4, description="side of the blocks, in pixels")
    held_out: float = Field(0.25, ge=0, le=0.9, description="share of the boxes that is kept for evaluation")
    guard_px: int = Field(
        8, ge=0, le=1000, description="strip around held-out blocks that is not shown either"
    )
    truck_classes: tuple[str, ...] = Field(
        ("truck",), description="what is a truck where the labels have a column class"
    )


class ChipTraining(FitSettings):
    """Settings of a training on chips: where their ground and traffic come from."""

    scenes: tuple[GroundScene, ...] = Field((), description="real scenes: ground to draw traffic on")
    simulated: tuple[SeedNumber, ...] = Field(
        (), description="seeds of simulated scenes, as ground and with traffic"
    )
    simulated_px: int = Field(768, ge=128, le=MOST_PX)
    sources: tuple[dict[str, Any], ...] = Field(
        (), description="the scenes with their licences, for the card"
    )


class DetectorTraining(ChipTraining):
    """Settings of a training of the truck detector."""

    limitations: tuple[str, ...] = Field((), description="what users must know, for the card")
    labelled: tuple[TruckSource, ...] = Field((), description="scenes with boxes of their trucks")
    labelled_share: float = Field(0.5, ge=0, le=1, description="of the chips, cut from labelled scenes")
    labels: LabelSettings = LabelSettings()
    start_from: str | None = Field(
        None,
        description="a bundle (name or path) whose network and card to start from",
    )
    id: str | None = Field(None, description="of the model; after the bundle to start from if not set")
    measure: DetectorMeasurement | None = Field(
        None, description="what the bundle is measured on at the end, besides held-out blocks"
    )
    check_seeds: tuple[SeedNumber, ...] = Field(
        (), description="seeds of simulated scenes to check the training on, besides held-out blocks"
    )

    steps: int = Field(4000, ge=1, le=MOST_STEPS)
    chip_px: int = Field(64, ge=32, le=4096, multiple_of=4)
    learning_rate: float = Field(1.5e-3, ge=1e-9, le=10)
    warmup: int = Field(150, ge=1, le=MOST_STEPS)
    version: str = Field("1", min_length=1, max_length=40, description="of the bundle, for its card")
    architecture: str = Field("faster_rcnn", description="a family of detectors")
    arguments: dict[str, Any] = Field({}, description="of the network, where not the family's own")


class FineTuning(DetectorTraining):
    """Settings of a training that continues a bundle on the user's labels: few steps, and small ones."""

    start_from: str | None = "trucks"
    simulated: tuple[SeedNumber, ...] = (1001, 1002)
    simulated_px: int = Field(512, ge=128, le=MOST_PX)
    steps: int = Field(400, ge=1, le=MOST_STEPS)
    learning_rate: float = Field(2e-4, ge=1e-9, le=10)
    warmup: int = Field(20, ge=1, le=MOST_STEPS)
    average: float = Field(0.98, ge=0, lt=1)
    check_every: int = Field(50, ge=1, le=MOST_STEPS)
    patience: int = Field(4, ge=0, le=MOST_STEPS)
    measure: DetectorMeasurement | None = DetectorMeasurement(
        calibration=(Seed(seed=2001), Seed(seed=2002)), held_out=(Seed(seed=42), Seed(seed=123))
    )
