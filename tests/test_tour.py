"""The notebook runs from its first cell to its last."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(600)
def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(ROOT / "docs/tour.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear the outputs"
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [str(cell.get("outputs")) for cell in notebook.cells]
    assert any("(True, " in text for text in outputs)
    assert "index.html" in outputs[-1]
