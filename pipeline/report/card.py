"""A model's card as a page for the terminal: what it is, what it learned from, how good it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.models.bundle import Bundle, Calibration, Card

PICTURE = "quality.png"
_BARS = "▁▂▃▄▅▆▇█"


def card_page(bundle: Bundle, side: int = 256) -> RenderableType:
    """Return a bundle's card, section by section, with the layers of its network for `side` pixels.

    Raises
    ------
    BundleError
        If its architecture or an argument of it is unknown.
    """
    card = bundle.card
    sections: list[tuple[str, RenderableType]] = [("What it is", _identity(bundle))]
    if card.task == "detection":
        sections.append(("Scores", _scores(card)))
    if card.task == "segmentation":
        sections.append(("Probabilities", Text(_softmax(card.calibration))))
    sections.append(("Learned from", _listed(card.training_data)))
    picture = bundle.folder / PICTURE
    measured = [*_figures(card.quality)] or [Text("nothing yet")]
    if picture.is_file():
        measured.append(Text(f"picture: {picture}"))
    sections.append(("Measured", Group(*measured)))
    sections.append(("Limits", Group(*(Text(f"- {line}") for line in card.limitations))))
    sections.append(("Anatomy", anatomy_page(card, side)))
    blocks: list[RenderableType] = []
    for title, body in sections:
        blocks += [Text(title, style="bold"), _indented(body, below=1)]
    return Group(*blocks)


def headlines(card: Card) -> list[str]:
    """Return the measured figures that fit in a line each: no curves, no tables."""
    lines = []
    for name, value in card.quality.items():
        if not isinstance(value, Mapping):
            lines.append(f"{_label(name)}: {_plain(value)}")
            continue
        numbers = {key: part for key, part in value.items() if isinstance(part, int | float)}
        if numbers:
            lines.append(f"{_label(name)}: {_plain(numbers)}")
        for key, part in value.items():
            if _is_score(part):
                lines.append(f"{_label(name)}, {_label(key)}: {_score_line(part)}")
    return lines


def anatomy_page(card: Card, side: int = 256) -> RenderableType:
    """Return the layers of a card's network for `side` pixels as a table, and the totals of the network.

    Raises
    ------
    BundleError
        If its architecture or an argument of it is unknown.
    """
    from pipeline.models.halo import card_anatomy, count_parameters, halo_of

    found = card_anatomy(card, side)
    rows = found.to_table()
    table = Table(*rows[0], box=None, header_style="bold")
    for row in rows:
        table.add_row(*row.values())
    least, parameters = halo_of(card, found), count_parameters(card)
    reach = f"halo {card.halo} px" if least is not None else f"sees all: {', '.join(found.unbounded)}"
    if least is not None and card.halo < least:
        reach += f", too small: the network needs {least} px"
    for_boxes = parameters - found.parameters
    more = f", of them {for_boxes:,} for single boxes, not listed" if for_boxes else ""
    work = f"parameters {parameters:,}{more}; work {found.macs / 1e9:.2f} GMAC"
    return Group(table, Text(f"{work}; {reach}; stride {found.stride} px"))


def _identity(bundle: Bundle) -> RenderableType:
    card = bundle.card
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    optional = f"; of these optional: {' '.join(card.optional_bands)}" if card.optional_bands else ""
    size = f"{bundle.weights.stat().st_size / 1e6:.1f} MB, " if bundle.weights.is_file() else ""
    for name, value in (
        ("name", f"{card.id}, version {card.version}"),
        ("task", card.task),
        ("architecture", f"{card.architecture} {_plain(card.arguments)}"),
        ("bands", f"{' '.join(card.bands)} ({card.units}, {card.gsd:g} m){optional}"),
        ("classes", ", ".join(f"{item.value} {item.name}" for item in card.classes)),
        ("halo, stride", f"{card.halo} px, {card.stride} px"),
        ("weights", f"{size}SHA-256 {card.weights_sha256[:12]}..., {card.licence}"),
    ):
        table.add_row(name, value)
    return table


def _scores(card: Card) -> RenderableType:
    lines = [
        f"a detection counts from {card.default_threshold(True):g} on near roads, "
        f"from {card.default_threshold(False):g} where no roads are given"
    ]
    near, everywhere = card.calibration_for(near_roads=True), card.calibration_for(near_roads=False)
    if near == everywhere:
        lines.append(_calibrated(everywhere))
    else:
        lines += [f"near roads, {_calibrated(near)}", f"without roads, {_calibrated(everywhere)}"]
    return Group(*map(Text, lines))


def _calibrated(calibration: Calibration) -> str:
    if calibration == Calibration():
        return "as the network gives them: a score is no probability"
    motion = (
        f", and {calibration.motion:+g} for each standard deviation of motion" if calibration.motion else ""
    )
    shadow = f", and {calibration.shadow:+g} for long shadows" if calibration.shadow else ""
    return (
        f"calibrated: log-odds of the network / {calibration.temperature:g} {calibration.offset:+g}"
        f"{motion}{shadow}; 0.8 means 80 %"
    )


def _softmax(calibration: Calibration) -> str:
    if calibration == Calibration():
        return "softmax of the network's scores, not calibrated"
    return f"softmax of the network's scores / {calibration.temperature:g}; 0.8 means 80 %"


def _listed(sources: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Render an entry for each source: name and facts; long lists of numbers are only counted."""
    lines: list[Text] = []
    for source in sources:
        entries = iter(source.items())
        lines.append(Text(f"- {next(entries, ('', ''))[1]}"))
        lines += [Text(f"    {_label(name)}: {_plain(value)}") for name, value in entries]
    return Group(*(lines or [Text("not stated")]))


def _figures(quality: Mapping[str, Any]) -> Iterator[RenderableType]:
    for name, value in quality.items():
        label = _label(name)
        if not isinstance(value, Mapping):
            yield Text(f"{label}: {_plain(value)}")
        elif {"columns", "rows"} <= value.keys():
            yield Text(f"{label}:")
            named = any(isinstance(row[0], str) for row in value["rows"])
            yield _indented((_named if named else _series)(value["columns"], value["rows"]))
        elif _is_score(value):
            yield Text(f"{label}: {_score_line(value)}")
        elif all(_is_flat(part) for part in value.values()):
            yield Text(f"{label}: {_plain(value)}")
        else:
            yield Text(f"{label}:")
            yield _indented(Group(*_figures(value)))


def _is_score(value: Any) -> bool:
    return isinstance(value, Mapping) and {"precision", "recall", "f1"} <= value.keys()


def _score_line(score: Mapping[str, Any]) -> str:
    """F1, precision and recall with their intervals, and the counts behind them."""
    intervals = score.get("interval_95", {})

    def shown(name: str) -> str:
        bounds = [_plain(bound) for bound in intervals.get(name, ()) if bound is not None]
        return f"{name} {_plain(score[name])}" + (f" [{', '.join(bounds)}]" if bounds else "")

    counts = [
        f"{score[key]} {word}"
        for key, word in (("tp", "right"), ("fp", "false"), ("fn", "missed"))
        if key in score
    ]
    return f"{', '.join(shown(name) for name in ('f1', 'precision', 'recall'))}; {', '.join(counts)}"


def _series(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Text:
    """Return a transposed table: a line for each column, with bars behind shares except for the first."""
    width = max((len(_label(name)) for name in columns), default=0)
    lines = []
    for number, (name, values) in enumerate(zip(columns, zip(*rows, strict=True), strict=False)):
        cells = " ".join(f"{_short(value):>4}" for value in values)
        shares = number > 0 and all(value is not None and 0 <= value <= 1 for value in values)
        bars = "".join(_BARS[min(7, int(value * 8))] for value in values) if shares else ""
        lines.append(f"{_label(name):<{width}}  {cells}  {bars}".rstrip())
    return Text("\n".join(lines), no_wrap=True)


def _named(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Return a table whose rows begin with a name."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(_label(name), justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(_short(value) for value in row))
    return table


def _indented(body: RenderableType, below: int = 0) -> RenderableType:
    return Padding(body, (0, 0, below, 2), expand=False)


def _label(name: Any) -> str:
    return str(name).replace("_", " ")


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}".removeprefix("0") if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    """Format a value for people: `a 1, b 2`, no quotes and braces."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{_label(name)} {_plain(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        if len(value) > 8 and not _is_flat(value):
            return f"{len(value)} entries"
        return f"[{', '.join(_plain(part) for part in value)}]"
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def _is_flat(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(not isinstance(part, list | tuple | Mapping) for part in value)
    return not isinstance(value, Mapping)
