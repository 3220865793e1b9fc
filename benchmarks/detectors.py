"""Train each family of detectors on the same chips, and compare them: `python -m benchmarks.detectors`.

Each gets the recipe of the shipped detector, with other steps. Chips are drawn once for all. Everything is
kept in `--work`, and the same command resumes there. Weights stay there; figures and pictures go to docs/.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import Dataset

from benchmarks.measure import ROOT
from benchmarks.products import KEPT, product_in, say
from benchmarks.results import save, table
from pipeline.config import Engine
from pipeline.evaluation.trucks.cases import truck_cases
from pipeline.models.bundle import Bundle, open_bundle, save_bundle
from pipeline.models.registry import FAMILIES
from pipeline.report.chips import case_chips
from pipeline.report.model_comparison import Compared, Proposals, comparison_figure, without_nan
from pipeline.scenes.open import open_scene
from pipeline.settings import load_settings
from pipeline.simulation.simulate import simulate
from pipeline.storage.atomic import make_folder, replacing
from pipeline.training.detector.chips import Chips, collate, grounds_and_traffic
from pipeline.training.detector.settings import DetectorTraining
from pipeline.training.detector.train import DetectorModule, first_card
from pipeline.training.fit import fit, prepare, training_loader
from pipeline.validation.compare_models import as_line, milliseconds_per_megapixel
from pipeline.validation.detector_card import Mode, Observations
from pipeline.validation.observe import Observed, Place, observe_place, pool
from pipeline.validation.proposals import measure_proposals

RECIPE = ROOT / "configs" / "train-detector.yaml"
PAGE = ROOT / "docs" / "detectors.md"
BEGIN, END = "<!-- figures: python -m benchmarks.detectors -->", "<!-- end of figures -->"
FITTING, HELD_OUT = (2001, 2002), (42, 123, 900)
"""Seeds of the scenes to fit calibrations and thresholds on, and of those for the figures."""
SIDE_PX = 768
PART = 400
"""Chips of a file."""
SHOWN = 6
"""Chips of a row of a picture."""
MODES = {"near roads": True, "without roads": False}
ENGINE = Engine(threads=1)


class KeptChips(Dataset[Any]):
    """Chips of another data set: drawn when they are first asked for, then read from files of `PART`."""

    def __init__(self, draw: Callable[[], Dataset[Any]], folder: Path) -> None:
        self.draw, self.folder = draw, folder
        self.part: tuple[int, list[Any]] = (-1, [])

    def __getitem__(self, index: int) -> Any:
        number, place = divmod(index, PART)
        if self.part[0] != number:
            self.part = number, self._read(number)
        return self.part[1][place]

    def _read(self, number: int) -> list[Any]:
        file = self.folder / f"{number:04d}.pt"
        if not file.is_file():
            drawn = self.draw()
            with replacing(file) as part:
                torch.save([drawn[number * PART + place] for place in range(PART)], part)
        chips: list[Any] = torch.load(file, weights_only=True)
        return chips


@dataclass(frozen=True)
class Judged:
    """Detector on the held-out scenes."""

    name: str
    steps: int
    line: Compared
    f1: dict[str, dict[str, float]]
    """Of `heavy` and `moving` vehicles, near roads and without, at the threshold that suits each best."""
    ap: dict[str, dict[str, float]]
    mistakes: dict[str, int]
    """False positives and negatives of heavy vehicles near roads, and those on light vehicles."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge and draw what is not done yet, and write the page's figures."""
    names = [family.name for family in FAMILIES if family.task == "detection"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--work", type=Path, default=KEPT / "detectors")
    parser.add_argument("--families", nargs="+", choices=names, default=names)
    parser.add_argument("--train-only", action="store_true")
    given = parser.parse_args(arguments)
    recipe = load_settings(DetectorTraining, RECIPE)
    bundles = {name: (given.steps, trained(name, given.steps, given.work)) for name in given.families}
    if given.train_only:
        return
    shipped = open_bundle("trucks")
    if shipped.card.architecture == recipe.architecture:
        bundles[f"{recipe.architecture}, shipped"] = recipe.steps, shipped
    scenes = {seed: scene_of(seed, given.work) for seed in (*FITTING, *HELD_OUT)}
    found = [judged(name, *bundle, scenes, given.work) for name, bundle in bundles.items()]
    if given.families == names:
        write(found, given.work)


def trained(name: str, steps: int, work: Path) -> Bundle:
    """Train a family on the kept chips, with a short warm-up; return its bundle."""
    out = work / f"{name}-{steps}"
    if (out / "bundle" / "card.yaml").is_file():
        return open_bundle(str(out / "bundle"))
    say(f"training {name}, {steps} steps")
    settings = load_settings(
        DetectorTraining,
        RECIPE,
        [f"architecture={name}", f"steps={steps}", f"warmup={max(1, steps // 10)}", "average=0.99"],
    )
    card = first_card(settings, out)

    @cache
    def draw() -> Chips:
        return Chips(card, *grounds_and_traffic(settings), settings.chip_px, settings.seed)

    make_folder(work / "chips")
    prepare(settings)
    module = DetectorModule(card, settings)
    chips = KeptChips(draw, work / "chips")
    fit(module, training_loader(chips, settings, collate), None, settings, out, autocast=False)
    return save_bundle(out / "bundle", card, module.detector.state_dict())


def scene_of(seed: int, work: Path) -> Place:
    """Return a simulated scene with its labels and roads; simulate it if missing."""
    folder = work / f"scene-{seed}"
    if not (folder / "truth").is_dir():
        say(f"simulating scene {seed}")
        simulate(folder, SIDE_PX, seed)
    scene = product_in(folder)
    return Place(name=f"seed_{seed}", scene=str(scene.safe), labels=scene.trucks, roads=scene.roads)


def judged(name: str, steps: int, bundle: Bundle, scenes: dict[int, Place], work: Path) -> Judged:
    """Measure a detector, and draw where it fails; both are kept."""
    file = work / f"{bundle.card.weights_sha256[:12]}.json"
    if not file.is_file():
        say(f"measuring {name}")
        with TemporaryDirectory() as scratch:
            observed = {
                seed: observe_place(bundle, place, Path(scratch), ENGINE) for seed, place in scenes.items()
            }
        found = figures_of(name, steps, bundle, scenes, observed, file.with_suffix(".png"))
        with replacing(file) as part:
            part.write_text(json.dumps(without_nan(asdict(found)), indent=1), encoding="utf-8")
    shutil.copyfile(file.with_suffix(".png"), picture_of(name))
    stored = json.loads(file.read_text(encoding="utf-8"))
    proposals = stored["line"].pop("proposals")
    line = Compared(**stored.pop("line"), proposals=Proposals(**proposals) if proposals else None)
    return Judged(line=line, **stored)


def figures_of(
    name: str,
    steps: int,
    bundle: Bundle,
    scenes: dict[int, Place],
    observed: dict[int, Observed],
    picture: Path,
) -> Judged:
    """Return the figures of a detector, and draw its mistakes near roads to `picture`."""
    fitting, held_out = ([observed[seed] for seed in seeds] for seeds in (FITTING, HELD_OUT))
    places = [scenes[seed] for seed in HELD_OUT]
    heavy = Observations(tuple(fitting), tuple(held_out), (), ())
    kinds = {"heavy": heavy, "moving": heavy.of_vehicles()}
    modes = {
        kind: {where: Mode.fit(one, roads, 1.0) for where, roads in MODES.items()}
        for kind, one in kinds.items()
    }
    pooled = {
        kind: {where: pool("held out", mode.observations.held_out) for where, mode in each.items()}
        for kind, each in modes.items()
    }
    near = modes["heavy"]["near roads"]
    best = pooled["heavy"]["near roads"].evaluate(True, near.threshold)
    proposals = measure_proposals(bundle, places, held_out, ENGINE)
    milliseconds = milliseconds_per_megapixel(bundle, places[0], ENGINE)
    ap = {
        kind: {where: mode.curve(pooled[kind][where]).average_precision for where, mode in each.items()}
        for kind, each in modes.items()
    }
    primary = best.primary
    scores = {
        "AP": ap["heavy"]["near roads"],
        "precision": primary.precision,
        "recall": primary.recall,
        "F1": primary.f1,
    }
    draw_mistakes(picture, near, places)
    return Judged(
        name=name,
        steps=steps,
        line=as_line(bundle, name, milliseconds, scores, proposals),
        f1={
            kind: {
                where: pooled[kind][where].evaluate(mode.near_roads, mode.threshold).primary.f1
                for where, mode in each.items()
            }
            for kind, each in modes.items()
        },
        ap=ap,
        mistakes={
            "trucks": primary.true_positives + primary.false_negatives,
            "false positives": primary.false_positives,
            "on light vehicles": int(best.on_light.sum()),
            "false negatives": primary.false_negatives,
        },
    )


def picture_of(name: str) -> Path:
    """Return the path of the picture of a detector's mistakes."""
    return PAGE.with_name(f"detectors-{name.replace(', ', '-').replace('_', '-')}.png")


def draw_mistakes(path: Path, mode: Mode, places: Sequence[Place]) -> None:
    """Draw false negatives and the most certain false positives of all scenes, as chips."""
    drawn: dict[str, list[tuple[float, str, bytes]]] = {"FN": [], "FP": []}
    for place, observed in zip(places, mode.observations.held_out, strict=True):
        evaluation = observed.evaluate(mode.near_roads, mode.threshold)
        weak = observed.trucks[observed.trucks["score"] < mode.threshold]
        scene = open_scene(place.scene)
        cases = truck_cases(evaluation, observed.seen, weak, roads=observed.roads, scene=scene)
        mistakes = cases[cases["outcome"].isin(list(drawn))]
        chips = dict(case_chips(scene, mistakes, evaluation.predicted, evaluation.reference))
        for case in mistakes.itertuples():
            if case.id in chips:
                score = case.score if case.outcome == "FP" else case.below_score
                shown = "no box" if isnan(score) else f"score {score:.2f}"
                ranked = (0.0 if isnan(score) else score, f"{case.cause}\n{shown}", chips[case.id])
                drawn[case.outcome].append(ranked)
    figure = Figure(figsize=(2.3 * SHOWN, 3.6), layout="constrained")
    for axes, number in zip(figure.subplots(2, SHOWN).flat, range(2 * SHOWN), strict=True):
        kind, column = ("FN", "FP")[number // SHOWN], number % SHOWN
        # Of the false negatives evenly spread ones, of the false positives those with the highest scores.
        ranked = sorted(drawn[kind], key=lambda one: -one[0])
        step = max(1, len(ranked) // SHOWN) if kind == "FN" else 1
        axes.axis("off")
        if not column:
            what = "false negatives" if kind == "FN" else "false positives"
            axes.set_title(f"{len(ranked)} {what}", loc="left", fontsize=10, fontweight="bold")
        if column * step < len(ranked):
            _, text, chip = ranked[column * step]
            axes.imshow(Image.open(io.BytesIO(chip)), interpolation="nearest")
            axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=8)
    with replacing(path) as part:
        save_picture(figure, part)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of 256 colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    Image.open(buffer).convert("RGB").quantize(256).save(path, format="PNG", optimize=True)


def write(found: Sequence[Judged], work: Path) -> None:
    """Write the tables and pictures of docs/detectors.md, and the section of RESULTS.md."""
    steps = found[0].steps
    note = (
        f"Each family had {steps:,} steps of {load_settings(DetectorTraining, RECIPE).batch} chips of "
        "`configs/train-detector.yaml`, the same ones in the same order. Calibration and thresholds are "
        f"fitted on the simulated scenes {', '.join(map(str, FITTING))}, the figures are of the scenes "
        f"{', '.join(map(str, HELD_OUT))}, of {SIDE_PX} px a side. No detector has seen any of them."
    )
    lines = [
        note,
        "",
        *table([quality_row(one) for one in found]),
        "",
        *table([cost_row(one) for one in found]),
    ]
    with replacing(PAGE.with_name("detectors.png")) as part:
        save_picture(
            comparison_figure([replace(one.line, model=f"{one.steps:,} steps") for one in found]), part
        )
    pictures = [
        text
        for one in found
        for text in (
            "",
            f"### Mistakes of {one.name}",
            "",
            f"![Mistakes of {one.name}]({picture_of(one.name).name})",
        )
    ]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    block = [BEGIN, *lines, "", "![Quality over cost](detectors.png)", *pictures, END]
    with replacing(PAGE) as part:
        part.write_text(before + "\n".join(block) + rest.partition(END)[2], encoding="utf-8")
    save("detectors", "Families of detectors", lines, {one.name: asdict(one) for one in found})


def quality_row(one: Judged) -> dict[str, str]:
    """Return the row of a detector in the table of quality."""
    proposals, mistakes = one.line.proposals, one.mistakes
    return {
        "detector": f"`{one.name}`",
        "steps": f"{one.steps:,}",
        "recall of proposals": f"{proposals.recall:.3f}" if proposals else "",
        "AP": f"{one.ap['heavy']['near roads']:.3f}",
        **{
            f"F1, {kind}, {where}": f"{one.f1[kind][where]:.3f}"
            for kind in ("heavy", "moving")
            for where in MODES
        },
        "false positives": f"{mistakes['false positives']}",
        "of them on light vehicles": f"{mistakes['on light vehicles']}",
        "false negatives": f"{mistakes['false negatives']} of {mistakes['trucks']}",
    }


def cost_row(one: Judged) -> dict[str, str]:
    """Return the row of a detector in the table of costs."""
    line, proposals = one.line, one.line.proposals
    each = proposals.per_mpx * proposals.kilomacs / 1e6 if proposals else 0.0
    return {
        "detector": f"`{one.name}`",
        "kMAC per px, dense": f"{line.kilomacs_px:,.1f}",
        "proposals per Mpx": f"{proposals.per_mpx:,.0f}" if proposals else "",
        "kMAC per proposal": f"{proposals.kilomacs:,.0f}" if proposals else "",
        "kMAC per px, together": f"{line.kilomacs_px + each:,.1f}",
        "ms per Mpx": f"{line.ms_per_mpx:,.0f}",
        "parameters": f"{line.parameters:,}",
        "receptive field, px": str(line.receptive_field),
        "halo, px": str(line.halo),
    }


if __name__ == "__main__":
    main()
