"""The search, with fast trials whose result depends on their learning rate."""

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("optuna", reason="the extra `optuna` is not installed")

import optuna
from hydra._internal.utils import get_args_parser
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import create_trial
from runs_in_process import ROOT, TINY

from product_cls.launchers.job import Job
from product_cls.runs.folder import RunFolder
from product_cls.tune import __main__ as command
from product_cls.tune.figures import parallel_figure
from product_cls.tune.results import report, trials_table
from product_cls.tune.space import overrides, read_space
from product_cls.tune.study import Search, make_pruner
from product_cls.tune.trials import run_trials

SPACE = {
    "optimizer.lr": FloatDistribution(1e-5, 1e-1, log=True),
    "augment": CategoricalDistribution(["product", "none"]),
}

# Best at a learning rate of 1e-3. Like a run, it writes status.json every epoch and ends on SIGINT.
TRIAL = """
import json, math, os, signal, sys, time
from pathlib import Path
folder, lr = Path(sys.argv[1]), float(sys.argv[2])
file = folder / "status.json"
def write(**fields):
    (folder / "partial").write_text(json.dumps(fields))
    os.replace(folder / "partial", file)
def stop(*_):
    write(state="failed", error="Interrupted; the same command goes on.", epoch=epoch, epochs=3,
          metric="val/accuracy", value=value)
    sys.exit(130)
epoch, value = 0, 0.0
signal.signal(signal.SIGINT, stop)
if (folder.parent / "broken").exists():
    # The first trial continues after the others have failed.
    for _ in range(1000 if folder.name == "trial=000" else 0):
        if len(list(folder.parent.glob("*/status.json"))) >= BROKEN:
            time.sleep(0.3)  # longer than the search's polling interval
            break
        time.sleep(0.02)
    if folder.name != "trial=000" or not BROKEN:
        write(state="failed", error="There is no folder data.")
        sys.exit(1)
if lr > 0.03:
    write(state="failed", error="The training loss became nan.")
    sys.exit(1)
for epoch in (1, 2, 3):
    value = epoch / 3 * max(0.0, 1 - abs(math.log10(lr) + 3) / 2)
    write(state="running", epoch=epoch, epochs=3, metric="val/accuracy", value=value)
    while epoch == 2 and (folder.parent / "hang").exists():
        (folder / "hanging").touch()
        time.sleep(0.05)
    time.sleep(PACE)
write(state="done", finished="now", epoch=3, epochs=3, metric="val/accuracy", value=value)
"""


class Quick(Search):
    """A search whose trials run ``TRIAL``."""

    pace = 0.0
    broken = 0  # trials that fail while the first one runs; 0: the first one fails, too

    def job(self, trial: Any) -> Job:
        real = super().job(trial)
        program = TRIAL.replace("PACE", str(self.pace)).replace("BROKEN", str(self.broken))
        path = real.folder.path
        command = [sys.executable, "-c", program, str(path), str(trial.params["optimizer.lr"])]
        return Job(real.number, real.label, real.folder, command, None)


class LowerIsBetter:
    """A metric such as a rate of false alarms."""

    higher_is_better = False


def make(folder: Path, shared: Sequence[str] = (), **changed: Any) -> Quick:
    settings = {"space": SPACE, "seed": 0, "startup": 4, "prune": "none", "warmup": 0}
    return Quick(folder, shared=shared, **settings | changed)


def run(search: Search, total: int, jobs: int = 1) -> int | None:
    with search.opened():
        return run_trials(search, total, [dict(os.environ)] * jobs, grace=5.0)


def drawn(search: Search) -> list[Any]:
    with search.opened():
        return [trial.params for trial in search.study.trials]


def test_a_search_finds_the_best_value_and_keeps_failures(tmp_path: Path, capsys: Any) -> None:
    search = make(tmp_path / "rates")
    assert run(search, 20, jobs=2) is None
    with search.opened():
        report(search)
    output = capsys.readouterr().out
    table = pd.read_csv(search.folder / "table.csv")
    best = table.iloc[0]
    assert 3e-4 < best["optimizer.lr"] < 3e-3 and best["state"] == "complete"
    assert best["value"] == pytest.approx(table["value"].max())
    failed = table[table["state"] == "failed"]
    assert len(failed) >= 1 and (failed["optimizer.lr"] > 0.03).all()
    first = table.loc[table["state"] == "complete", "trial"].min()
    assert len(table) == 20 + (failed["trial"] < first).sum()
    assert (failed["error"] == "The training loss became nan.").all()
    for name in ("history", "epochs", "slices", "parallel", "importances"):
        assert (search.folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    commands = [line for line in output.splitlines() if line.startswith("python train.py")]
    assert commands == [
        f"python train.py name=rates-best optimizer.lr={best['optimizer.lr']:.10g} "
        f"augment={best['augment']}"
    ]


def test_bad_trials_are_pruned(tmp_path: Path) -> None:
    search = make(tmp_path / "rates", prune="median", startup=3)
    search.pace = 0.4  # longer than the search's polling interval
    run(search, 9, jobs=3)
    with search.opened():
        table = trials_table(search)
    pruned = table[table["state"] == "pruned"]
    assert len(pruned) >= 1 and (pruned["epochs"] < 3).all()
    complete = table[table["state"] == "complete"]
    assert pruned["value"].max() < complete["value"].max()
    for name in pruned["folder"]:
        status = RunFolder(search.folder / name).status()
        assert status["state"] == "failed"
        assert status["error"].startswith("Pruned by the search: stopped after epoch")


@pytest.mark.parametrize("prune", ["median", "halving"])
@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_warmup_delays_pruning(prune: str, warmup: int) -> None:
    study = optuna.create_study(
        direction="maximize", pruner=make_pruner(prune, startup=1, warmup=warmup)
    )
    good, bad = study.ask(), study.ask()
    for epoch in range(1, 6):
        good.report(0.9, epoch)
        assert not good.should_prune()
    study.tell(good, 0.9)
    decisions = []
    for epoch in range(1, 6):
        bad.report(0.1, epoch)
        decisions.append(bad.should_prune())
    assert decisions.index(True) == warmup  # after epoch warmup + 1


def test_a_search_resumes_a_trial_after_ctrl_c(tmp_path: Path) -> None:
    search = make(tmp_path / "rates", seed=3)
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "hang").touch()

    def interrupt() -> None:
        while not list(tmp_path.glob("rates/trial=*/hanging")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert run(search, 3) == signal.SIGINT
    before = drawn(search)
    (tmp_path / "rates" / "hang").unlink()
    with search.opened():
        assert trials_table(search)["state"].tolist().count("interrupted") == 1
    assert run(make(tmp_path / "rates", seed=3), 3) is None
    after = drawn(search)
    assert after[: len(before)] == before and len(after) == 4  # the first of which fails
    with search.opened():
        assert all(trial.state.is_finished() for trial in search.study.trials)
    # The interruption does not change the drawn values.
    straight = make(tmp_path / "straight", seed=3)
    run(straight, 3)
    assert drawn(straight) == after
    assert len({json.dumps(params) for params in after}) == 4
    assert run(search, 3) is None and len(drawn(search)) == 4  # nothing left to do


def test_a_trial_without_all_its_values_fails(tmp_path: Path) -> None:
    search = make(tmp_path / "rates")
    with search.opened():
        # As SIGKILL leaves a trial in the middle of `ask`.
        search.study.ask({"optimizer.lr": SPACE["optimizer.lr"]})
    run(search, 2)
    with search.opened():
        table = trials_table(search).sort_values("trial")
        assert table["state"].iloc[0] == "failed" and "killed" in table["error"].iloc[0]
        assert not search.path(0).exists()
        # Earlier versions trained such trials.
        incomplete = create_trial(
            params={"optimizer.lr": 1e-3},
            distributions={"optimizer.lr": SPACE["optimizer.lr"]},
            value=0.5,
        )
        search.study.add_trial(incomplete)
        lines = parallel_figure(search.study, SPACE).axes[0].lines
    gaps = [np.isnan(np.asarray(line.get_ydata(), float)).sum() for line in lines]
    assert sum(gaps) == 1


def test_the_best_command_can_be_pasted(tmp_path: Path) -> None:
    search = make(tmp_path / "rates", ["paths.cache=my pictures", "tta=[identity]"])
    command_line = search.command(create_trial(value=0.5))
    assert shlex.split(command_line) == [
        *("python", "train.py", "name=rates-best"),
        *("paths.cache=my pictures", "tta=[identity]"),
    ]


def test_the_sampler_takes_any_seed_of_32_bits(tmp_path: Path) -> None:
    values = set()
    for seed in (42_949, 2**32 - 1):
        search = make(tmp_path / str(seed), seed=seed)
        with search.opened():
            values.add(search.ask().params["optimizer.lr"])
    assert len(values) == 2


def test_a_search_without_a_success_ends_and_continues_when_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("product_cls.tune.study.Search", Quick)
    (tmp_path / "space.yaml").write_text("optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}")
    arguments = ("study=rates", "trials=1", "space=space.yaml")
    broken = tmp_path / "multirun" / "rates" / "broken"
    broken.parent.mkdir(parents=True)
    broken.touch()
    status, output, errors = run_command(command.main)(*arguments)
    assert status == 1 and "5 trials: 5 failed" in output
    log = Path("multirun/rates/trial=004/console.log")
    assert f"the last: There is no folder data (log: {log})" in errors and log.is_file()
    broken.unlink()
    status, output, _ = run_command(command.main)(*arguments)
    assert status == 0 and "6 trials: 5 failed, 1 complete" in output


def test_failures_beside_a_later_success_do_not_end_a_search(tmp_path: Path) -> None:
    search = make(tmp_path / "rates")
    search.broken = 5
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "broken").touch()
    run(search, 10, jobs=2)
    with search.opened():
        states = trials_table(search).sort_values("trial")["state"].tolist()
    assert states == ["complete"] + 9 * ["failed"]  # five while it ran, four after it


def test_a_trial_gets_the_gpus_of_its_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("product_cls.tune.study.Search", Quick)
    status, _, errors = run_command(command.main)("study=rates", "trials=1", "trainer=ddp")
    assert status == 2 and "2" in errors and "trainer.devices" in errors


def test_other_settings_need_another_study(tmp_path: Path, refused: Any) -> None:
    run(make(tmp_path / "rates", ["fold=1"]), 1)
    with refused("other settings (fold=1)", "study=NAME"):
        run(make(tmp_path / "rates", ["fold=0"]), 2)
    search = make(tmp_path / "rates", ["fold=1"])
    with (
        refused("search space", "study=NAME"),
        Quick(
            tmp_path / "rates",
            {"mix.p": FloatDistribution(0, 1)},
            ["fold=1"],
            seed=0,
            startup=4,
            prune="none",
            warmup=0,
        ).opened(),
    ):
        pass
    with search.opened(), refused("Another search uses"), make(tmp_path / "rates").opened():
        pass


def test_mistakes_are_found_before_a_trial_starts(tmp_path: Path, refused: Any) -> None:
    for shared, part in (
        (["optimiser.lr=1"], "optimiser"),
        (["augment=none"], "augment=none: the search varies this key"),
        (["hydra.run.dir=x"], "set by the search"),
        (["name=x"], "set by the search"),
        (["fold=all"], "no validation"),
        (["sweep=models"], "sweep=models is a set of runs (of model"),
        (["experiment=gap"], "experiment=gap is a set of runs (of seed, recipe), but each trial"),
        (["data=competition"], "data.root=..."),
        (["seed=-1"], "seed=-1; allowed: a whole number, 0 to 4294967295."),
        (["monitor=val/loss"], "a search looks for the highest value"),
        (
            ["monitor=val/far", f"+metrics.far._target_={__name__}.LowerIsBetter"],
            "monitor=val/far: a search looks for the highest value",
        ),
        (["data.batch_size=0"], "data.batch_size=0; allowed: a whole number, 1 or more."),
    ):
        with refused(part):
            make(tmp_path, shared)
    with refused("prune=best; allowed: median, halving, none"):
        make(tmp_path, prune="best")
    choices = {"monitor": CategoricalDistribution(["val/f1", "val/accuracy"])}
    with refused("varies monitor, but trials are compared by one metric"):
        make(tmp_path, space=choices)


@pytest.mark.parametrize("separate", [False, True], ids=["equals sign", "space"])
def test_trials_may_use_groups_of_the_user(separate: bool, tmp_path: Path) -> None:
    file = tmp_path / "own" / "mix" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text((ROOT / "conf" / "mix" / "none.yaml").read_text())
    own = str(tmp_path / "own")
    flag = ["--config-dir", own] if separate else [f"--config-dir={own}"]
    search = make(tmp_path / "rates", ["model=tiny", *flag, "mix=mine"])
    words = Search.job(search, create_trial(value=0.5)).command[2:]
    read = get_args_parser().parse_args(words)  # as the trial reads them
    assert read.config_dir == own
    assert read.overrides[:3] == ["name='rates'", "model=tiny", "mix=mine"]


def test_spaces(tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "a: {low: 1e-4, high: 1.0e-2, log: true}\nb: {low: 1, high: 9, step: 2}\nc: [x, null, true]"
    )
    assert read_space(str(file)) == {
        "a": FloatDistribution(1e-4, 1e-2, log=True),
        "b": IntDistribution(1, 9, step=2),
        "c": CategoricalDistribution(["x", None, True]),
    }
    assert overrides({"a": 0.0001234567890123, "b": 3, "c": None, "d": True}) == [
        "a=0.000123456789",
        "b=3",
        "c=null",
        "d=true",
    ]
    for text, part in (
        ("a: 3", "a: 3 is not {low:"),
        ("a: {low: 2, high: 1}", "a: {'low': 2, 'high': 1} is not"),
        ("", "names no key"),
        ("a: [", "is not YAML"),
    ):
        file.write_text(text)
        with refused(part):
            read_space(str(file))
    with refused("space=no_such; allowed: ", "default"):
        read_space("no_such")
    with refused("no_such.yaml cannot be read (No such file or directory)."):
        read_space("no_such.yaml")
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text("a: [1, 2]")
    monkeypatch.setenv("PRODUCT_CLS_CONF", str(tmp_path))
    assert read_space("mine") == {"a": CategoricalDistribution([1, 2])}


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "conf" / "search").glob("*.yaml")])
def test_the_spaces_in_conf_compose(name: str, composed: Callable[..., Any]) -> None:
    space = read_space(name)
    for pick in (0, -1):
        values = {
            key: distribution.choices[pick]
            if isinstance(distribution, CategoricalDistribution)
            else (distribution.low, distribution.high)[pick]  # type: ignore[attr-defined]
            for key, distribution in space.items()
        }
        assert composed(*overrides(values))["name"] == "train"


def test_misspelt_keys_are_looked_up_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("optimizer.lrr: [1.0e-4, 1.0e-2]")
    for word, sentence in (
        ("trails=2", "Unknown key 'trails'; did you mean 'trials'?"),
        ("fodl=1", "Did you mean 'fold'?"),
        ("space=space.yaml", "error: space=space.yaml: There is no key optimizer.lrr;"),
    ):
        status, _, errors = run_command(command.main)("study=a", word)
        assert status == 2 and sentence in errors and errors.count("\n") == 1


def test_words_are_split(run_command: Any) -> None:
    assert command.split_words(["study=a", "trials=2", "fold=1", "data=csv"]) == (
        ["study=a", "trials=2"],
        ["fold=1", "data=csv"],
    )
    for arguments, part in (
        (["study=a", "jobs=0"], "jobs=0"),
        (["study=a", "warmup=-2"], "warmup=-2; allowed: 0 or more."),
        (["study=a", "grace=-1"], "grace=-1.0; allowed: 0 or more."),
        (["study=a", "sampler_seed=-1"], "sampler_seed=-1; allowed: 0 to 4294967295."),
        (["study=a", "sampler_seed=4294967296"], "allowed: 0 to 4294967295."),
        (["study=a/b"], "name of a folder"),
        (["fold=1"], "Missing: study=..."),
    ):
        status, _, errors = run_command(command.main)(*arguments)
        assert status == 2 and part in errors


@pytest.mark.slow
def test_two_trials_of_real_training(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch, run_command: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}")
    status, output, errors = run_command(command.main)(
        "study=tiny",
        "trials=2",
        "jobs=2",
        "space=space.yaml",
        *TINY,
        f"data.root={tiny_root}",
        f"paths.cache={tmp_path / 'cache'}",
    )
    assert status == 0, output + errors
    assert "2 trials: 2 complete" in output
    for number in (0, 1):
        folder = RunFolder(tmp_path / "multirun" / "tiny" / f"trial={number:03d}")
        assert folder.status()["state"] == "done"
        assert folder.metrics()["epochs"] == 1 and folder.predictions_file("val").is_file()
