"""The notebooks of the documentation run from top to bottom, at a tiny size."""

from pathlib import Path

import pytest
from doc_blocks import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
TINY = {"PRODUCTS": "3", "ROLLS": "3", "SIZE": "32", "EPOCHS": "1", "MODEL": "tiny"}


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TINY, "FOLDER": str(tmp_path / "work")}.items():
        monkeypatch.setenv(f"NOTEBOOK_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=200, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert (tmp_path / "work" / "multirun").is_dir()


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_sizes_come_from_one_cell(file: Path) -> None:
    """The cell with the tag `parameters` holds every size, and an environment variable for each."""
    cells = nbformat.read(file, as_version=4).cells
    (parameters,) = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    for name in [*TINY, "FOLDER"]:
        assert f'"NOTEBOOK_{name}"' in parameters.source
