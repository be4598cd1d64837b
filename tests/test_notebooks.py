"""The notebooks of the documentation run from top to bottom, at a tiny size."""

import json
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
TINY = {"PRODUCTS": "3", "ROLLS": "3", "SIZE": "32", "EPOCHS": "1", "MODEL": "tiny"}

notebooks = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def code_cells(file: Path) -> list[dict[str, Any]]:
    cells = json.loads(file.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sizes and folder of the notebooks, in the environment."""
    folder = tmp_path / "work"
    for name, value in {**TINY, "FOLDER": str(folder)}.items():
        monkeypatch.setenv(f"NOTEBOOK_{name}", value)
    monkeypatch.chdir(tmp_path)  # the notebooks change it
    return folder


@notebooks
def test_cells_run(file: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which saves the seconds that a kernel spends on imports."""
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(plt, "show", plt.close)
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in code_cells(file):
        exec(compile("".join(cell["source"]), file.name, "exec"), names)
    assert (work / "multirun").is_dir()


@pytest.mark.slow
def test_notebook_runs_in_a_kernel(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(work.parent / "ipython"))
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=200).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@notebooks
def test_sizes_come_from_one_cell(file: Path) -> None:
    """The cell with the tag ``parameters`` reads each size from an environment variable."""
    (parameters,) = [
        "".join(cell["source"])
        for cell in code_cells(file)
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    for name in [*TINY, "FOLDER"]:
        assert f'"NOTEBOOK_{name}"' in parameters
