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
"""Pixels from the receptive field of a place to the end of its box: half a box, and half of an overlapping
box."""
_CHEAP_HALO = {"detection": 64, "segmentation": 128, "screening": 64}
_EXAMPLE_SIDE = 128


def card_anatomy(card: Card, side: int = 256) -> Anatomy:
    """Return the anatomy of the network that a card describes, for a tile of `side` pixels.

    For a detector it covers the dense part. Its boxes are pooled one by one and extend half a box further.
    BundleError if the card's network can't be built.
    """
    return anatomy(build_network(card), (len(card.bands), side, side), dense)


def halo_of(card: Card, found: Anatomy) -> int | None:
    """Return the least halo of a card's network: its reach, of a detector with `BOX_REACH`, in full strides.

    None if a layer depends on the complete image.
    """
    if found.reach is None:
        return None
    reach = max(found.reach) + (BOX_REACH if card.task == "detection" else 0)
    return round_up(reach, found.stride)


def count_parameters(card: Card) -> int:
    """Return the number of parameters of the complete network; of a detector also those for single boxes."""
    return sum(parameter.numel() for parameter in build_network(card).parameters())


def with_halo(card: Card) -> Card:
    """Return the card with the halo and stride of its network; log a warning if the halo is expensive.

    The halo of a detector includes `BOX_REACH`.

    Raises
    ------
    BundleError
        If a layer depends on the complete image, so that no halo makes tiles exact.
    """
    found = card_anatomy(card, _EXAMPLE_SIDE)
    halo, cheap = halo_of(card, found), _CHEAP_HALO[card.task]
    if halo is None:
        layers = ", ".join(name or "the network itself" for name in found.unbounded[:3])
        more = f" and {len(found.unbounded) - 3} more" if len(found.unbounded) > 3 else ""
        raise BundleError(
            f"Model {card.id} can't run in tiles: these layers of its {card.architecture} depend on the "
            f"complete image: {layers}{more}. Choose a network without squeeze-and-excitation, attention, "
            "global pooling and norms over space."
        )
    if halo > cheap:
        log.warning(
            "Model %s needs a halo of %d px, above the cheap limit of %d px: tiles stay exact, but take "
            "longer. Choose a smaller depth for speed.",
            card.id,
            halo,
            cheap,
        )
    return card.model_copy(update={"halo": halo, "stride": found.stride})
