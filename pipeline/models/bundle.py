"""Model bundles: folders with `weights.safetensors` and `card.yaml`, read without unpickling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError

from pipeline.errors import BundleError
from pipeline.models.legend import LegendClass
from pipeline.safe_yaml import YamlError, read_yaml_file
from pipeline.storage.atomic import make_folder, replacing

if TYPE_CHECKING:  # the import of torch takes seconds, and cards are read without it
    from torch import Tensor, nn

SHIPPED = Path(__file__).parent / "bundles"

Task = Literal["detection", "segmentation", "screening"]

NO_BAND = "no band"
_MOST_ARGUMENT = 4096
"""Limit of numbers in a network's arguments; larger ones could fill the memory before weights are read."""
_MOST_WEIGHTS_BYTES = 2**31
_Number = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Calibration(BaseModel):
    """Calibration of a network's scores to probabilities, linear in the log-odds.

    logit(probability) = logit(score) / temperature + offset + motion * evidence + shadow * length. The
    temperature is that of
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, the offset that of Platt (1999).
    Detection needs the offset: most candidates are no object, and the share of objects differs between
    training and use. `motion` is the weight of the evidence in the pixels, in standard deviations of the
    motion of a box, `shadow` that of long shadows, see `pipeline.scenes.sun.long_shadow`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    temperature: float = Field(1.0, ge=1e-3, le=1e3, allow_inf_nan=False)
    offset: _Number = 0.0
    motion: float = Field(0.0, ge=0, le=1e3, allow_inf_nan=False)
    shadow: float = Field(0.0, ge=-10, le=10, allow_inf_nan=False)

    def under(self, length: float) -> Calibration:
        """Return the calibration for a scene, given by how much its shadows are too long."""
        if not self.shadow:
            return self
        offset = self.offset + self.shadow * length
        return self.model_copy(update={"offset": offset, "shadow": 0.0})

    def probability(self, scores: ArrayLike, evidence: ArrayLike = 0.0) -> NDArray[np.float64]:
        """Return the probabilities of being right for scores of the network, both 0-1 and of the same shape.

        `evidence` is from `pipeline.inference.motion.evidence`. Shadows are short; see `under`.
        """
        from scipy.special import expit, logit

        log_odds = logit(np.asarray(scores, dtype=np.float64)) / self.temperature + self.offset
        return np.asarray(expit(log_odds + self.motion * np.asarray(evidence, dtype=np.float64)))

    def score(self, probability: float, evidence: float) -> float:
        """Return the score that has this probability: the inverse of `probability`."""
        from scipy.special import expit, logit

        log_odds = logit(probability) - self.offset - self.motion * evidence
        return float(expit(log_odds * self.temperature))


class Card(BaseModel):
    """Card of a bundle: its network, its input and its measured quality."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    id: str
    version: str
    task: Task
    architecture: str
    """Name of a family of this task, e.g. `faster_rcnn` or `unet`."""
    arguments: dict[str, Any] = {}
    bands: tuple[str, ...] = Field(min_length=1)
    """Bands in the order of the network's input channels."""
    optional_bands: tuple[str, ...] = ()
    """Bands that a scene may lack, in any combination: the network was trained without some of them, too."""
    units: Literal["reflectance"] = "reflectance"
    gsd: float = Field(10.0, gt=0, le=1000, allow_inf_nan=False)
    mean: tuple[_Number, ...]
    std: tuple[Annotated[float, Field(ge=1e-6, le=1000, allow_inf_nan=False)], ...]
    """Normalisation by band: (reflectance - mean) / std; then 0 for pixels without data."""
    classes: tuple[LegendClass, ...]
    calibration: Calibration = Calibration()
    """Calibration of scenes without roads. Shards keep scores of the network; merging applies this or the
    next, and thresholds refer to calibrated scores."""
    calibration_near_roads: Calibration | None = None
    """Calibration near roads, if roads are given; None: as without."""
    vehicle_calibration: Calibration | None = None
    """Calibration of the scores of vehicles of any kind; None: that of heavy ones."""
    vehicle_calibration_near_roads: Calibration | None = None
    """Calibration of these scores near roads; None: that without roads."""
    score_threshold: _Share | None = None
    """Threshold of scenes without roads, where nearly all of the searched area has no truck."""
    score_threshold_near_roads: _Share | None = None
    """Threshold near roads, if roads are given; None: as without."""
    vehicle_threshold: _Share | None = None
    """Threshold of the scores of vehicles of any kind, without roads; None: detections have no such layer."""
    vehicle_threshold_near_roads: _Share | None = None
    """Threshold of these scores near roads; None: as without."""
    halo: int = Field(ge=0, le=4096)
    """Pixels (10 m) around a core that can change its result, rounded up to the stride."""
    stride: int = Field(ge=1, le=1024)
    """Total stride in 10 m pixels; windows start at its multiples."""
    training_data: tuple[dict[str, Any], ...] = ()
    quality: dict[str, Any] = {}
    limitations: tuple[str, ...] = ()
    licence: str = "Apache-2.0"
    weights_sha256: str = ""

    @model_validator(mode="after")
    def _optional_ones_are_bands(self) -> Card:
        unknown = [band for band in self.optional_bands if band not in self.bands]
        if unknown:
            raise ValueError(f"optional_bands must be in bands. Missing there: {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _numbers_fit(self) -> Card:
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands must differ: {', '.join(self.bands)}")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != len(self.bands):
                raise ValueError(f"{name} has {len(numbers)} numbers for {len(self.bands)} bands")
        values = [item.value for item in self.classes]
        if len(set(values)) < len(values):
            raise ValueError(f"values of classes must differ: {', '.join(map(str, values))}")
        _check_arguments(self.arguments)
        return self

    @property
    def required_bands(self) -> tuple[str, ...]:
        """Return the bands that a scene must have."""
        return tuple(band for band in self.bands if band not in self.optional_bands)

    def calibration_for(self, near_roads: bool) -> Calibration:
        """Return the calibration for a search near roads only, or everywhere."""
        near = self.calibration_near_roads if near_roads else None
        return self.calibration if near is None else near

    def vehicle_calibration_for(self, near_roads: bool) -> Calibration:
        """Return the calibration of vehicles of any kind, near roads only or everywhere."""
        near = self.vehicle_calibration_near_roads if near_roads else None
        chosen = self.vehicle_calibration if near is None else near
        return self.calibration_for(near_roads) if chosen is None else chosen

    @property
    def scores_vehicles(self) -> bool:
        """Return True for a detector that also scores vehicles of any kind: light ones are a class."""
        return self.task == "detection" and len(self.classes) > 1

    def default_threshold(self, near_roads: bool) -> float:
        """Return the threshold to use if the user sets none; 0.5 if the card has none."""
        near = self.score_threshold_near_roads if near_roads else None
        chosen = self.score_threshold if near is None else near
        return 0.5 if chosen is None else chosen

    def default_vehicle_threshold(self, near_roads: bool) -> float | None:
        """Return the threshold of vehicles of any kind; None for a detector that does not tell them."""
        near = self.vehicle_threshold_near_roads if near_roads else None
        return self.vehicle_threshold if near is None else near

    def bands_used(self, available: Iterable[str]) -> tuple[str, ...]:
        """Return the input bands for a scene with bands `available`: optional ones only if it has them."""
        missing = set(self.optional_bands) - set(available)
        return tuple(band for band in self.bands if band not in missing)

    def agreement_without(self, missing: Iterable[str]) -> float | None:
        """Return the measured agreement with the reference where bands are missing; None if not measured.

        `quality` has it as `agreement_without`, by the missing bands in the card's order (`NO_BAND`: none).
        """
        lacking = set(missing)
        name = " ".join(band for band in self.bands if band in lacking) or NO_BAND
        measured = self.quality.get("agreement_without")
        value = measured.get(name) if isinstance(measured, Mapping) else None
        return float(value) if isinstance(value, int | float) else None

    def check_scene(self, available: Mapping[str, Any] | tuple[str, ...], gsd: float, scene_id: str) -> None:
        """Check that a scene has the required bands and the pixel size of this model.

        Raises BundleError otherwise, with the missing bands. Optional bands may be missing.
        """
        missing = [band for band in self.required_bands if band not in available]
        if missing:
            raise BundleError(
                f"Model {self.id} needs band {', '.join(missing)}, which {scene_id} lacks. "
                f"It has: {', '.join(available) or 'none'}."
            )
        if abs(gsd - self.gsd) > 0.05 * self.gsd:
            raise BundleError(f"Model {self.id} is for {self.gsd:g} m pixels, {scene_id} has {gsd:g} m.")


def _check_arguments(value: Any) -> None:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) > _MOST_ARGUMENT:
            raise ValueError(f"a list in arguments has {len(value)} values, more than {_MOST_ARGUMENT}")
        for each in value:
            _check_arguments(each)
    elif isinstance(value, int | float) and not -_MOST_ARGUMENT <= value <= _MOST_ARGUMENT:
        raise ValueError(f"arguments are from -{_MOST_ARGUMENT} to {_MOST_ARGUMENT}, not {value:g}")


class Bundle(BaseModel):
    """Card and folder of a bundle."""

    model_config = ConfigDict(frozen=True)
    folder: Path
    card: Card

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a shipped bundle by its name in the package, and any other by its absolute path."""
        shipped = self.folder.is_relative_to(SHIPPED)
        folder = self.folder.relative_to(SHIPPED) if shipped else self.folder.absolute()
        return _arrived, (folder, self.card)

    @property
    def weights(self) -> Path:
        """Path of the weights file."""
        return self.folder / "weights.safetensors"

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights, checked against the card's SHA-256.

        Raises
        ------
        BundleError
            If the file is missing, is not safetensors, or has another SHA-256.
        """
        from safetensors.torch import load

        try:
            size = self.weights.stat().st_size
            if size > _MOST_WEIGHTS_BYTES:
                raise BundleError(
                    f"Weights of bundle {self.card.id} have {size} bytes, more than {_MOST_WEIGHTS_BYTES}: "
                    f"{self.weights}."
                )
            content = self.weights.read_bytes()
        except OSError as error:
            raise BundleError(f"Bundle {self.card.id} has no readable weights at {self.weights}.") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.card.weights_sha256:
            raise BundleError(
                f"Weights of bundle {self.card.id} do not match its card: {self.weights} has SHA-256 "
                f"{digest[:12]}..., expected {self.card.weights_sha256[:12] or 'nothing'}..."
            )
        try:
            return load(content)  # the bytes that were hashed: the file may be replaced meanwhile
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise BundleError(f"{self.weights} is not a safetensors file ({said}).") from error

    def load_into(self, module: nn.Module) -> nn.Module:
        """Load the weights into a module and return it in evaluation mode.

        Raises BundleError if they don't fit, or are no finite numbers.
        """
        floating = {name for name, value in module.state_dict().items() if value.dtype.is_floating_point}
        state: dict[str, Tensor] = {}
        for name, given in self.state_dict().items():
            of_bundle = f"Weights of bundle {self.card.id}"
            if name in floating and not given.dtype.is_floating_point:
                raise BundleError(f"{of_bundle} are of type {given.dtype} in {name}, not floating point.")
            state[name] = given.float()
            if not state[name].isfinite().all():
                raise BundleError(f"{of_bundle} are not finite in {name}; train it again.")
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            first = " ".join(str(error).split())[:200]
            raise BundleError(
                f"Weights of bundle {self.card.id} don't fit {self.card.architecture}: {first}"
            ) from error
        return module.eval()


def _arrived(folder: Path, card: Card) -> Bundle:
    return Bundle(folder=SHIPPED / folder, card=card)  # an absolute path stays as it is


def open_bundle(name_or_path: str) -> Bundle:
    """Open a shipped bundle by name, or any bundle by its folder.

    Raises
    ------
    BundleError
        If there is no such bundle, or its card is not valid.
    """
    shipped = SHIPPED / name_or_path
    folder = shipped if (shipped / "card.yaml").is_file() else Path(name_or_path)
    card_file = folder / "card.yaml"
    if not card_file.is_file():
        names = ", ".join(sorted(bundle.folder.name for bundle in shipped_bundles()))
        raise BundleError(
            f"No model bundle at {name_or_path} (no card.yaml there). Shipped bundles: {names or 'none'}."
        )
    try:
        card = Card.model_validate(read_yaml_file(card_file))
    except (YamlError, UnicodeDecodeError, ValidationError) as error:
        raise BundleError(
            f"Not a valid model card: {card_file}: {' '.join(str(error).split())[:300]}"
        ) from error
    return Bundle(folder=folder, card=card)


def shipped_bundles() -> list[Bundle]:
    """Return the bundles of the package, sorted by name."""
    return [open_bundle(card.parent.name) for card in sorted(SHIPPED.glob("*/card.yaml"))]


def save_bundle(folder: Path, card: Card, state: Mapping[str, Tensor]) -> Bundle:
    """Write weights, and the card with their SHA-256. Half precision halves the file and is sufficient."""
    from safetensors.torch import save_file

    make_folder(folder)
    with replacing(folder / "weights.safetensors") as part:
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, part)
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
    return save_card(folder, card.model_copy(update={"weights_sha256": digest}))


def save_card(folder: Path, card: Card) -> Bundle:
    """Write a card beside the weights in `folder`; OutputError if it can't be written."""
    text = yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
    with replacing(folder / "card.yaml") as part:
        part.write_text(text, encoding="utf-8")
    return Bundle(folder=folder, card=card)
