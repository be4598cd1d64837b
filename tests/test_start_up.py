"""Imports of a command at its start, which every job of a sweep waits for.

They are read from the source code, because importing torch takes seconds. Imports inside other
libraries are not followed.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH = {"torch", "torchvision", "timm", "torchmetrics", "pytorch_lightning", "albumentations"}
# Few commands need these, so functions that use them import them.
SELDOM = {"matplotlib", "sklearn", "scipy", "wandb", "tensorboard", "faiss", "onnx", "onnxruntime"}


def at_import(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run when the module is imported: not those inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from at_import(node)


@cache
def imports_of(module: str) -> list[str]:
    """Dotted names that a module of this package imports; empty for a module of a library."""
    stem = ROOT / module.replace(".", "/")
    names = []
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        for node in at_import(ast.parse(file.read_text())) if file.is_file() else ():
            imported = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None and node.level == 0
                imported = [node.module, *(f"{node.module}.{name}" for name in imported)]
            names += imported
    return names


def imported_by(start: str) -> dict[str, str]:
    """Every module that importing ``start`` imports -> the module of this package that does so."""
    importers: dict[str, str] = {start: "the test"}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        for name in imports_of(module):
            parts = name.split(".")
            for parent in (".".join(parts[:n]) for n in range(1, len(parts) + 1)):
                if parent not in importers:
                    importers[parent] = module
                    waiting.append(parent)
    return importers


@pytest.mark.parametrize(
    ("start", "unwanted"),
    [
        ("train", TORCH | SELDOM | {"pandas", "numpy"}),
        ("product_cls.__main__", TORCH | SELDOM | {"pandas", "numpy", "hydra", "omegaconf"}),
        ("product_cls.stream", TORCH | SELDOM | {"pandas", "numpy"}),
        ("product_cls.report.__main__", TORCH | SELDOM | {"pandas", "numpy"}),
        ("hydra_plugins.product_cls_config", TORCH | SELDOM | {"pandas", "numpy"}),
        ("hydra_plugins.product_cls_launchers", TORCH | SELDOM | {"pandas", "numpy"}),
        ("product_cls.training.run", SELDOM | {"product_cls.report"}),
        ("product_cls.tasks.single_label", SELDOM),
        ("product_cls.tasks.multi_label", SELDOM),
        ("product_cls.tasks.multi_head", SELDOM),
        ("product_cls.tasks.retrieval", SELDOM),
        ("product_cls.optim.adamp", SELDOM),
        ("product_cls.predict", TORCH | SELDOM | {"pandas", "numpy"}),
        ("product_cls.export", TORCH | SELDOM | {"pandas", "numpy"}),
        ("product_cls.ensemble.__main__", TORCH | SELDOM | {"pandas", "numpy"}),
        ("product_cls.retrieval.search", TORCH | SELDOM | {"pandas", "numpy"}),
        ("product_cls.retrieval.index.__main__", TORCH | SELDOM | {"pandas", "numpy"}),
    ],
)
def test_a_job_imports_no_more_than_it_needs(start: str, unwanted: set[str]) -> None:
    importers = imported_by(start)
    assert len(importers) > 1, importers
    assert {name: by for name, by in importers.items() if name in unwanted} == {}


def test_imports_of_imports_are_seen() -> None:
    """Otherwise the test above could not fail."""
    importers = imported_by("product_cls.training.run")
    assert {"torch", "pytorch_lightning", "albumentations", "product_cls.data.store"} <= set(
        importers
    )
    assert importers["albumentations"].startswith("product_cls.data.")
    assert "scipy" in imported_by("product_cls.report.statistics")


REFUSED = {
    "train data=folder data.root=nowhere": "data.root=nowhere: there is no such folder",
    "train model.weights=nowhere": "model.weights=nowhere: no such file",
    "train start=nowhere": "start=nowhere: There is no checkpoint nowhere.",
    "train augment_engine=quick": "augment_engine=quick; allowed: exact, fast.",
    "train optimizer.lr=high": "optimizer.lr=high",
    "quick data=folder data.root=nowhere": "data.root=nowhere: there is no such folder",
    "check data=folder data.root=nowhere": "data.root=nowhere: there is no such folder",
    "predict checkpoint=nowhere images=nowhere": "There is no checkpoint nowhere.",
    "report runs=nowhere": "nowhere",
}
CHILD = """
import sys
sys.argv = ["product-cls", *sys.argv[1:]]
from product_cls.__main__ import main
try:
    main()
except SystemExit as error:
    print(error.code, sorted({"torch", "pytorch_lightning", "timm"} & set(sys.modules)))
"""


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused_is_refused_before_torch_is_imported(words: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *words.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "2 []\n", done
    assert REFUSED[words] in done.stderr and done.stderr.count("\n") == 1
