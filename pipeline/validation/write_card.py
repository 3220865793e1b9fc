"""A measured card beside the weights, with its picture."""

from __future__ import annotations

import shutil
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.models.bundle import Bundle, Card, save_card
from pipeline.report.card import PICTURE
from pipeline.storage.atomic import make_folder, replacing


def write_card(card: Card, figure: Figure, bundle: Bundle, out: Path | None = None) -> Bundle:
    """Write a card and `PICTURE` into the bundle's folder, or a copy of the bundle with them into `out`.

    Raises
    ------
    OutputError
        If the folder can't be written.
    """
    folder = out or bundle.folder
    if folder.resolve() != bundle.folder.resolve():
        make_folder(folder)
        with replacing(folder / bundle.weights.name) as part:
            shutil.copyfile(bundle.weights, part)
    with replacing(folder / PICTURE) as part:
        figure.savefig(part, format="png", dpi=110)
    return save_card(folder, card)
