"""The command `simulate`: a product with truth."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.console import say_path, status
from pipeline.cli.options import Out, finite
from pipeline.settings import MOST_SEED

commands = typer.Typer()


@commands.command()
def simulate(
    out: Out,
    size: Annotated[int, typer.Option(min=64, max=10980, help="Side of the scene, in 10 m pixels.")] = 1024,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of the landscape and its traffic.")
    ] = 0,
    day: Annotated[
        int, typer.Option(min=0, max=9999, help="Overpass of the same place: other traffic and weather.")
    ] = 0,
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

    Example: `truckscape simulate --out demo --size 1024 --seed 7`
    """
    from pipeline.simulation.simulate import simulate as write_product
    from pipeline.simulation.world.demand import Demand

    with status("simulating"):
        product = write_product(out, size, seed, Demand(heavy, light_per_heavy), day)
    say_path("simulated scene", product.safe)
    say_path("truth          ", product.trucks.parent)
