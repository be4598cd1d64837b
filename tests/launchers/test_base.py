"""How Hydra finds the launchers, and the commands that start jobs."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from runs_in_process import ROOT

from product_cls.core import cli
from product_cls.launchers.base import entry_point, job_labels, train_command

SCRIPT = str(ROOT / "train.py")
INSTALLED = ["-m", "product_cls", "train"]

FIND = """
import sys
from hydra import compose, initialize_config_dir
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    for name in ("processes", "submitit_slurm", "submitit_local", "ray"):
        config = compose(overrides=[f"hydra/launcher={name}"], return_hydra_config=True)
        print(config.hydra.launcher._target_)
print(sorted({"torch", "pytorch_lightning", "ray", "submitit"} & set(sys.modules)))
"""


def test_hydra_finds_the_launchers_without_an_import(tmp_path: Path) -> None:
    """Their settings replace those of other plugins, in whichever order Hydra imports them, and
    nothing heavy is imported."""
    engines = tmp_path / "site" / "hydra_plugins" / "hydra_submitit_launcher"
    engines.mkdir(parents=True)
    (engines / "__init__.py").write_text(
        "from hydra.core.config_store import ConfigStore\n"
        "ConfigStore.instance().store(\n"
        "    group='hydra/launcher', name='submitit_slurm', node={'_target_': 'a.b.C'}\n"
        ")\n"
    )
    for path in (f"{ROOT}:{engines.parents[1]}", f"{engines.parents[1]}:{ROOT}"):
        command = [sys.executable, "-c", FIND, str(tmp_path)]
        output = subprocess.check_output(command, cwd=tmp_path, env={"PYTHONPATH": path}, text=True)
        *targets, heavy_modules = output.splitlines()
        assert targets == [
            f"hydra_plugins.product_cls_launchers.{name}Launcher"
            for name in ("Processes", "Slurm", "SubmititLocal", "Ray")
        ]
        assert heavy_modules == "[]"


def test_trials_start_from_a_checkout_or_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_command() == [sys.executable, SCRIPT]
    (tmp_path / "train.py").write_text("print('of another package')")
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "product_cls" / "core" / "cli.py"))
    assert train_command() == [sys.executable, *INSTALLED]


@pytest.mark.parametrize(
    ("module", "typed", "expected"),
    [
        (None, [SCRIPT, "-m", "a=1"], [SCRIPT]),
        ("app", ["app.py", "--config-name=x", "a=1"], ["-m", "app", "--config-name=x"]),
        ("app.__main__", ["app.py", "a=1"], ["-m", "app"]),
        ("product_cls.__main__", ["product-cls train", "-m"], INSTALLED),
        (None, ["/bin/product-cls", "-cd", "mine"], [*INSTALLED, "--config-dir=mine"]),
    ],
)
def test_jobs_repeat_the_command_of_the_sweep(
    module: str | None, typed: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = ModuleType("__main__")
    main.__spec__ = None if module is None else SimpleNamespace(name=module)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", typed)
    assert entry_point() == [sys.executable, *expected]


def test_labels_are_the_overrides_that_differ() -> None:
    assert job_labels([["a=1", "b=1"], ["a=1", "b=2"]]) == ["b=1", "b=2"]
    assert job_labels([["a=1", "b=1"]]) == ["a=1 b=1"]
