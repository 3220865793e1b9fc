"""The command that runs for each scene that failed."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Sequence

from pipeline.printable import printable
from pipeline.stopping import without_parent

log = logging.getLogger(__name__)

_PATIENCE_S = 60
_LONGEST = 30_000
"""Characters; Linux takes 128 KiB a variable."""


def on_failure(command: Sequence[str], scene: str, href: str, reason: str) -> None:
    """Run a command with TRUCKSCAPE_SCENE, TRUCKSCAPE_HREF and TRUCKSCAPE_REASON in its environment.

    No shell reads them. A command that fails itself, or takes a minute, is a line in the log.
    """
    if not command:
        return
    reported = {"TRUCKSCAPE_SCENE": scene, "TRUCKSCAPE_HREF": href, "TRUCKSCAPE_REASON": reason}
    environment = {
        **without_parent(os.environ),
        **{name: printable(text)[:_LONGEST] for name, text in reported.items()},
    }
    try:
        subprocess.run(command, env=environment, check=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("batch.on_failure: %s", error)
