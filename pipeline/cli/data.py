"""The commands `data ...`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import console, note, say, say_page, say_path
from pipeline.errors import OpenDataError

if TYPE_CHECKING:
    from pipeline.open_data.catalogue import DataFile
    from pipeline.open_data.fetch import Report

commands = typer.Typer(help="List and fetch the open data that recipes name.", no_args_is_help=True)

Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        envvar="TRUCKSCAPE_DATA",
        help="Folder of the data; trainings find it by the variable. Default: truckscape/data in your cache.",
    ),
]
Mirror = Annotated[
    str | None,
    typer.Option(
        "--mirror",
        envvar="TRUCKSCAPE_DATA_MIRROR",
        help="Folder or URL that has the files at the paths of the catalogue, and is asked first, such as "
        "../mirror, file:///srv/data or https://host/data.",
    ),
]


@commands.command("list")
def data_list(cache: Cache = None) -> None:
    """List all datasets: what they are, level, size, licence, and how many of their files are fetched.

    Example: `truckscape data list`
    """
    from rich.table import Table

    from pipeline.open_data.catalogue import catalogue
    from pipeline.open_data.resolve import cache_folder, missing_files

    folder = cache or cache_folder()
    table = Table("name", "what", "level", "MB", "licence", "fetched", box=None, header_style="bold")
    for name, dataset in catalogue().datasets.items():
        count, missing = len(dataset.files), len(missing_files(dataset, dataset.files, folder))
        fetched = "yes" if not missing else "no" if missing == count else f"{count - missing} of {count}"
        size = f"{dataset.bytes / 1e6:.1f}"
        table.add_row(name, dataset.about, dataset.level, size, dataset.licence, fetched)
    say_page(table)
    say("")
    say_path("cache", folder)


@commands.command("fetch")
def data_fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Datasets, or NAME/FILE for one file. See `data list`."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all datasets.")] = False,
    recipe: Annotated[
        list[Path] | None,
        typer.Option("--recipe", help="Fetch what the settings in this file name; may be repeated."),
    ] = None,
    cache: Cache = None,
    mirror: Mirror = None,
) -> None:
    """Fetch datasets into the cache, checked by SHA-256. A repeated command fetches only what is missing.

    A dataset that can't be fetched does not keep the others from it.

    Of a training: `truckscape data fetch --recipe configs/train-segmenter.yaml`

    From a folder: `truckscape data fetch --all --mirror ../mirror`
    """
    from pipeline.open_data.catalogue import catalogue
    from pipeline.open_data.fetch import bytes_to_download, fetch
    from pipeline.open_data.resolve import cache_folder, missing_files, names_in_recipe, split

    known, folder = catalogue(), cache or cache_folder()
    wanted = [*(names or ()), *(known.datasets if everything else ())]
    for file in recipe or ():
        wanted += names_in_recipe(file)
    if not wanted and not recipe:
        raise typer.BadParameter("Name datasets, or give --recipe FILE or --all. See: truckscape data list")
    chosen: dict[str, dict[str, DataFile]] = {}
    errors: list[OpenDataError] = []
    for name, path in map(split, wanted):
        chosen.setdefault(name, {}).update({file.path: file for file in known.select(name, path)})
    for name, files in chosen.items():
        missing = missing_files(known.dataset(name), files.values(), folder)
        size = bytes_to_download(known, missing, mirror)
        to_do = f"{size / 1e6:.1f} MB to fetch ({known.dataset(name).licence})"
        note(f"{name}: {to_do if missing else 'complete'}")
        if missing:
            try:
                with _progress(size) as report:
                    fetch(known, name, missing, folder, mirror, report)
            except OpenDataError as error:
                errors.append(error)
    say_path("cache", folder)
    if folder != cache_folder():
        note(f"Trainings find it with TRUCKSCAPE_DATA={folder.resolve()} in their environment.")
    for earlier in errors[:-1]:
        note(f"error: {earlier}")
    if errors:
        raise errors[-1]


@contextmanager
def _progress(size: int) -> Iterator[Report]:
    """Show the bytes of a dataset: a bar on a terminal, a line for each file elsewhere."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    output = console(stderr=True, soft_wrap=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=output,
        transient=True,
        disable=not output.is_terminal,
    ) as bar:
        line = bar.add_task("", total=size)
        came: dict[str, int] = {}

        def report(file: str, bytes_so_far: int, bytes_of_file: int) -> None:
            came[file] = bytes_so_far
            bar.update(line, description=file, completed=sum(came.values()))
            if not output.is_terminal and bytes_so_far == bytes_of_file:
                output.print(f"{file}: {bytes_of_file / 1e6:.1f} MB")

        yield report
