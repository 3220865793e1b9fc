"""The command line: each command parses, calls one function, prints with Rich, and imports late."""

from pipeline.cli import batch, counts, data, doctor, evaluate, models, run, simulate, traffic, train
from pipeline.cli.app import app, main

__all__ = ["app", "counts", "main"]

for module in (run, batch, traffic, doctor, simulate):
    app.add_typer(module.commands)
app.add_typer(evaluate.beside)
for name, group in {"data": data, "evaluate": evaluate, "models": models, "train": train}.items():
    app.add_typer(group.commands, name=name)
