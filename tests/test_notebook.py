"""The notebook of the documentation: it runs, and has no outputs."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbclient")

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_stripped(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.longer
@pytest.mark.timeout(1800)
def test_it_runs(notebook, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    path = os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    client.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert not [out for out in outputs if out.output_type == "error"]
    texts = "\n".join(str(out.get("data", {}).get("text/plain", "")) + out.get("text", "") for out in outputs)
    assert "truckscape.Scene" in texts
    assert "shipped" in texts
    assert "mine" in texts
