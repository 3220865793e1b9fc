"""Land-cover networks of libraries: torchgeo's FCN and the U-Nets of segmentation-models-pytorch.

The libraries are in the extra `train` and are imported when a card names one of these families. Pretrained
Sentinel-2 weights are downloaded only for training: a bundle has all weights of its network.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.errors import BundleError, MissingExtraError, TrainingError
from pipeline.models.bundle import Card
from pipeline.models.family import Family

log = logging.getLogger(__name__)

Pretrained = Literal["no", "prefer", "require"]

_TIMEOUT_S = 60.0
_STAGES = ("layer1", "layer2", "layer3", "layer4")
_WEIGHTS = {"resnet18": "ResNet18_Weights", "resnet50": "ResNet50_Weights", "resnet152": "ResNet152_Weights"}
"""Name of the weights of an encoder in torchgeo."""


def fcn(bands: int, classes: int, filters: int = 64) -> nn.Module:
    """Return torchgeo's FCN: five 3 x 3 convolutions at full resolution that reach 5 px to each side.

    Raises
    ------
    MissingExtraError
        If torchgeo is not installed.
    """
    with _extra("fcn"):
        from torchgeo.models import FCN
    network: nn.Module = FCN(bands, classes, filters)
    return network


def smp_unet(
    bands: int,
    classes: int,
    encoder: str = "resnet18",
    depth: int = 3,
    widths: Sequence[int] = (128, 64, 32),
) -> nn.Module:
    """Return a U-Net of segmentation-models-pytorch with `depth` stages and decoder `widths`.

    Each stage about doubles the receptive field. With a ResNet-18 the halo of three stages is small; that of
    five costs more than the tile. Encoders with squeeze-and-excitation or attention can be built, but not run
    in tiles: `pipeline.models.halo.with_halo` refuses them.

    Raises
    ------
    BundleError
        If the encoder is unknown, or `widths` does not have `depth` numbers.
    MissingExtraError
        If segmentation-models-pytorch is not installed.
    """
    with _extra("smp_unet"):
        import segmentation_models_pytorch as smp
    try:
        network = smp.Unet(
            encoder,
            encoder_depth=depth,
            encoder_weights=None,
            decoder_channels=list(widths),
            in_channels=bands,
            classes=classes,
        )
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())[:200]
        raise BundleError(
            f"smp_unet can't be built with encoder {encoder}, depth {depth}, widths {list(widths)}: {reason}"
        ) from error
    for stage in _STAGES[max(0, depth - 1) :]:  # the library keeps stages that a shallow U-Net never runs
        if hasattr(network.encoder, stage):
            delattr(network.encoder, stage)
    return network


def start_encoder(
    network: nn.Module,
    card: Card,
    pretrained: Pretrained,
    weights: str = "SENTINEL2_ALL_MOCO",
    source: str | None = None,
) -> bool:
    """Load torchgeo's Sentinel-2 weights into the encoder of an `smp_unet`; return True if they were loaded.

    `weights` is a name of torchgeo (Wang et al., "SSL4EO-S12", 2023, arXiv:2211.07044), `source` a file or
    URL with them if their own address is unreachable. With `prefer` training continues without weights that
    can't be downloaded, and logs a warning. The first convolution keeps the channels of the card's bands,
    scaled from reflectance to the card's normalisation.

    Raises
    ------
    TrainingError
        If they can't be downloaded and are required, are of another encoder, or lack a band of the card.
    """
    if pretrained == "no":
        return False
    encoder = str(card.arguments.get("encoder", "resnet18"))
    if card.architecture != "smp_unet" or encoder not in _WEIGHTS:
        raise TrainingError(
            f"Pretrained Sentinel-2 weights exist for smp_unet with encoder {', '.join(_WEIGHTS)}. "
            f"Received: {card.architecture} with {encoder}"
        )
    known = _torchgeo_weights(encoder)
    if weights not in known:
        raise TrainingError(f"Unknown weights {weights} of {encoder}. Known: {', '.join(known)}.")
    try:
        state = _fetch(source or known[weights].url)
    except TrainingError as error:
        if pretrained == "require":
            raise
        log.warning("%s Training continues without them.", error)
        return False
    _load(network, state, [_band(name) for name in known[weights].meta["bands"]], card, weights)
    return True


def _torchgeo_weights(encoder: str) -> dict[str, Any]:
    with _extra("smp_unet"):
        from torchgeo import models
    return {entry.name: entry for entry in getattr(models, _WEIGHTS[encoder]) if "SENTINEL2" in entry.name}


def _fetch(source: str) -> Mapping[str, Tensor]:
    """Return the tensors of a file or URL, without running code in it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        if Path(source).is_file():
            state: Any = torch.load(source, map_location="cpu", weights_only=True)
        else:
            state = torch.hub.load_state_dict_from_url(
                source, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
    except Exception as error:  # urllib, ssl, torch and pickle raise different errors
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise TrainingError(
            f"Pretrained weights can't be loaded from {source} ({reason}). Set pretrained_source to a local "
            "copy, or pretrained: prefer to train without them."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TrainingError(f"{source} must hold the weights of a network, a mapping of names to tensors.")
    return state


def _load(
    network: nn.Module, state: Mapping[str, Tensor], bands: Sequence[str], card: Card, weights: str
) -> None:
    missing = [band for band in card.bands if band not in bands]
    if missing:
        raise TrainingError(
            f"Weights {weights} lack band {', '.join(missing)} of the card. They have: {', '.join(bands)}."
        )
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    own = encoder.state_dict()
    given = {name: value for name, value in state.items() if name in own}
    channels = [bands.index(band) for band in card.bands]
    first = given.get("conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] == len(bands):
        # They were trained on reflectance. Batch norm removes the constant that the mean adds to each pixel.
        given["conv1.weight"] = first[:, channels] * torch.tensor(card.std)[:, None, None]
    if any(
        name not in given or given[name].shape != value.shape
        for name, value in own.items()
        if not name.endswith("num_batches_tracked")
    ):
        raise TrainingError(f"Weights {weights} do not fit encoder {type(encoder).__name__}.")
    encoder.load_state_dict(given, strict=False)


def _band(name: str) -> str:
    """Return the ESA name (B04, B8A) of a band from that of torchgeo (B4, B8a)."""
    number = name[1:].upper()
    return f"B{number.zfill(2)}"


@contextmanager
def _extra(family: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Models of family {family} need {error.name}. Run: pip install 'truckscape[train]'"
        ) from error


FCN_FAMILY = Family("fcn", "segmentation", fcn)
SMP_UNET_FAMILY = Family("smp_unet", "segmentation", smp_unet)
