"""The commands `evaluate ...` and `sample`: scores against labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.console import print_scores, say_page, say_path
from pipeline.cli.options import Out, Roads, finite
from pipeline.fields import MOST_SEED

commands = typer.Typer(help="Score predictions against labels.", no_args_is_help=True)
beside = typer.Typer()
"""Commands of this subject that are at the top level."""


@beside.command()
def sample(
    landcover: Annotated[Path, typer.Argument(help="Folder of a scene's run, or a raster of classes.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="GeoPackage for the points; GeoJSON and design go beside it."),
    ],
    size: Annotated[
        int | None,
        typer.Option(
            min=2, max=1_000_000, help="Number of points. Default: as many as --standard-error needs."
        ),
    ] = None,
    standard_error: Annotated[
        float,
        typer.Option(
            min=1e-4, max=0.5, callback=finite, help="Standard error of the overall accuracy to reach."
        ),
    ] = 0.01,
    allocation: Annotated[
        Literal["mixed", "proportional", "equal"],
        typer.Option(help="Allocation of points to classes: by area, equal, or by area with --at-least."),
    ] = "mixed",
    at_least: Annotated[
        int, typer.Option(min=2, max=1_000_000, help="Fewest points of a class, if mixed.")
    ] = 50,
    expected: Annotated[
        list[str] | None,
        typer.Option(
            help="Expected user's accuracy of a class, e.g. built=0.9 (default 0.8); may be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the sample.")] = 0,
) -> None:
    """Draw random points in each class of a land-cover map, for people to interpret.

    The points do not show the mapped class. Fill in their field `reference` (QGIS offers the classes), then
    `truckscape evaluate areas points.gpkg --out areas`.

    Example: `truckscape sample layers/SCENE --out points.gpkg --size 500`
    """
    from pipeline.report.areas import draw_points, strata_table

    drawn, paths = draw_points(
        landcover, out, size, standard_error, allocation, at_least, expected or (), seed
    )
    say_page(strata_table(drawn))
    for what, path in paths.items():
        say_path(f"{what:8}", path)


@commands.command("trucks")
def evaluate_trucks(
    predicted: Annotated[
        Path,
        typer.Argument(help="Predicted trucks: folder of a scene's run, or any boxes (FILE or FILE:LAYER)."),
    ],
    reference: Annotated[Path, typer.Argument(help="Reference truck boxes (FILE or FILE:LAYER).")],
    out: Out,
    roads: Roads = None,
    scene: Annotated[str | None, typer.Option(help="Scene for pictures in the report, as for `run`.")] = None,
) -> None:
    """Score trucks: precision, recall and F1 by centre distance, average precision, every mistake on a map.

    Exit status 1 if nothing was measured, as with labels of another place.

    Example: `truckscape evaluate trucks layers/SCENE labels.gpkg --out scores`
    """
    from pipeline.evaluation.evaluate import check_measured, evaluate_truck_file, file_of_run
    from pipeline.report.evaluation import file_context, write_evaluation
    from pipeline.report.truck_table import truck_tables
    from pipeline.scenes.open import open_scene

    opened = open_scene(scene) if scene else None
    predicted = file_of_run(predicted, "trucks.gpkg", "trucks.geojson")
    evaluation = evaluate_truck_file(predicted, reference, roads, opened)
    write_evaluation(out, evaluation, file_context(evaluation, predicted, reference, opened))
    say_page(truck_tables(evaluation.metrics))
    say_path("report", out / "report.html")
    check_measured(evaluation.metrics)


@commands.command("landcover")
def evaluate_landcover(
    predicted: Annotated[
        Path, typer.Argument(help="Predicted land cover: folder of a scene's run, or any raster of classes.")
    ],
    reference: Annotated[
        Path, typer.Argument(help="Reference land cover: a raster, polygons or points (FILE or FILE:LAYER).")
    ],
    out: Out,
    scene: Annotated[str | None, typer.Option(help="Scene for pictures in the report, as for `run`.")] = None,
) -> None:
    """Score land cover: accuracy, IoU and F1 of each class, confusion matrix, every disagreement on a map.

    Exit status 1 if nothing was measured, as with labels of another place.

    Example: `truckscape evaluate landcover layers/SCENE labels.tif --out scores`
    """
    from pipeline.evaluation.evaluate import check_measured, evaluate, file_of_run
    from pipeline.report.evaluation import file_context, write_evaluation
    from pipeline.scenes.open import open_scene

    opened = open_scene(scene) if scene else None
    predicted = file_of_run(predicted, "landcover.tif")
    evaluation = evaluate(landcover=predicted, landcover_labels=reference, scene=opened)
    write_evaluation(out, evaluation, file_context(evaluation, predicted, reference, opened))
    print_scores(evaluation.metrics["landcover"], out)
    check_measured(evaluation.metrics)


@commands.command("compare")
def evaluate_compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Run or evaluation before the change.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Run or evaluation after it.")],
    out: Out,
) -> None:
    """Compare two runs or evaluations case by case: fixed, broken, still wrong, significance.

    Both are folders: of a run with labels, of an evaluation, or of several scenes of either.

    Example: `truckscape evaluate compare layers/now/SCENE layers/new/SCENE --out compared`
    """
    from pipeline.evaluation.compare import compare_runs
    from pipeline.report.run_comparison import PAGE, run_comparison_table, write_run_comparison

    comparison = compare_runs(before, after)
    write_run_comparison(out, comparison)
    say_page(run_comparison_table(comparison.record))
    say_path("report", out / PAGE)


@commands.command("areas")
def evaluate_areas(
    points: Annotated[
        Path, typer.Argument(help="Points of `truckscape sample`, with the reference filled in.")
    ],
    out: Out,
    design: Annotated[
        Path | None,
        typer.Option(help="Design of the sample. Default: .design.json beside the points."),
    ] = None,
) -> None:
    """Estimate areas of classes and the accuracy of a map, with 95 % intervals, from interpreted points.

    The estimates are corrected for the map's errors, after Olofsson et al. (2014).

    Example: `truckscape evaluate areas points.gpkg --out areas`
    """
    from pipeline.report.areas import FIGURE, areas_table, evaluate_areas_files

    say_page(areas_table(evaluate_areas_files(points, out, design)))
    say_path("figure", out / FIGURE)


@commands.command("rates")
def evaluate_rates(
    table: Annotated[
        Path, typer.Argument(help="Folder of a batch, its traffic.parquet, or a table (CSV, Parquet).")
    ],
    out: Out,
    between: Annotated[
        str | None,
        typer.Option(
            help="First set of dates: 2023-06-01..2023-06-30, 2023-06, Mon-Fri, or with a comma the weekdays "
            "of a period."
        ),
    ] = None,
    and_: Annotated[str | None, typer.Option("--and", help="Second set of dates.")] = None,
    timezone: Annotated[
        str, typer.Option(help="Time zone of the dates and weekdays, e.g. Europe/Berlin.")
    ] = "UTC",
) -> None:
    """Test roads for changes between two sets of dates, or without them for trends: chance or not?

    Ratio of the rates of trucks, or change in a year, with 95 % interval and p-value, which is also corrected
    for the number of roads.

    Example: `truckscape evaluate rates layers --between Mon-Fri --and Sat,Sun --out weekend`
    """
    from pipeline.report.rates import rates_table, write_rates
    from pipeline.traffic.counted import read_counted, zone_of
    from pipeline.traffic.days import Days
    from pipeline.traffic.rates import compare, trends

    if (between is None) != (and_ is None):
        raise typer.BadParameter("--between and --and belong together.")
    counted = read_counted(table, zone_of(timezone))
    if between is None or and_ is None:
        rates, path = trends(counted), out / "trends.csv"
    else:
        rates, path = compare(counted, Days.parse(between), Days.parse(and_)), out / "rates.csv"
    write_rates(rates, path)
    say_page(rates_table(rates))
    say_path("table", path)
