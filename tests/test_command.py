"""The console command `product-cls`: subcommands, help, mistakes, sweeps and own config groups."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from runs_in_process import ROOT, TINY

from product_cls.__main__ import COMMANDS, main
from product_cls.runs.folder import RunFolder
from product_cls.training.command import told_of


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "type[Command]":
    Command.patch, Command.captured = monkeypatch, capsys
    monkeypatch.setattr(sys, "path", [*sys.path])
    return Command


class Command:
    """`product-cls WORDS` in this process: its exit status, output and errors."""

    patch: pytest.MonkeyPatch
    captured: pytest.CaptureFixture[str]

    @classmethod
    def call(cls, *words: str) -> tuple[int, str, str]:
        cls.patch.setattr(sys, "argv", ["/usr/bin/product-cls", *words])
        status = 0
        try:
            main()
        except SystemExit as error:
            status = int(error.code or 0)
        return status, *cls.captured.readouterr()


def typed(*words: str, cwd: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "product_cls", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "moment", ["importlib.import_module", "product_cls.training.command.train"]
)
def test_ctrl_c_while_a_command_starts_causes_no_traceback(
    command: type[Command], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(moment, interrupted)
    status, _, errors = command.call("train")
    assert (status, errors) == (130, "Interrupted; finished work is kept.\n")


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_all_commands(command: type[Command], words: Sequence[str]) -> None:
    status, text, errors = command.call(*words)
    assert (status, errors) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("predikt",), "error: There is no command 'predikt'; did you mean 'predict'?\n"),
        (("zzz",), "error: There is no command 'zzz'; known: train, ensemble, predict, "),
        (("predict", "checkpiont=x"), "error: Unknown key 'checkpiont'; did you mean 'checkp"),
        (("report", "models", "run=x"), "error: Unknown key 'run'; did you mean 'runs'? Known"),
        (
            ("report", "modles"),
            "error: There is no command 'report modles'; did you mean 'report m",
        ),
        (("report", "runs"), "error: There is no command 'report runs'; "),
    ],
)
def test_mistakes_cost_one_sentence(
    command: type[Command], words: Sequence[str], sentence: str
) -> None:
    status, text, errors = command.call(*words)
    assert (status, text) == (2, "") and errors.startswith(sentence) and errors.count("\n") == 1


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
def test_each_command_explains_itself(command: type[Command], name: str) -> None:
    status, text, errors = command.call(*name.split(), "--help")
    assert (status, errors) == (0, "") and text.startswith(f"product-cls {name} key=value ...\n")


def test_version(command: type[Command]) -> None:
    assert command.call("--version")[1].count(".") == 2


def cpu_seconds(*words: str) -> float:
    """Time of the fastest of three calls, because wall-clock times vary on a busy machine."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert typed(*words).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def test_help_answers_at_once() -> None:
    assert cpu_seconds("--help") < 1
    assert cpu_seconds("predict", "--help") < 1.5
    assert cpu_seconds("train", "--help") < 3


@pytest.mark.slow
def test_train_is_the_application_of_train_py(tmp_path: Path, tiny_root: Path) -> None:
    """Outside the checkout, with own groups, a class of the current folder, and a sweep."""
    own = tmp_path / "own"
    (own / "optimizer").mkdir(parents=True)
    (own / "optimizer" / "mine.yaml").write_text(
        "_target_: my_optimizers.Slow\n_partial_: true\nlr: 0.001\nweight_decay: 0.0\n"
    )
    (tmp_path / "my_optimizers.py").write_text(
        "import torch\nclass Slow(torch.optim.SGD):\n    pass\n"
    )
    words = [
        *("-m", *TINY, "fold=0,1", "optimizer=mine", "logger=none", "name=own"),
        *(f"data.root={tiny_root}", "trainer.limit_train_batches=1", "hydra.launcher.jobs=1"),
    ]
    done = typed("train", *words, cwd=tmp_path, PRODUCT_CLS_CONF=str(own))
    assert done.returncode == 0, done.stdout + done.stderr
    runs = sorted((tmp_path / "multirun" / "own").glob("*/status.json"))
    assert [RunFolder(run.parent).state().kind for run in runs] == ["done", "done"]
    assert "2 jobs: 2 done." in done.stdout
    again = typed("train", *words, f"--config-dir={own}", cwd=tmp_path)
    assert "2 jobs: 2 skipped." in again.stdout, again.stdout + again.stderr


def test_missing_own_folder_is_one_sentence(tmp_path: Path) -> None:
    done = typed("train", "--cfg", "job", PRODUCT_CLS_CONF=str(tmp_path / "no"))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: PRODUCT_CLS_CONF={tmp_path / 'no'}: there is no such folder; name one that holds "
        "config groups.\n"
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("train", "did you mean `python -m product_cls train`?"),
        ("api", "is no command"),
        ("ensemble.members", "is no command"),
        ("nope", "is no command"),
    ],
)
def test_a_module_without_a_command_says_so(module: str, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"product_cls.{module}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_a_folder_that_hydra_cannot_make_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = typed("train", "hydra.run.dir=file/run", cwd=tmp_path)
    sentence = (
        "error: file/run cannot be read or written: a part of its path is a file, not a folder."
    )
    assert (result.returncode, result.stderr.strip()) == (2, sentence)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FileNotFoundError(2, "No such file or directory", "/proc/x"), "/proc/x cannot be created"),
        (OSError(errno.ENOSPC, "No space left on device"), "A file cannot be read or written: the"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), None),
        (ValueError("Unable to configure handler 'file'"), None),
        (KeyError("a bug"), None),
    ],
)
def test_only_what_a_disk_refuses_is_a_sentence(error: Exception, sentence: str | None) -> None:
    told = told_of(error)
    assert told is None if sentence is None else str(told).startswith(sentence)


def test_a_log_file_that_cannot_be_opened_is_a_sentence() -> None:
    error = ValueError("Unable to configure handler 'file'")
    error.__cause__ = IsADirectoryError(errno.EISDIR, "Is a directory", "run/train.log")
    assert told_of(error) == (
        "run/train.log cannot be read or written: it is a folder, not a file."
    )
