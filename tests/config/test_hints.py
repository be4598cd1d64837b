"""The help of `python train.py`, and its hint for an unknown key."""

import subprocess
import sys
from typing import Any

import pytest
from runs_in_process import ROOT

from product_cls.config.hints import key_hint
from product_cls.core.errors import UserError


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("optimizer.lrr=1", "Did you mean 'optimizer.lr'?"),
        ("optimiser=sam", "Did you mean 'optimizer'?"),
        ("optimzer.lr=1", "Did you mean 'optimizer'?"),
        ("fodl=0", "Did you mean 'fold'?"),
        ("mix.zzz=0", "Known keys of mix: mixup, cutmix, p."),
    ],
)
def test_the_nearest_key_is_named(composed: Any, override: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        composed(override)
    assert str(caught.value).endswith(f". {hint}")


def test_other_mistakes_get_no_hint(composed: Any) -> None:
    for override in ("data.size=[96", "model=b99"):
        with pytest.raises(UserError) as caught:
            composed(override)
        assert "Did you mean" not in str(caught.value)
    assert key_hint(None) is None


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_mistyped_key_is_one_sentence() -> None:
    done = typed("optimizer.lrr=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: There is no key optimizer.lrr; a new key begins with +. "
        "Did you mean 'optimizer.lr'?\n"
    )


def test_the_nearest_option_comes_after_all_options() -> None:
    done = typed("model=tinny")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: model=tinny; allowed: b0, ")
    assert done.stderr.endswith(" Did you mean 'model=tiny'?\n") and "base" not in done.stderr


def test_help_names_commands_and_groups() -> None:
    done = typed("--help")
    assert done.returncode == 0
    for words in ("product-cls train -m fold=0,1,2,3,4", "epochs_from=multirun/NAME", "--cfg job"):
        assert words in done.stdout
    for group in (path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        if group.name != "hydra":
            names = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
            assert f"{group.name}: {names}" in done.stdout
    assert len(done.stdout.splitlines()) < 45
