"""The commands `labels ...`: boxes to labelling tools, and corrected labels back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import note, say, say_path
from pipeline.cli.options import Bands, band_list

commands = typer.Typer(help="Exchange truck boxes with labelling tools.", no_args_is_help=True)


@commands.command("export")
def labels_export(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or of batches.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for images and labels.")],
    form: Annotated[str, typer.Option("--format", help="Format: coco, yolo, label-studio or cvat.")] = "coco",
    cases: Annotated[
        bool, typer.Option("--cases", help="Confusion cases of the evaluation instead of detected trucks.")
    ] = False,
    image_px: Annotated[
        int, typer.Option(min=16, max=4096, help="Side of an image, in pixels of the scene.")
    ] = 256,
    margin_px: Annotated[
        int, typer.Option(min=0, max=512, help="Strip at each edge of an image that its neighbour has, too.")
    ] = 16,
    zoom: Annotated[
        int, typer.Option(min=1, max=16, help="Pixels of an image for each pixel of the scene.")
    ] = 1,
    all_images: Annotated[
        bool, typer.Option("--all-images", help="Also write images without a box.")
    ] = False,
    scene: Annotated[
        str | None, typer.Option(help="The scene of the run, if it is no longer at its address.")
    ] = None,
    bands: Bands = None,
) -> None:
    """Write true-colour images and the boxes on them, for people to correct or for trainings of others.

    `images.json` has the place of each image; `truckscape labels import` needs it.

    Example: `truckscape labels export layers/SCENE --format label-studio --zoom 4 --out to-label`
    """
    from pipeline.labelling.export import Cut, export_labels
    from pipeline.labelling.label_formats import format_named

    file = format_named(form).file
    try:
        cut = Cut(image_px, margin_px, zoom, all_images)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    done = export_labels(runs, out, form, cut, cases=cases, source=scene, bands=band_list(bands), say=note)
    for line in done.lines():
        say(line)
    say_path("labels", out / file)


@commands.command("import")
def labels_import(
    labels: Annotated[Path, typer.Argument(help="File of corrected labels, or the folder of an export.")],
    out: Annotated[Path, typer.Option("--out", help="GeoPackage for the boxes.")],
    images: Annotated[
        Path | None, typer.Option(help="File images.json of the export. Default: beside the labels.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Format: coco, yolo, label-studio or cvat. Default: by the file."),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(help="Meaning of another class, e.g. lorry=truck; may be repeated."),
    ] = None,
) -> None:
    """Place corrected labels on the map: a file for `--truck-labels` and `train detector --labels`.

    Its layer `labelled_area` is the ground that the labelled images show, for `train detector --complete`.

    Example: `truckscape labels import project-1.json --images to-label/images.json --out boxes.gpkg`
    """
    from pipeline.labelling.imports import import_labels, write_labels
    from pipeline.storage.atomic import make_folder

    pairs = dict[str, str]()
    for each in category or ():
        name, sign, meaning = each.partition("=")
        if not (name and sign and meaning):
            raise typer.BadParameter(f"--category {each!r} is not NAME=CATEGORY, e.g. lorry=truck.")
        pairs[name.strip()] = meaning.strip()
    if out.suffix.lower() != ".gpkg":
        raise typer.BadParameter(f"--out {out} is no GeoPackage; give a name that ends in .gpkg.")
    imported = import_labels(labels, images, form, pairs)
    make_folder(out.parent)
    write_labels(out, imported)
    for line in imported.lines():
        say(line)
    say_path("labels", out)
