"""All checks of an installation, each with a time limit and a suggested fix."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.operations.checks import installation, machine, models, services, surroundings
from pipeline.operations.checks.finding import Finding, fails

if TYPE_CHECKING:
    from rich.table import Table

Check = Callable[[], list[Finding]]

ELSEWHERE_S = 10.0
"""Time limit for disks, databases and servers."""
HERE_S = 120.0
"""Time limit for computations, on a machine that may be busy."""
_COLOURS = {"ok": "green", "warning": "yellow", "fails": "red"}


def examine(config: Config, out: Path) -> list[Finding]:
    """Return the finding of every check, in order; `out` is the folder of results.

    Raises nothing: a check that breaks down, or takes too long, fails. Only servers of the settings and the
    environment are asked.
    """
    here: dict[str, Check] = {
        "python": installation.python,
        "packages": installation.packages,
        "extras": partial(installation.extras, config),
        "drivers": partial(installation.drivers, config),
        "environment": surroundings.environment,
        "home": surroundings.prefect_home,
        "proxy": surroundings.proxies,
        "models": partial(models.models, config),
        "processor": partial(machine.processor, config),
        "memory": partial(machine.memory, config),
        "on_failure": partial(services.hook, config),
    }
    elsewhere: dict[str, Check] = {
        "disk": partial(machine.disk, out),
        "ledger": partial(services.ledger, config, out),
        "prefect": services.prefect,
        "network": partial(services.network, config),
        "publish": partial(services.published, config),
        "shards": partial(services.shards, config),
    }
    # One after the other: two threads that import at once may see half a module.
    findings = [found for name, check in here.items() for found in _Running(name, check).result(HERE_S)]
    asked = [_Running(name, check) for name, check in elsewhere.items()]
    return findings + [found for running in asked for found in running.result(ELSEWHERE_S)]


class _Running:
    """A check in a thread of its own, which is left alone when it hangs."""

    def __init__(self, name: str, check: Check) -> None:
        self._name, self._check = name, check
        self._findings: list[Finding] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._findings = self._check()
        except Exception as error:  # noqa: BLE001 a broken installation breaks in any way
            why = " ".join(str(error).split())[:300]
            fix = "reinstall truckscape, with the versions of its constraints.txt"
            self._findings = [fails(self._name, f"{type(error).__name__}: {why}", fix)]

    def result(self, patience_s: float) -> list[Finding]:
        """Return the finding; a check that hangs fails."""
        self._thread.join(patience_s)
        if self._findings is None:
            fix = "check the service it asks: a file server, a database, the network"
            return [fails(self._name, f"no answer within {patience_s:g} s", fix)]
        return self._findings


def is_well(findings: Sequence[Finding]) -> bool:
    """Return whether nothing fails."""
    return all(finding.state != "fails" for finding in findings)


def doctor_page(findings: Sequence[Finding]) -> Table:
    """Return the findings for a terminal: a line each, and below it the suggested fix."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_column(overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=_COLOURS[finding.state])
        table.add_row(finding.check, state, Text(finding.found))
        if finding.fix:
            table.add_row("", "", Text(f"fix: {finding.fix}", style="italic"))
    return table
