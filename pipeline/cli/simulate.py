"""The command `simulate`: a product with truth."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.console import say_path, status
from pipeline.cli.options import Out
from pipeline.settings import MOST_SEED

commands = typer.Typer()


@commands.command()
def simulate(
    out: Out,
    size: Annotated[int, typer.Option(min=64, max=10980, help="Side of the scene, in 10 m pixels.")] = 1024,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of the landscape and its traffic.")
    ] = 0,
) -> None:
    """Write a simulated Sentinel-2 L2A product (.SAFE) with its truth: trucks, land cover, roads.

    Example: `truckscape simulate --out demo --size 1024 --seed 7`
    """
    from pipeline.simulation.simulate import simulate as write_product

    with status("simulating"):
        product = write_product(out, size=size, seed=seed)
    say_path("simulated scene", product.safe)
    say_path("truth          ", product.trucks.parent)
