"""Halo and stride of the network that a card describes."""

from __future__ import annotations

import logging

from pipeline.errors import BundleError
from pipeline.models.bundle import Card
from pipeline.models.family import dense
from pipeline.models.receptive_field.trace import Anatomy, anatomy
from pipeline.models.registry import build_network
from pipeline.tiling import round_up

log = logging.getLogger(__name__)

BOX_REACH = 8
"""Pixels by which a box reaches beyond the receptive field of its place: half a box, and the other half of
those it competes with."""
_CHEAP_HALO = {"detection": 64, "segmentation": 128, "screening": 64}
_EXAMPLE_SIDE = 128


def card_anatomy(card: Card, side: int = 256) -> Anatomy:
    """Return the anatomy of the network that a card describes, for a tile of `side` pixels.

    Of a detector it is that of its dense part; boxes are then pooled one by one, and reach half a box
    further. BundleError if the card's network can't be built.
    """
    return anatomy(build_network(card), (len(card.bands), side, side), dense)


def with_halo(card: Card) -> Card:
    """Return the card with the halo and stride of its network; log a warning where the halo costs much.

    A detector's halo also holds `BOX_REACH`.

    Raises
    ------
    BundleError
        If a layer depends on the complete image: then no halo makes a tile equal the scene.
    """
    found = card_anatomy(card, _EXAMPLE_SIDE)
    if found.reach is None:
        layers = ", ".join(name or "the network itself" for name in found.unbounded[:3])
        more = f" and {len(found.unbounded) - 3} more" if len(found.unbounded) > 3 else ""
        raise BundleError(
            f"Model {card.id} can't be cut into tiles: in its {card.architecture} these layers depend on the "
            f"complete image: {layers}{more}. Choose one without squeeze-and-excitation, attention, global "
            "pooling, and norms over space."
        )
    reach = max(found.reach) + (BOX_REACH if card.task == "detection" else 0)
    halo, cheap = round_up(reach, found.stride), _CHEAP_HALO[card.task]
    if halo > cheap:
        log.warning(
            "Model %s needs a halo of %d px, more than the %d px that are cheap: tiles stay exact, but take "
            "longer. A smaller depth helps.",
            card.id,
            halo,
            cheap,
        )
    return card.model_copy(update={"halo": halo, "stride": found.stride})
