"""Settings of a training of a land-cover network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.fields import MOST_SEED
from pipeline.inference.teacher import TeacherSettings
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.models.library_segmenters import Pretrained
from pipeline.scenes.scene import BANDS_10M, BANDS_20M
from pipeline.settings import MOST_PX, MOST_STEPS, PixelBlock, SeedNumber, Settings
from pipeline.training.fit import FitSettings
from pipeline.training.segmenter.augment import Share
from pipeline.training.segmenter.labels import Classes
from pipeline.training.sources import LabelledSource

Scale = Annotated[float, Field(ge=0.1, le=10)]
Factor = Annotated[float, Field(ge=0, le=1000)]
"""Weight relative to others."""


class LandcoverSource(LabelledSource):
    """A scene and its land cover."""

    labels: Path | None = Field(  # type: ignore[assignment]
        None,
        description="polygons or points with a class, or a raster of class values (uint8, 255: none); null: "
        "the teacher labels the scene",
    )
    class_field: str | None = Field(None, description="column of the classes of polygons or points")
    trust: dict[str, Factor] = Field(
        {}, description="how much a label counts in the loss, by the name of its class, where not 1"
    )
    land_use: Path | None = Field(
        None,
        description="polygons, points or a raster of Dynamic World's classes, such as OpenStreetMap's land "
        "use: trusted over `labels` and the teacher",
    )
    held_out: tuple[PixelBlock, ...] | None = Field(
        None,
        description="blocks kept for evaluation: first row, first column, rows, columns. Then the complete "
        "scene is read; otherwise blocks with labels, some of which are held out at random",
    )
    hazy: bool | None = Field(
        None, description="whether the atmosphere is still in it (L1C); by its level when not set"
    )
    share: tuple[Factor, Factor] = Field(
        (1.0, 1.0), description="of the crops of the first and of the last stage, relative to other sources"
    )
    tiles: Factor = Field(
        1.0,
        description="share of the teacher's tiles, relative to other sources",
    )
    absent: tuple[str, ...] = Field(
        (), description="classes that do not exist in the scene, whatever the teacher says"
    )
    cloud_reflectance: float | None = Field(
        None, ge=0, le=10, description="the teacher labels no pixel that is brighter in B02; null: all"
    )


class TileSettings(Settings):
    """Tiles that a teacher labels."""

    px: int = Field(160, ge=32, le=1024, description="side of a tile, a multiple of the stride")
    count: int = Field(8000, ge=1, le=MOST_STEPS, description="tiles; each is shown several times")
    folder: Path | None = Field(None, description="where tiles are kept for later trainings; null: in --out")
    sharpen: float = Field(3.0, ge=0.1, le=100, description="power of the teacher's probabilities")
    scales: tuple[Scale, Scale] = Field((0.6, 1.7), description="smallest and largest scale of a crop")
    mixed: Share = Field(0.25, description="share of tiles that mix two places")
    transferred: Share = Field(0.15, description="share of tiles in the light of another place")
    painted: Share = Field(0.08, description="share of tiles that the teacher draws itself")
    changed: Share = Field(0.5, description="share of tiles in another season, light or weather")
    level_spread: float = Field(
        0.03,
        ge=0,
        le=1,
        description="standard deviation of the logarithm of each band's gain in examples of the surface: "
        "what the model atmosphere does not explain between two levels of one acquisition",
    )
    haze_rest: float = Field(
        0.15,
        ge=0,
        le=1,
        description="standard deviation of the haze that the student sees and the teacher does not, in half "
        "of the examples; 1 is the haze of clear air",
    )


class SegmenterTraining(FitSettings):
    """Settings of a training; `steps` is the length of the last stage."""

    labelled: tuple[LandcoverSource, ...] = Field((), description="scenes with their land cover")
    classes: Classes | None = Field(
        {item.name: (item.value,) for item in DYNAMIC_WORLD},
        description="name of each class, and which values of the labels mean it",
    )
    teacher: TeacherSettings | None = Field(
        None, description="network whose class probabilities are learned; null: none"
    )
    teacher_share: tuple[Share, Share] = Field(
        (1.0, 0.5), description="of the examples of the first and of the last stage; the others are crops"
    )
    tiles: TileSettings = TileSettings()
    simulated: tuple[SeedNumber, ...] = Field((), description="seeds of simulated scenes to learn from")
    simulated_held_out: tuple[SeedNumber, ...] = Field(
        (), description="seeds of simulated scenes to evaluate on"
    )
    simulated_px: int = Field(512, ge=64, le=MOST_PX)
    simulated_share: tuple[Factor, Factor] = Field((1.0, 1.0), description="as of a labelled scene")
    id: str = "landcover"
    version: str = "1"
    limitations: tuple[str, ...] = Field((), description="what users must know, for the card")
    architecture: str = Field("unet", description="a family of segmenters")
    arguments: dict[str, Any] = Field({}, description="of the network, where not the family's own")
    bands: tuple[str, ...] = (*BANDS_10M, *BANDS_20M)
    optional_bands: tuple[str, ...] = Field(BANDS_20M, description="of the bands, those a scene may lack")
    initial: str | None = Field(
        None,
        description="bundle (name or path) whose weights to start from; it must not have seen land use if "
        "there is a cross-validation",
    )
    pretrained: Pretrained = Field(
        "no", description="Sentinel-2 weights for the encoder of smp_unet; prefer: train without if need be"
    )
    pretrained_weights: str = Field("SENTINEL2_ALL_MOCO", description="their name in torchgeo")
    pretrained_source: str | None = Field(
        None, description="file or URL that holds them, where torchgeo's own address can't be reached"
    )
    first_steps: int = Field(
        0,
        ge=0,
        le=MOST_STEPS,
        description="steps of the first stage, without land use and its place; 0: no such stage",
    )
    first_learning_rate: float = Field(2e-3, ge=1e-9, le=10)
    steps: int = Field(350, ge=1, le=MOST_STEPS, description="steps of the last stage and of each fold")
    land_use_weight: float = Field(3.0, ge=0, le=1000, description="of a pixel with land use")
    held_out: float = Field(0.25, gt=0, lt=1, description="share of the labelled pixels kept for evaluation")
    block_px: int = Field(256, ge=16, le=MOST_PX, description="side of the blocks")
    guard_px: int = Field(
        32, ge=0, le=1000, description="labels so near to a held-out block are not used either"
    )
    blocks: int = Field(
        200, ge=2, le=100_000, description="at most so many blocks with labels are read (3 MB each)"
    )
    folds: int = Field(
        0, ge=0, le=100, description="of the cross-validation on land use; 0: not cross-validated"
    )
    fold_block_px: int = Field(
        192, ge=16, le=MOST_PX, description="side of the blocks of the cross-validation"
    )

    learning_rate: float = Field(1e-3, ge=1e-9, le=10)
    weight_decay: float = Field(0.02, ge=0, le=10)
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    consistency: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="weight of the divergence between two views of a tile, at the top of the atmosphere and "
        "at the surface; above 0 such views are neighbours in the batch, which must be even",
    )
    class_balance: float = Field(
        0.1, ge=0, le=1, description="0: classes count by area, 1: all classes count the same"
    )
    emphasis: dict[str, Factor] = Field(
        {}, description="further factors of classes in the loss of the last stage, by name"
    )
    band_dropout: float = Field(
        0.4, ge=0, le=1, description="share of the examples that are shown without some optional bands"
    )
    crop_px: int = Field(192, ge=16, le=4096, description="a multiple of the stride")
    batch: int = Field(6, ge=1, le=10_000, description="crops a step")
    average: float = Field(0.97, ge=0, lt=1, description="decay of the moving average of the weights")
    clip: float = Field(1.0, ge=1e-6, le=1e6, description="norm to which gradients are clipped")
    check_every: int = Field(50, ge=1, le=MOST_STEPS, description="steps from one checkpoint to the next")
    seed: int = Field(1, ge=0, le=MOST_SEED)


class FineTuning(SegmenterTraining):
    """Settings of a training that continues a bundle, on the classes of other labels."""

    initial: str | None = "landcover"
    classes: Classes | None = Field(
        None,
        description="as above; null: each value of polygons or points, or Dynamic World's of a raster",
    )
    id: str = "own-landcover"
    limitations: tuple[str, ...] = ("Trained and evaluated on few scenes; others may differ.",)
    steps: int = Field(300, ge=1, le=MOST_STEPS)
    crop_px: int = Field(128, ge=16, le=4096)
    block_px: int = Field(128, ge=16, le=4096)
    guard_px: int = Field(16, ge=0, le=1000)
