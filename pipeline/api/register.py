"""Registration of network families, scene formats and output products in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from pipeline.errors import PluginError

Kind = Literal["detector", "segmenter", "screener", "reader", "product"]


def register(kind: Kind, name: str, build: Callable[..., Any], **options: Any) -> None:
    """Add a network family, a scene format or an output product under a name, for this process.

    For a `detector`, `segmenter` or `screener`, `build` is the constructor of the network, and the options
    are the other fields of `pipeline.models.family.Family`: `arguments`, `scores_vehicles`. For a `reader` it
    is a function `open(href, bands)` that returns a `pipeline.scenes.scene.Scene`, and `accepts` is the
    option it needs (`pipeline.scenes.readers.reader.Reader`). For a `product` it is a function
    `make(context)` that returns `pipeline.run.products.Outputs`; options: `wanted`, `needs`,
    `in_background` (`pipeline.run.products.Product`).

    The registries are the only state that the API keeps. A lock guards them, so threads may register and run
    at the same time; a run uses what is registered when it needs it. A name that was registered before is
    replaced. Other processes, such as Dask's workers, know it only if they register it too, or if it is an
    entry point of an installed package.

    Raises
    ------
    PluginError
        If the kind is unknown, an option does not fit, or the name is one of truckscape or of a package.
    """
    if kind not in get_args(Kind):
        raise PluginError(f"A kind is one of {', '.join(get_args(Kind))}. Received: {kind!r}.")
    if not (isinstance(name, str) and name.strip() and callable(build)):
        raise PluginError(f"A name and a callable are needed. Received: {name!r}, {build!r:.100}.")
    try:
        _append(kind, name, build, options)
    except TypeError as error:
        raise PluginError(f"The {kind} {name!r} can't be registered: {error}.") from error


def _append(kind: Kind, name: str, build: Callable[..., Any], options: dict[str, Any]) -> None:
    if kind == "reader":
        from pipeline.scenes.open import READERS
        from pipeline.scenes.readers.reader import Reader

        READERS.append(Reader(name, open=build, **options))
    elif kind == "product":
        from pipeline.run.products import PRODUCTS, Product

        PRODUCTS.append(Product(name, build, **options))
    else:
        from pipeline.models.bundle import Task
        from pipeline.models.family import Family
        from pipeline.models.registry import FAMILIES

        tasks: dict[Kind, Task] = {
            "detector": "detection",
            "segmenter": "segmentation",
            "screener": "screening",
        }
        FAMILIES.append(Family(name, tasks[kind], build, **options))
