"""Training of the land-cover network, from labelled scenes to a bundle with its measured quality.

Fine-tuning is a training that starts from a bundle. One from nothing may have two stages. The first learns
nothing of the places that have land use; the second continues with them. So the second can be
cross-validated: each fold starts from the first stage's network, which knows no fold.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import TrainingError
from pipeline.inference.teacher import Teacher, TeacherSettings
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.models.library_segmenters import start_encoder
from pipeline.models.registry import build_network, find_family
from pipeline.models.renorm import Compression
from pipeline.open_data.resolve import located
from pipeline.storage.atomic import replacing
from pipeline.training.fit import prepare
from pipeline.training.segmenter.card import (
    held_out_pairs,
    land_use_metrics,
    land_use_where,
    measure,
    segment,
)
from pipeline.training.segmenter.labels import class_names, legend
from pipeline.training.segmenter.network import rounded, start_from, trained
from pipeline.training.segmenter.scenes import (
    SIMULATED,
    LabelledScene,
    OpenSource,
    masked,
    simulated_scene,
    without_land_use,
)
from pipeline.training.segmenter.settings import FineTuning, SegmenterTraining
from pipeline.training.segmenter.tiles import TeacherTiles, places_of
from pipeline.training.spatial_split import fold_blocks
from pipeline.validation.landcover_metrics import Pair, confusion, metrics

log = logging.getLogger(__name__)

NORMALISATION: Mapping[str, tuple[float, float]] = {
    "B02": (0.11, 0.05),
    "B03": (0.10, 0.05),
    "B04": (0.09, 0.06),
    "B05": (0.12, 0.06),
    "B06": (0.17, 0.10),
    "B07": (0.20, 0.12),
    "B08": (0.20, 0.12),
    "B8A": (0.21, 0.12),
    "B11": (0.15, 0.09),
    "B12": (0.10, 0.07),
}
"""Round figures for mean and standard deviation of reflectance over land."""


def train(settings: SegmenterTraining, out: Path) -> Bundle:
    """Train a land-cover network and leave a bundle in `out/bundle`, its quality measured and in its card.

    Classes that a bundle to start from knows by name keep what it has learned of them. `out` gets the
    checkpoint, the learning curve and `evaluation.json`, the confusion matrix of all held-out blocks; the
    first stage and each fold have folders of their own in it. A training that was cut short resumes from its
    last checkpoint. The same settings and number of threads give the same weights.

    Raises
    ------
    TrainingError
        If there is nothing to learn from, a band has no normalisation, or the teacher does not fit.
    LabelsError
        If labels are unreadable or empty, outside the imagery or where it has no data, hold one class only or
        one that the settings don't name, or are all in one block.
    BundleError
        If a scene lacks a band that the network must have, or the bundle to start from does not fit.
    """
    prepare(settings)
    teacher = opened_teacher(settings)
    start = open_bundle(settings.initial) if settings.initial else None
    sources = [OpenSource.of(source, settings.classes) for source in settings.labelled]
    card = first_card(settings, start, sources)
    check_sides(settings, card)
    check_classes(settings, card)
    scenes = read_scenes(settings, sources, card, teacher)
    tiles = teacher_tiles(settings, scenes, card, out)
    initial = start or pretrained_start(card, settings, out)
    if settings.first_steps:
        initial = first_stage(card, scenes, settings, out / "first", initial, tiles)
    quality: dict[str, Any] = {}
    if settings.folds:
        quality["cross_validation"] = cross_validate(card, scenes, settings, out, initial, tiles)
    scenes = [masked(scene, settings.guard_px) for scene in scenes]
    share = settings.teacher_share[1]
    network = trained(card, scenes, shares(settings), settings, out, initial, tiles, share)
    parts = measure(network, scenes, card)
    quality |= parts if len(parts) > 1 else next(iter(parts.values()), {})
    if parts:
        matrix = confusion(held_out_pairs(network, scenes, card), card).metrics()
        with replacing(out / "evaluation.json") as part:
            part.write_text(json.dumps(matrix, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if parts and start and {item.name for item in card.classes} <= {item.name for item in start.card.classes}:
        before = build_network(card).eval()
        start_from(start, before, card)
        quality["before_fine_tuning"] = metrics(held_out_pairs(before, scenes, card), card)
    reported = {"quality": quality, "training_data": provenance(settings, start)}
    card = card.model_copy(update=reported | {"limitations": settings.limitations})
    return save_bundle(out / "bundle", card, rounded(network))


def read_scenes(
    settings: SegmenterTraining, sources: Sequence[OpenSource], card: Card, teacher: Teacher | None = None
) -> list[LabelledScene]:
    """Return the scenes of all sources and the simulated ones; labels in held-out blocks still count.

    Raises
    ------
    BundleError
        If a scene lacks a band of the card.
    LabelsError
        As `OpenSource.read`.
    """
    scenes: list[LabelledScene] = []
    for one in sources:
        card.check_scene(tuple(one.scene.bands), abs(one.scene.grid.resolution.x), one.scene.id)
        scenes += one.read(card, settings, teacher)
    for seeds, held_out in ((settings.simulated_held_out, True), (settings.simulated, False)):
        scenes += [simulated_scene(settings.simulated_px, seed, card, held_out) for seed in seeds]
    return scenes


def opened_teacher(settings: SegmenterTraining) -> Teacher | None:
    """Return the teacher of the settings, ready to label; None without one.

    Raises
    ------
    TrainingError
        As `check_teacher`.
    BundleError
        If its model can't be used.
    """
    if settings.teacher is None:
        return None
    check_teacher(settings, settings.teacher)
    return Teacher(located(settings.teacher), settings.threads or os.cpu_count() or 1)


def check_teacher(settings: SegmenterTraining, teacher: TeacherSettings) -> None:
    """Raise TrainingError if classes or bands of the settings are not those of their teacher.

    Tiles need B02 first, for the haze, and B04 and B08, for the season.
    """
    absent = [name for source in settings.labelled for name in source.absent]
    unknown = [name for name in (*(settings.classes or ()), *absent) if name not in teacher.classes]
    if unknown:
        raise TrainingError(
            f"The teacher {teacher.title} does not know the class {', '.join(dict.fromkeys(unknown))}. "
            f"It knows: {', '.join(teacher.classes)}."
        )
    missing = [band for band in (*teacher.bands, "B04", "B08") if band not in settings.bands]
    if missing or settings.bands[0] != "B02":
        needs = f"band {', '.join(dict.fromkeys(missing))}" if missing else "B02 as the first band"
        raise TrainingError(
            f"Learning from the teacher {teacher.title} needs {needs}. "
            f"The network's bands are: {', '.join(settings.bands)}."
        )
    undrawn = [band for band in settings.bands if {"B8A": "B08"}.get(band, band) not in teacher.bands]
    if teacher.painter and undrawn:
        raise TrainingError(
            f"The painter of {teacher.title} does not draw band {', '.join(undrawn)}. It draws: "
            f"{', '.join(teacher.bands)}. Set painter: null, or train without the band."
        )


def check_sides(settings: SegmenterTraining, card: Card) -> None:
    """Raise TrainingError if the side of crops or tiles is no multiple of the stride, or a batch is odd."""
    if settings.consistency and settings.batch % 2:
        raise TrainingError(f"batch is {settings.batch}; with consistency above 0 it must be even.")
    sides = {"crop_px": settings.crop_px} | ({"tiles.px": settings.tiles.px} if settings.teacher else {})
    for name, side in sides.items():
        if side % card.stride:
            raise TrainingError(
                f"{name} is {side}; with this network it must be a multiple of {card.stride}, its stride."
            )


def check_classes(settings: SegmenterTraining, card: Card) -> None:
    """Raise TrainingError if the settings weight a class that the network does not have."""
    known = [item.name for item in card.classes]
    weighted = {f"trust of {source.title}": source.trust for source in settings.labelled}
    for name, factors in {"emphasis": settings.emphasis, **weighted}.items():
        unknown = [item for item in factors if item not in known]
        if unknown:
            raise TrainingError(
                f"{name} names the class {', '.join(unknown)}, which the network does not have. It has: "
                f"{', '.join(known)}."
            )


def teacher_tiles(
    settings: SegmenterTraining, scenes: Sequence[LabelledScene], card: Card, out: Path
) -> TeacherTiles | None:
    """Return the tiles that the teacher labels; None without a teacher, or scenes for it."""
    places = places_of(scenes)
    if settings.teacher is None or not places:
        return None
    log.info("the teacher labels %d tiles of %d scenes", settings.tiles.count, len(places))
    folder = settings.tiles.folder or out
    return TeacherTiles(
        places,
        card,
        settings.teacher,
        settings.tiles,
        settings.seed,
        folder,
        settings.band_dropout,
        in_pairs=settings.consistency > 0,
    )


def shares(settings: SegmenterTraining, stage: int = 1) -> dict[str, float]:
    """Return the share of the crops of each kind of scene, in the first stage (0) or the last one (1)."""
    kinds = {source.title: source.share for source in settings.labelled}
    return {kind: pair[stage] for kind, pair in (kinds | {SIMULATED: settings.simulated_share}).items()}


def first_stage(
    card: Card,
    scenes: Sequence[LabelledScene],
    settings: SegmenterTraining,
    out: Path,
    start: Bundle | None,
    tiles: TeacherTiles | None,
) -> Bundle:
    """Train without land use; return the bundle to continue with."""
    log.info("first stage: without land use")
    changes = {
        "steps": settings.first_steps,
        "learning_rate": settings.first_learning_rate,
        "emphasis": {},
    }
    settings = settings.model_copy(update=changes)
    apart = [without_land_use(scene, settings.guard_px) for scene in scenes]
    share = settings.teacher_share[0]
    network = trained(card, apart, shares(settings, 0), settings, out, start, tiles, share)
    return save_bundle(out / "bundle", card, rounded(network))


def first_card(settings: SegmenterTraining, start: Bundle | None, sources: Sequence[OpenSource]) -> Card:
    """Return the card of the network before it is trained: a blank one, or for a fine-tuning the bundle's.

    Raises
    ------
    LabelsError
        If the labels of a fine-tuning hold fewer than two classes.
    TrainingError
        If a band has no normalisation.
    """
    if start is None or not isinstance(settings, FineTuning):
        return blank_card(settings)
    names = class_names([one.labels for one in sources if one.labels], settings.classes)
    changes: dict[str, Any] = {"id": settings.id, "version": settings.version, "weights_sha256": ""}
    changes |= {"classes": legend(names, start.card.classes), "quality": {}}
    return start.card.model_copy(update=changes)


def blank_card(settings: SegmenterTraining) -> Card:
    """Return the card of a network that is not trained yet; its halo and stride follow from the network."""
    unknown = [band for band in settings.bands if band not in NORMALISATION]
    if unknown:
        raise TrainingError(f"No normalisation for {', '.join(unknown)}. Known: {', '.join(NORMALISATION)}.")
    family = find_family("segmentation", settings.architecture)
    arguments = {**family.arguments, **settings.arguments}
    normalisation = [NORMALISATION[band] for band in settings.bands]
    card = Card(
        id=settings.id,
        version=settings.version,
        task="segmentation",
        architecture=settings.architecture,
        arguments=arguments,
        bands=settings.bands,
        optional_bands=tuple(band for band in settings.optional_bands if band in settings.bands),
        mean=tuple(mean for mean, _ in normalisation),
        std=tuple(std for _, std in normalisation),
        classes=legend(tuple(settings.classes or ()), DYNAMIC_WORLD),
        halo=0,
        stride=1,
    )
    if any(isinstance(layer, Compression) for layer in build_network(card).modules()):
        plain = (0.0,) * len(card.bands), (1.0,) * len(card.bands)  # its own transfer takes reflectance
        card = card.model_copy(update=dict(zip(("mean", "std"), plain, strict=True)))
    return with_halo(card)


def pretrained_start(card: Card, settings: SegmenterTraining, out: Path) -> Bundle | None:
    """Return a bundle whose encoder has Sentinel-2 weights, if the settings ask for it and it can be had."""
    network = build_network(card)
    weights, source = settings.pretrained_weights, settings.pretrained_source
    if not start_encoder(network, card, settings.pretrained, weights, source):
        return None
    return save_bundle(out / "pretrained", card, rounded(network))


def cross_validate(
    card: Card,
    scenes: Sequence[LabelledScene],
    settings: SegmenterTraining,
    out: Path,
    start: Bundle | None = None,
    tiles: TeacherTiles | None = None,
) -> dict[str, Any]:
    """Return the accuracy on land use of networks that never saw the block in question, nor its surroundings.

    Each fold's network starts from `start`, which must not have seen any of the land use.
    """
    results: dict[tuple[str, str], list[tuple[LabelledScene, Pair]]] = {}
    for fold in range(settings.folds):
        log.info("cross-validation: fold %d of %d", fold + 1, settings.folds)
        parts = [fold_of(scene, fold, settings) for scene in scenes]
        share, folder = settings.teacher_share[1], out / f"fold-{fold + 1}"
        network = trained(card, parts, shares(settings), settings, folder, start, tiles, share)
        for part in parts:
            if part.land_use is not None:
                truth = land_use_where(part, part.held_out_mask & part.valid)
                for key, without in (("", ()), ("without_optional_bands", card.optional_bands)):
                    found = segment(network, part, card, without=without)
                    results.setdefault((part.name, key), []).append((part, (truth, found)))
    quality: dict[str, Any] = {
        "folds": settings.folds,
        "block_px": settings.fold_block_px,
        "guard_px": settings.guard_px,
    }
    for (name, key), pairs in results.items():
        found_metrics = land_use_metrics(pairs, card)
        quality.setdefault(name, {}).update({key: found_metrics} if key else found_metrics)
    return quality


def fold_of(scene: LabelledScene, fold: int, settings: SegmenterTraining) -> LabelledScene:
    """Return the scene for a fold of the cross-validation: where there is land use, its blocks held out."""
    if scene.land_use is not None:
        blocks = fold_blocks(scene.shape, settings.fold_block_px, fold, settings.folds)
        scene = replace(scene, held_out=blocks)
    return masked(scene, settings.guard_px)


def provenance(settings: SegmenterTraining, start: Bundle | None) -> tuple[dict[str, Any], ...]:
    """Return what was trained on, for the card."""
    entries: list[dict[str, Any]] = []
    for source in settings.labelled:
        blocks = [list(block) for block in source.held_out or ()]
        entries.append(source.provenance | ({"held_out_blocks": blocks} if blocks else {}))
    if settings.simulated or settings.simulated_held_out:
        seeds = {"seeds": list(settings.simulated), "held_out_seeds": list(settings.simulated_held_out)}
        entries.append({"name": SIMULATED, "licence": "Apache-2.0", **seeds})
    if settings.teacher:
        entries.append(
            {"name": settings.teacher.title, "licence": settings.teacher.licence, "use": "teacher"}
        )
    if start:
        entries.append({"name": "started from", "model": f"{start.card.id}-{start.card.version}"})
    return tuple(entries)
