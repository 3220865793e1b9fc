"""Registry of model families, and the networks that cards describe."""

from __future__ import annotations

from torch import nn

from pipeline.errors import BundleError
from pipeline.models.bundle import Card, Task
from pipeline.models.family import Family
from pipeline.plugins import FAMILY_PLUGINS, Registry
from pipeline.private_interfaces import without_compiler

with without_compiler():
    from pipeline.models import (
        centernet2,
        fast_rcnn,
        faster_rcnn,
        fcos,
        library_segmenters,
        rcnn,
        screener,
        separable_fcn,
        unet,
        yolo,
    )

_FAMILIES: list[Family] = [
    rcnn.FAMILY,
    fast_rcnn.FAMILY,
    faster_rcnn.FAMILY,
    yolo.FAMILY,
    fcos.FAMILY,
    centernet2.FAMILY,
    unet.FAMILY,
    separable_fcn.FAMILY,
    library_segmenters.FCN_FAMILY,
    library_segmenters.SMP_UNET_FAMILY,
    screener.FAMILY,
]
FAMILIES = Registry(FAMILY_PLUGINS, Family, "key", _FAMILIES)
"""All architectures; a card names one of its task."""


def find_family(task: Task, architecture: str) -> Family:
    """Return the family of a task with this name.

    Raises
    ------
    BundleError
        If there is no such family.
    """
    known = {family.name: family for family in FAMILIES if family.task == task}
    if architecture not in known:
        raise BundleError(f"Unknown architecture {architecture} for {task}. Known: {', '.join(known)}.")
    return known[architecture]


def build_network(card: Card) -> nn.Module:
    """Return the network that a card describes, without its weights.

    Raises
    ------
    BundleError
        If the architecture is unknown, or does not take the card's arguments.
    """
    return find_family(card.task, card.architecture).build(card)
