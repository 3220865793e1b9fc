"""The command line: each command parses, calls one function, prints with Rich, and imports late."""

from pipeline.cli import batch, counts, data, doctor, evaluate, labels, models, run, simulate, traffic, train
from pipeline.cli.app import app, main

__all__ = ["app", "counts", "main"]

for module in (run, batch, traffic, doctor, simulate):
    app.add_typer(module.commands)
app.add_typer(evaluate.beside)
groups = {"data": data, "evaluate": evaluate, "labels": labels, "models": models, "train": train}
for name, group in groups.items():
    app.add_typer(group.commands, name=name)
