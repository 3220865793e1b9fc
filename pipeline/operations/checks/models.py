"""Checks of the models: complete, and able to run on this machine."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.errors import TruckscapeError
from pipeline.operations.checks.finding import Finding, fails, ok

_SIDE_PX = 64


def models(config: Config) -> list[Finding]:
    """Check every shipped bundle and those of the settings: card, hash of weights, an image through each."""
    import torch

    from pipeline.inference.machine import backend, half_precision
    from pipeline.inference.run_models import thread_count
    from pipeline.inference.runtime import open_runtime
    from pipeline.models.bundle import SHIPPED, open_bundle
    from pipeline.models.registry import build_network

    named = [config.trucks.bundle, config.trucks.screener, config.landcover.bundle]
    shipped = sorted(card.parent.name for card in SHIPPED.glob("*/card.yaml"))
    findings, networks = [], {}
    for name in dict.fromkeys([*shipped, *(name for name in named if name)]):
        try:
            bundle = open_bundle(name)
            network = bundle.load_into(build_network(bundle.card))
        except TruckscapeError as error:
            fix = "reinstall truckscape" if name in shipped else "give another bundle, or train it again"
            findings.append(fails("models", f"{name}: {error}", fix))
        else:
            networks[name] = network, len(bundle.card.bands)
    if not networks:
        return findings
    runtime = open_runtime(networks, config.engine, thread_count(config.engine))
    dtype = torch.bfloat16 if half_precision(config.engine) else torch.float32
    how = f"{backend(config.engine)}, {str(dtype).removeprefix('torch.')}"
    for name, (_, bands) in networks.items():
        with runtime.run(name, torch.zeros((1, bands, _SIDE_PX, _SIDE_PX), dtype=dtype)) as maps:
            sound = all(bool(torch.isfinite(part).all()) for part in maps)
        if not sound:
            fix = "try --set engine.precision=float32 or --set engine.backend=torch"
            findings.append(fails("models", f"{name}: results that are not numbers ({how})", fix))
    return [ok("models", f"{', '.join(networks)}: hashes right, computed by {how}"), *findings]
