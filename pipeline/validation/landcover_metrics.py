"""Metrics of a land-cover model as plain numbers for its card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from pipeline.evaluation.bootstrap import block_bootstrap, ratio
from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation
from pipeline.evaluation.landcover.blocks import accuracy_and_iou, confusion_by_block
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.evaluation.trucks.calibration import Reliability, reliability
from pipeline.models.bundle import Card
from pipeline.validation.card_metrics import rounded

BOOTSTRAP_PX = 64
"""Side of the blocks that intervals are drawn from: larger than nearly every field."""
_PIXEL_M2 = 100.0
_TEMPERATURES = (0.05, 20.0)

Classes = NDArray[np.uint8]
"""(H, W) class indices, `UNLABELLED` where there is none."""
Pair = tuple[Classes, Classes]
"""Of a place: true and found ones."""


def _by_block(pairs: Iterable[Pair], card: Card) -> NDArray[np.int64]:
    """Return the confusion matrices (B, K, K) of the blocks of `BOOTSTRAP_PX` of all pairs."""
    index, count = np.arange(len(card.classes)), len(card.classes)
    parts = [confusion_by_block(truth, found, index, BOOTSTRAP_PX) for truth, found in pairs]
    return np.concatenate([np.zeros((0, count, count), np.int64), *parts])


def confusion(pairs: Iterable[Pair], card: Card) -> LandcoverEvaluation:
    """Compare true and found classes where both have one."""
    return LandcoverEvaluation(card.classes, _by_block(pairs, card).sum(axis=0), _PIXEL_M2)


def metrics(pairs: Iterable[Pair], card: Card) -> dict[str, Any]:
    """Return accuracy and IoU of found classes against true ones.

    `accuracy_95` is the accuracy's interval by a bootstrap of blocks of `BOOTSTRAP_PX`.
    """
    blocks = _by_block(pairs, card)
    result = LandcoverEvaluation(card.classes, blocks.sum(axis=0), _PIXEL_M2)
    interval = block_bootstrap(blocks, lambda sums: accuracy_and_iou(sums)[..., 0])
    return {
        "pixels": result.pixels,
        "accuracy": rounded(result.accuracy),
        "accuracy_95": [rounded(bound) for bound in interval],
        "iou": {
            item.name: rounded(result.iou[i]) for i, item in enumerate(card.classes) if result.labelled[i]
        },
        "confusions": most_confused(result),
    }


def most_confused(result: LandcoverEvaluation, count: int = 4) -> dict[str, float | None]:
    """Return the most frequent confusions, as shares of all pixels."""
    wrong = np.where(np.eye(len(result.legend), dtype=bool), 0, result.matrix)
    most = [np.unravel_index(index, wrong.shape) for index in np.argsort(-wrong, axis=None)[:count]]
    return {
        f"{result.legend[i].name} as {result.legend[j].name}": rounded(float(wrong[i, j]) / result.pixels)
        for i, j in most
        if wrong[i, j]
    }


def advantage(
    triples: Iterable[tuple[Classes, Classes, Classes]],
) -> tuple[float | None, float | None, list[float | None]]:
    """Return the accuracy of other maps, that of the found ones less it, and the interval of the difference.

    `triples` are (truth, found, other) of places; pixels count where all three have a class. The interval is
    a bootstrap of blocks of `BOOTSTRAP_PX`.
    """
    counts = [np.zeros((0, 3))]
    for truth, found, other in triples:
        there = (truth != UNLABELLED) & (found != UNLABELLED) & (other != UNLABELLED)
        row, col = np.nonzero(there)
        across = -(-truth.shape[1] // BOOTSTRAP_PX)
        _, block = np.unique(row // BOOTSTRAP_PX * across + col // BOOTSTRAP_PX, return_inverse=True)
        of_block = [np.bincount(block, (one == truth)[there]) for one in (found, other)]
        counts.append(np.stack([*of_block, np.bincount(block)], axis=1))
    by_block = np.concatenate(counts)
    found_right, other_right, pixels = by_block.sum(axis=0)
    if not pixels:
        return None, None, [None, None]
    interval = block_bootstrap(by_block, lambda sums: ratio(sums[..., 0] - sums[..., 1], sums[..., 2]))
    return (
        rounded(other_right / pixels),
        rounded((found_right - other_right) / pixels),
        [rounded(bound) for bound in interval],
    )


def recall_by_class(pairs: Iterable[Pair], card: Card) -> dict[str, tuple[int, float | None]]:
    """Return the pixels of each class that the truth has, and the share of them that was found."""
    result = confusion(pairs, card)
    return {
        item.name: (int(result.matrix[i].sum()), rounded(result.producers_accuracy[i]))
        for i, item in enumerate(card.classes)
        if result.labelled[i]
    }


def class_table(result: LandcoverEvaluation) -> dict[str, Any]:
    """Return IoU, user's and producer's accuracy and share of every class."""
    share = result.matrix.sum(axis=1) / max(1, result.pixels)
    rows = [
        [
            item.name,
            *(
                rounded(values[i])
                for values in (result.iou, result.users_accuracy, result.producers_accuracy)
            ),
            rounded(share[i]),
        ]
        for i, item in enumerate(result.legend)
    ]
    return {"columns": ["class", "iou", "users_accuracy", "producers_accuracy", "share"], "rows": rows}


def fit_temperature(samples: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]]) -> float:
    """Return the temperature T under which softmax(logits / T) makes the true classes most likely.

    Each sample is (logits (N, K), true classes (N,)) of a place; places count the same, whatever their size.
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. 1 without samples.
    """
    samples = [(logits.astype(np.float64), truth) for logits, truth in samples if len(truth)]
    if not samples:
        return 1.0

    def loss(log_temperature: float) -> float:
        likelihoods = [
            np.take_along_axis(log_softmax(logits / np.exp(log_temperature), axis=1), truth[:, None], axis=1)
            for logits, truth in samples
        ]
        return -float(np.mean([likelihood.mean() for likelihood in likelihoods]))

    low, high = np.log(_TEMPERATURES)
    return round(float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x)), 3)


def class_reliability(
    logits: NDArray[np.float32], truth: NDArray[np.uint8], temperature: float
) -> Reliability:
    """Return the reliability diagram of the most likely class of pixels: logits (N, K), true classes (N,)."""
    probability = softmax(logits.astype(np.float64) / temperature, axis=1)
    return reliability(probability.max(axis=1), logits.argmax(axis=1) == truth)


def same_share(one: Classes, other: Classes) -> float | None:
    """Return the share of pixels of the same class, where both maps have one."""
    there = (one != UNLABELLED) & (other != UNLABELLED)
    return rounded((one == other)[there].mean()) if there.any() else None


def mean_and_pooled(
    pairs: Mapping[str, Pair], card: Card, groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Return agreement and mean IoU by name: the mean of places, all pixels, and the means of groups of them.

    `pairs` are reference and map by place. `groups` are names of places by the group's name.
    """
    single = {name: confusion([pair], card) for name, pair in pairs.items()}
    pooled = confusion(pairs.values(), card)

    def mean(values: Iterable[float]) -> float | None:
        finite = [value for value in values if np.isfinite(value)]
        return rounded(np.mean(finite)) if finite else None

    def by_group(what: Mapping[str, float], of_all: float) -> dict[str, float | None]:
        found = {"mean_of_places": mean(what.values()), "all_pixels": rounded(of_all)}
        return found | {
            group: mean(what[name] for name in names if name in what) for group, names in groups.items()
        }

    return (
        by_group({name: result.accuracy for name, result in single.items()}, pooled.accuracy),
        by_group({name: result.mean_iou for name, result in single.items()}, pooled.mean_iou),
    )
