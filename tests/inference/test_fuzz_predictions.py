"""Random damage to the files of run folders: one sentence or a run that is left out, never a wrong
result.

``helpers/fuzzing.py`` sets how many inputs are tried.
"""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from synthetic_sweeps import synthetic_predictions, write_multirun, write_run

from product_cls.core.errors import UserError
from product_cls.ensemble.blend_folders import blend_folders
from product_cls.inference.predictions import Predictions
from product_cls.report.experiment import read_experiment
from product_cls.report.held_out import has_labelled_test, read_held_out
from product_cls.report.summary import csv_table, result_table, summarise_experiment
from product_cls.runs.folder import RunFolder, find_runs

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
KEYS = ("state", "epoch", "epochs", "error", "finished", "limited", "model", "seed", "fold", "data")
KEYS += ("task", "backbone", "hydra", "sweeper", "overrides", "params", "tta", "seconds", "device")
documents = plain | st.dictionaries(st.sampled_from(KEYS), plain)
DOCUMENTS = ("status.json", "metrics.json", "config.yaml", ".hydra/overrides.yaml")


def predictions(seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    names = [str(k % 3) for k in range(12)]
    return synthetic_predictions(
        rng.random(12) < 0.7, [f"{k}.jpg" for k in range(12)], names, [0.0] * 12
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs and a plan; not to be changed."""
    root = tmp_path_factory.mktemp("fuzz") / "sweep"
    for seed in (0, 1):
        folder = RunFolder(root / f"seed={seed}")
        config = {"seed": seed, "fold": 0, "model": {"backbone": "b0"}, "data": {"root": "none"}}
        write_run(folder, config, [f"seed={seed}"], predictions(seed))
        predictions(seed + 2).save(folder.predictions_file("val"))
    write_multirun(root, None, ["seed=0,1"])
    return root


@pytest.fixture
def damage(clean: Path, tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Replaces one file of a fresh copy of the second run (or of the sweep)."""

    def write(name: str, content: bytes) -> Path:
        root = tmp_path / "sweep"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(clean, root)
        file = root / name if name == "multirun.yaml" else root / "seed=1" / name
        file.write_bytes(content)
        return root

    return write


def read_all(root: Path) -> list[Any]:
    """What ensemble, report and the API read; only a UserError may end any of them."""
    results: list[Any] = []

    def report() -> Any:
        experiment = read_experiment(root)
        summary = summarise_experiment(experiment)
        return result_table(experiment, summary), csv_table(experiment, summary)

    readers: list[Callable[[], Any]] = [
        lambda: blend_folders([root]),
        report,
        lambda: (has_labelled_test(root), read_held_out(root)),
        lambda: [folder.state() for folder in find_runs(root)],
    ]
    for read in readers:
        try:
            results.append(read())
        except UserError as error:
            assert "\n" not in str(error)
            results.append(None)
    return results


@fuzz()
@given(data=st.data())
def test_bytes_of_predictions(
    data: st.DataObject, clean: Path, damage: Callable[[str, bytes], Path]
) -> None:
    split = data.draw(st.sampled_from(["val", "test"]))
    whole = (clean / "seed=1" / "predictions" / f"{split}.npz").read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "random"]))
    if kind == "flip":
        changed = bytearray(whole)
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
        content = bytes(changed)
    elif kind == "cut":
        content = whole[:place]
    elif kind == "insert":
        content = whole[:place] + data.draw(st.binary(min_size=1, max_size=9)) + whole[place:]
    else:
        content = data.draw(st.binary(max_size=99))
    root = damage(f"predictions/{split}.npz", content)
    file = root / "seed=1" / "predictions" / f"{split}.npz"
    original = Predictions.load(clean / "seed=1" / "predictions" / f"{split}.npz")
    try:
        believed = Predictions.load(file, stored=data.draw(st.booleans()))
    except UserError as error:
        assert "\n" not in str(error)
    else:  # damage to what no reader uses, such as the time of a member
        for name in vars(original):
            assert np.array_equal(getattr(believed, name), getattr(original, name)), name
    ensemble = read_all(root)[0]
    assert ensemble is not None and len(ensemble.members) in (1, 2)


@fuzz()
@given(data=st.data())
def test_arrays_of_predictions(data: st.DataObject, damage: Callable[[str, bytes], Path]) -> None:
    """Whole files, with right checksums, whose content cannot be."""
    whole = predictions(1)
    arrays: dict[str, Any] = {k: v for k, v in vars(whole).items() if v is not None}
    arrays["task"] = np.array(json.dumps(whole.task))
    name = data.draw(st.sampled_from([*arrays, "embedding", "extra"]))
    shape = data.draw(st.lists(st.integers(0, 13), max_size=3))
    kind = data.draw(st.sampled_from(["float32", "float64", "int64", "<U3", "bool", "complex64"]))
    value = data.draw(st.sampled_from([0, 1, -1, -7, 99, np.nan, np.inf]))
    if kind in ("int64", "bool") and not np.isfinite(value):
        value = 3
    arrays[name] = np.full(shape, value).astype(kind)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    root = damage("predictions/test.npz", stream.getvalue())
    results = read_all(root)
    assert results[0] is not None
    try:
        Predictions.load(root / "seed=1" / "predictions" / "test.npz")
    except UserError:
        assert len(results[0].members) == 1


@fuzz()
@given(name=st.sampled_from([*DOCUMENTS, "multirun.yaml"]), data=st.data())
def test_documents(name: str, data: st.DataObject, damage: Callable[[str, bytes], Path]) -> None:
    if data.draw(st.booleans()):
        content = data.draw(st.binary(max_size=40))
    else:
        document = data.draw(documents)
        dump = json.dumps if name.endswith("json") else yaml.safe_dump
        content = dump(document).encode(errors="surrogatepass")
    read_all(damage(name, content))
