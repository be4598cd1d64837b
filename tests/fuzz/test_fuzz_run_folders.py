"""Run folders that someone else sends, with any content in their files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from fuzzing import fuzz, mutated, refusing
from hypothesis import given
from hypothesis import strategies as st
from synthetic_sweeps import write_ablation

from product_cls.analysis.samples import read_samples
from product_cls.ensemble.members import load_members
from product_cls.runs.folder import RunFolder, find_runs

pytestmark = pytest.mark.usefixtures("nothing_outside")

ROWS = ((), ("rotate",))
FILES = ("config.yaml", "status.json", "metrics.json", ".hydra/overrides.yaml", "logs/metrics.csv")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(
        ["", "done", "running", "failed", "${oc.env:HOME}", "${a}", "???", "\0", "가", "\ud800"[:0]]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
CALLS = (
    {"_target_": "shutil.copyfile", "src": "/etc/hostname", "dst": "copied"},
    {"_target_": "pathlib.Path.touch", "self": "touched"},
    {"_target_": "os.system", "command": "touch touched"},
    {"_target_": "pandas.read_pickle", "filepath_or_buffer": "nowhere"},
    {"_target_": "builtins.eval", "_args_": ["open('written', 'w')"]},
    {"_target_": "nope.Mod"},
    {"_target_": 3},
    {"_target_": "${oc.env:HOME}"},
    {},
)
DEEP = "[" * 3000 + "]" * 3000
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(9 * ['*' + chr(97 + k)])}]\n" for k in range(9)
)
TEXTS = st.sampled_from(
    [DEEP, BOMB, "", "[", "{", "- a", "a: b: c", "!!python/object:os.system {}", "1e999"]
)
CONTENTS = TEXTS.map(str.encode) | st.binary(max_size=60)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs without pictures."""
    root = tmp_path_factory.mktemp("sweep") / "runs"
    return write_ablation(root, dict.fromkeys(ROWS, 0.0), seeds=(0,), products=4, pictures=5)


@st.composite
def changes(draw: st.DrawFn, sweep: Path) -> tuple[str, bytes]:
    """A file of a run and another content for it."""
    run = find_runs(sweep)[0].path
    name = draw(st.sampled_from(FILES))
    kind = draw(st.integers(0, 3))
    if kind == 0 or name.endswith(".csv"):
        return name, draw(mutated((run / name).read_bytes()))
    if kind == 1:
        return name, draw(CONTENTS)
    content: Any = yaml.safe_load((run / name).read_text())
    if isinstance(content, dict) and content and kind == 2:
        key = draw(st.sampled_from(sorted(content)))
        if name == "config.yaml" and draw(st.booleans()):
            # The current folder must stay empty; see conftest.py.
            content["data"] = {"samples": draw(st.sampled_from(CALLS))}
        else:
            content[key] = draw(VALUES)
    else:
        content = draw(VALUES)
    return name, (
        json.dumps(content) if name.endswith(".json") else yaml.safe_dump(content)
    ).encode()


def damaged(sweep: Path, copy: Path, name: str, content: bytes) -> RunFolder:
    """A copy of the sweep whose first run has another content in one file."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sweep, copy)
    run = find_runs(copy)[0]
    (run.path / name).write_bytes(content)
    return run


@fuzz(2)
@given(data=st.data())
def test_files_of_a_run_folder(tmp_path: Path, sweep: Path, data: st.DataObject) -> None:
    run = damaged(sweep, tmp_path / "runs", *data.draw(changes(sweep)))
    with refusing():
        assert run.state().kind in ("done", "failed", "running", "limited", "missing", "unreadable")
        assert run.shortcoming() is None or "\n" not in str(run.shortcoming())
        assert run.plan("f") in ("fresh", "resume", "skip")
        assert len(find_runs(run.path.parent)) == 2
    for read in (run.config, run.metrics, run.overrides, run.status):
        with refusing():
            assert isinstance(read(), dict | list)
    # The data is gone, so what a config names is not called, or is refused.
    with refusing(FileNotFoundError):
        assert isinstance(read_samples(run), pd.DataFrame)


@fuzz(0.5)
@given(data=st.data())
def test_one_damaged_run_does_not_end_an_ensemble(
    tmp_path: Path, sweep: Path, data: st.DataObject
) -> None:
    name, content = data.draw(changes(sweep))
    run = damaged(sweep, tmp_path / "runs", name, content)
    with refusing():
        members, left_out = load_members([run.path.parent])
        assert 1 <= len(members) <= 2 and len(members) + len(left_out) == 2
