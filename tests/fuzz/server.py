"""Process that has imported the command line and forks a child for each command.

    python -m tests.fuzz.server

Reads a request a line from standard input, JSON with `argv`, `cwd`, `env`, `stdout` and `stderr`, and answers
with two lines: the number of the child, and its status, processor time and peak memory once it has ended. It
runs no command itself, so no thread of PyTorch, OpenVINO or GDAL is there when it forks.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import sys
import tempfile
import threading
import traceback
from typing import Any, NoReturn

PRELOADED = (
    "pipeline.cli",
    "pipeline.evaluation.evaluate",
    "pipeline.inference.engine",
    "pipeline.layers.formats.export",
    "pipeline.operations.batch",
    "pipeline.operations.search",
    "pipeline.operations.tables",
    "pipeline.report.areas",
    "pipeline.report.evaluation",
    "pipeline.report.run_comparison",
    "pipeline.run",
    "pipeline.run.products",
    "rasterio",
    "torch",
    "torchvision",
)
NOT_CAUGHT = 70
"""Status of a child whose command line let an exception through; the traceback is on its standard error."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nothing but answers goes to the caller
    for name in PRELOADED:
        importlib.import_module(name)
    _compile_templates()
    gc.collect()
    gc.freeze()  # children share the pages

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    answer(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
        answer(process=child)
        _, status, usage = os.wait4(child, 0)
        answer(
            status=os.waitstatus_to_exitcode(status),
            cpu_s=usage.ru_utime + usage.ru_stime,
            memory_mb=usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
        )


def _compile_templates() -> None:
    """Compile the templates of pages and load the picture formats, which takes a child half a second."""
    from PIL import Image

    from pipeline.report.template import environment

    Image.init()
    for name in environment().list_templates(extensions=["j2"]):
        environment().get_template(name)


def _become(request: dict[str, Any]) -> NoReturn:
    """Run one command in this child, as a terminal would, and end the process."""
    status = NOT_CAUGHT
    try:
        os.setsid()
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        for number, name in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
            file = os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        tempfile.tempdir = None  # that of the environment, not what an import found
        sys.argv = ["truckscape", *request["argv"]]
        status = _status_of_command()
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 a child must never return into the server's loop
        traceback.print_exc()
        sys.stderr.flush()
        status = NOT_CAUGHT
    finally:
        os._exit(status)


def _status_of_command() -> int:
    from pipeline.cli import main as command_line

    try:
        command_line()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    main()
