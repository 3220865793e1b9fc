"""The command `simulate`: a product with truth."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.console import note, say_path, status
from pipeline.cli.options import Out, finite
from pipeline.fields import MOST_SEED

commands = typer.Typer()


@commands.command()
def simulate(
    out: Out,
    size: Annotated[int, typer.Option(min=64, max=10980, help="Side of the scene, in 10 m pixels.")] = 1024,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of the landscape and its traffic.")
    ] = 0,
    dates: Annotated[
        str | None,
        typer.Option(
            help="Render the same place on each of these dates, with counts of two stations: "
            "2023-06-01,2023-06-06. Dates that are complete in --out are kept. "
            "[default: one date, of the seed]"
        ),
    ] = None,
    heavy_from: Annotated[
        str | None,
        typer.Option(
            help="Plant a change into --dates: DATE:FACTOR multiplies the flow of heavy vehicles from a date "
            "on, as 2023-07-01:0.5."
        ),
    ] = None,
    heavy: Annotated[
        float,
        typer.Option(
            min=0, max=100, callback=finite, help="Factor of the flow of heavy vehicles; 0 for none."
        ),
    ] = 1.0,
    light_per_heavy: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1000,
            callback=finite,
            help="Light vehicles for each heavy one of the counted flow [default: as counted].",
        ),
    ] = None,
) -> None:
    """Write a simulated Sentinel-2 L2A product (.SAFE) with its truth: vehicles, land cover, roads.

    Examples: `truckscape simulate --out demo --size 1024 --seed 7`,
    `truckscape simulate --out place --size 512 --dates 2023-06-01,2023-06-06,2023-06-11`
    """
    from pipeline.simulation.dates import parse_change, parse_dates, simulate_dates
    from pipeline.simulation.simulate import simulate as write_product
    from pipeline.simulation.world.demand import Demand

    if dates is not None:
        change = None if heavy_from is None else parse_change(heavy_from)
        demand = Demand(heavy, light_per_heavy, change)
        products = simulate_dates(out, parse_dates(dates), size, seed, demand, note)
        say_path("simulated scenes", out)
        say_path("truth           ", products[0].roads.parent)
        say_path("counters        ", out / "counters.csv")
        return
    if heavy_from is not None:
        raise typer.BadParameter("--heavy-from needs --dates.")
    with status("simulating"):
        product = write_product(out, size, seed, Demand(heavy, light_per_heavy))
    say_path("simulated scene", product.safe)
    say_path("truth          ", product.trucks.parent)
