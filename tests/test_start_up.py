"""What a command imports before it begins, which every job of a sweep waits for.

Read from the sources, for importing torch takes seconds, and what our libraries import is theirs.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH = {"torch", "torchvision", "timm", "torchmetrics", "pytorch_lightning", "albumentations"}
# What few commands need: of these, whoever calls a function that does imports it there.
SELDOM = {"matplotlib", "sklearn", "scipy", "wandb", "tensorboard", "faiss", "onnx", "onnxruntime"}


def at_import(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run when the module does: not those inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from at_import(node)


@cache
def imports_of(module: str) -> list[str]:
    """What a module of ours imports, dotted; nothing for a module of others."""
    place = ROOT / module.replace(".", "/")
    names = []
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        for node in at_import(ast.parse(file.read_text())) if file.is_file() else ():
            given = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None and node.level == 0
                given = [node.module, *(f"{node.module}.{name}" for name in given)]
            names += given
    return names


def imported_by(start: str) -> dict[str, str]:
    """All that importing a module of ours imports through our own modules -> where it is named."""
    found: dict[str, str] = {start: "the test"}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        for name in imports_of(module):
            parts = name.split(".")
            for parent in (".".join(parts[:n]) for n in range(1, len(parts) + 1)):
                if parent not in found:
                    found[parent] = module
                    waiting.append(parent)
    return found


@pytest.mark.parametrize(
    ("start", "unwanted"),
    [
        ("train", TORCH | SELDOM | {"pandas"}),
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
    found = imported_by(start)
    assert len(found) > 3, found
    assert {name: by for name, by in found.items() if name in unwanted} == {}


def test_what_is_imported_is_found() -> None:
    """The test above could not fail if this did not see imports of imports."""
    found = imported_by("product_cls.training.run")
    assert {"torch", "pytorch_lightning", "albumentations", "product_cls.data.store"} <= set(found)
    assert found["albumentations"].startswith("product_cls.data.")
    assert "scipy" in imported_by("product_cls.report.statistics")
