"""Halo and stride of the network that a card describes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from pipeline.errors import BundleError
from pipeline.models.bundle import Card
from pipeline.models.fcos import PixelHead, SingleStageDetector
from pipeline.models.receptive_field.trace import Anatomy, anatomy
from pipeline.models.registry import build_detector, build_screener, build_segmenter
from pipeline.tiling import round_up

log = logging.getLogger(__name__)


BOX_REACH = 8
"""Pixels that a detection reaches beyond what its place sees: half a box and its rivals' other half."""


_CHEAP_HALO = {"detection": 64, "segmentation": 128, "screening": 64}
_EXAMPLE_SIDE = 128


def card_anatomy(card: Card, side: int = 256) -> Anatomy:
    """The anatomy of the network that a model card describes, for a tile of `side` pixels.

    Of a detector it is that of its dense part, from the image to the region proposals; boxes are then
    pooled and judged on their own, and reach half a box further. BundleError if the card can't be built.
    """
    build: Callable[[Card], nn.Module] = {
        "detection": lambda card: DensePart(build_detector(card)),
        "segmentation": build_segmenter,
        "screening": build_screener,
    }[card.task]
    network = build(card)
    return anatomy(network, (len(card.bands), side, side))


def with_halo(card: Card) -> Card:
    """The card with the halo and stride of its network; a halo that costs much is told in the log.

    A detector's halo also holds `BOX_REACH`: half a box, and the boxes that it competes with.

    Raises
    ------
    BundleError
        If a layer looks at the whole image: then no halo makes a tile equal the scene.
    """
    seen = card_anatomy(card, _EXAMPLE_SIDE)
    if seen.reach is None:
        layers = ", ".join(name or "the network itself" for name in seen.unbounded[:3])
        more = f" and {len(seen.unbounded) - 3} more" if len(seen.unbounded) > 3 else ""
        raise BundleError(
            f"Model {card.id} can't be cut into tiles: in its {card.architecture} these layers look at the "
            f"whole image: {layers}{more}. Choose one without squeeze-and-excitation, attention, global "
            "pooling, and norms over space."
        )
    reach = max(seen.reach) + (BOX_REACH if card.task == "detection" else 0)
    halo, cheap = round_up(reach, seen.stride), _CHEAP_HALO[card.task]
    if halo > cheap:
        log.warning(
            "Model %s needs a halo of %d px, more than the %d px that are cheap: tiles stay exact, but take "
            "longer. A smaller depth helps.",
            card.id,
            halo,
            cheap,
        )
    return card.model_copy(update={"halo": halo, "stride": seen.stride})


class DensePart(nn.Module):
    """All of a detector that slides over the image: backbone, and region proposal or pixel head."""

    def __init__(self, detector: GeneralizedRCNN | SingleStageDetector) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = detector.head if isinstance(detector, SingleStageDetector) else detector.rpn.head

    def forward(self, images: Tensor) -> tuple[Tensor | list[Tensor], ...]:
        """Scores, boxes (and centre-ness) by place and pyramid level, of normalised images (N, C, H, W)."""
        features = self.backbone(images)
        levels = list(features.values()) if isinstance(features, Mapping) else [features]
        return self.head.maps(levels[0]) if isinstance(self.head, PixelHead) else self.head(levels)
