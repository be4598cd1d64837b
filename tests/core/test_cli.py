"""``key=value`` arguments, and mistakes as one sentence."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from product_cls.core import cli
from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError


@dataclass
class Arguments:
    """Do something with runs.

    runs: where they are.
    """

    runs: str = MISSING
    any: Any = None
    out: str | None = None
    top: int = 5
    share: float = 0.5
    flag: bool = False
    tta: list[str] = field(default_factory=lambda: ["identity"])
    weights: list[float] | None = None


def parse(*words: str) -> Arguments:
    return parse_arguments(Arguments, list(words), prog="command")


def test_types_and_defaults() -> None:
    assert parse("runs=a") == Arguments(runs="a")
    parsed = parse(
        "runs=a", "any=[x,1]", "top=3", "share=1e-3", "flag=true", "tta=[a,b]", "weights=[1,0.5]"
    )
    assert parsed == Arguments(
        runs="a", any=["x", 1], top=3, share=0.001, flag=True, tta=["a", "b"], weights=[1.0, 0.5]
    )
    assert isinstance(parsed, Arguments)
    assert parse("runs=a", "weights=null", "out=null") == Arguments(runs="a")
    assert parse("runs=a", "runs=b").runs == "b"  # the last one counts
    assert parse("runs=a", "tta=[]").tta == []


@pytest.mark.parametrize(
    "path",
    [
        "multirun/b/fold=0,model=b0",
        "multirun/b/exclude=[rotate,cutmix],fold=0/checkpoints/best.ckpt",
        "[old] runs/a",
        "*.ckpt",
        "{a}",
        "my runs/a #2",
        "a: b",
        "'quoted'",
        "007",
        "1e3",
        "on",
        "2024-01-01",
        "${HOME}/runs",
        "제품/런",
        " ",
    ],
)
def test_text_is_taken_as_typed(path: str) -> None:
    """Paths of runs hold '=', ',' and '['; to YAML some of them would be something else."""
    assert parse(f"runs={path}").runs == path
    assert parse("runs=a", f"out={path}").out == path


def test_paths_in_lists_and_in_keys_of_any_type() -> None:
    path = "multirun/b/exclude=[rotate,cutmix],fold=0/best.ckpt"
    assert parse("runs=a", f"any={path}").any == path
    assert parse("runs=a", "any=[a/fold=0,b/fold=1]").any == ["a/fold=0", "b/fold=1"]


def test_names_that_yaml_would_read_as_something_else() -> None:
    names = ["2024_10", "0012", "1:30", "on", "2024-01-01", "0x1F", "1_0.5"]
    assert parse("runs=a", f"any=[{','.join(names)}]").any == names
    assert parse("runs=a", "any=2024_10").any == "2024_10"
    assert parse("runs=a", "any=[1,-2.5,1e-3,true,null]").any == [1, -2.5, 1e-3, True, None]


KEYS = "runs, any, out, top, share, flag, tta, weights"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["a"], ("'a' is not of the form key=value", KEYS)),
        (["run=a"], (f"Unknown key 'run'; did you mean 'runs'? Known keys: {KEYS}.",)),
        (["=a"], (f"Unknown key ''; known keys: {KEYS}.",)),
        (["runs.deep=a"], ("Unknown key 'runs.deep'", KEYS)),
        (["runs[0]=a"], ("Unknown key 'runs[0]'", KEYS)),
        (["top=3"], ("Missing: runs=...", "command --help")),
        (["runs=a", "top=3.5"], ("'top=3.5'", "Integer")),
        (["runs=a", "top=many"], ("'top=many'", "Integer")),
        (["runs=a", "top="], ("'top='",)),
        (["runs=a", "flag=maybe"], ("'flag=maybe'", "bool")),
        (["runs=a", "tta=identity"], ("'tta=identity'",)),
        (["runs=a", "tta=[a"], ("'tta=[a'",)),
        (["runs=a", "weights=[a]"], ("'weights=[a]'",)),
        (["runs=a", "any=*.ckpt"], ("'any=*.ckpt'",)),
        (["runs=a", "any=" + "[" * 9999], ("nested too deeply",)),
        (["runs=a", "any=!!int x"], ("'any=!!int x'",)),
        (["runs=a", "any=${nothing}"], ("nothing",)),
    ],
)
def test_mistakes(refused: Any, words: list[str], parts: tuple[str, ...]) -> None:
    with refused(*parts):
        try:
            parse(*words)
        except UserError as error:
            raise UserError(str(error)) from None


def test_words_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "runs=a/b"])
    assert parse_arguments(Arguments, prog="command").runs == "a/b"


@pytest.mark.parametrize(
    ("program", "in_checkout", "train", "other"),
    [
        ("train.py", True, "python train.py", "python -m product_cls ensemble"),
        ("/code/product_cls/tune/__main__.py", True, "python train.py", None),
        ("product-cls train", True, "product-cls train", "product-cls ensemble"),
        ("/bin/product-cls", True, "product-cls train", "product-cls ensemble"),
        ("kernel.py", False, "product-cls train", "product-cls ensemble"),
    ],
)
def test_commands_are_shown_as_this_user_can_type_them(
    program: str,
    in_checkout: bool,
    train: str,
    other: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    if not in_checkout:
        monkeypatch.setattr(cli, "__file__", str(tmp_path / "site" / "product_cls" / "cli.py"))
    assert cli.command_words("train") == train
    assert other is None or cli.command_words("ensemble") == other


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("top=3", "--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("command key=value ...") and "Do something with runs." in shown
    assert "  out=null\n" in shown and "  flag=false\n" in shown
    assert "  runs=...\n" in shown and "  top=5\n" in shown and "  tta=['identity']" in shown


def test_guard(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> None:
        raise UserError("No such thing.")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        guard(mistaken)
    assert caught.value.code == 2 and capsys.readouterr().err == "error: No such thing.\n"
    with pytest.raises(SystemExit) as caught:
        guard(interrupted)
    assert caught.value.code == 130 and "Interrupted" in capsys.readouterr().err
    guard(lambda: None)
    with pytest.raises(ZeroDivisionError):  # a bug is shown as one
        guard(lambda: print(1 / 0))


def test_a_reader_that_ends_early_causes_no_traceback() -> None:
    code = "from product_cls.core.cli import guard; guard(lambda: print('x' * 10_000_000))"
    shell = f'"{sys.executable}" -c "{code}" | head -c 10'
    ended = subprocess.run(
        ["bash", "-c", f"{shell}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, "x" * 10, "")
