"""Find hyper-parameters: trials of train.py, chosen by Optuna, each in a process of its own.

    python -m product_cls.tune study=rates trials=30 jobs=2 experiment=grocery data.root=FOLDER

A trial is a run like any other, in ``multirun/<study>/trial=007``, and knows nothing of the search:
its epochs are read from its ``status.json``, and a trial that the pruner gives up is stopped as by
Ctrl-C. ``multirun/<study>/study.db`` (SQLite) remembers all; typed again, the search goes on.
(Hydra's Optuna sweeper, 1.3.0, wants Optuna 2, knows no pruning, and waits for the slowest of a
batch.)
"""

import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.launchers.fork_server import fork_server
from product_cls.launchers.resources import assign_gpus, job_environment, visible_gpus

PROG = "python -m product_cls.tune"


@dataclass
class Arguments:
    """Search for hyper-parameters; other words are settings of train.py that all trials share.

    study: the folder below multirun/; typed again, the search goes on.
    trials: how many in all, those of earlier calls counted in; failed ones count after the first
      that succeeded.
    space: what is varied: a file in conf/search, or FILE.yaml.
    jobs: trials at once; null: as many as there are GPUs, one without.
    gpus: of a trial, where there are GPUs; null: as many as its trainer.devices.
    threads: CPU threads of a trial; null: cores // jobs.
    prune: when a trial is given up early, by the best validation result of its epochs so far:
      median (it is below the median of earlier trials), halving (asynchronous successive halving),
      none.
    warmup: a trial is given up after epoch warmup + 1 at the earliest; the first epochs order
      trials badly (docs/results/search.md).
    startup: trials drawn at random, before TPE models what is good; as many are to be complete
      before median prunes.
    sampler_seed: of what is drawn; with jobs=1 the same search tries the same values.
    grace: seconds for a trial to end after Ctrl-C.
    """

    study: str = MISSING
    trials: int = 20
    space: str = "default"
    jobs: int | None = None
    gpus: int | None = None
    threads: int | None = None
    prune: str = "median"
    warmup: int = 3
    startup: int = 8
    sampler_seed: int = 0
    grace: float = 30.0


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and those of train.py."""
    known = {field.name for field in fields(Arguments)}
    own = [word for word in words if word.partition("=")[0] in known or word in ("-h", "--help")]
    return own, [word for word in words if word not in own]


def main() -> None:
    own, shared = split_words(sys.argv[1:])
    arguments = parse_arguments(Arguments, own, prog=PROG)
    at_least = dict.fromkeys(("trials", "jobs", "gpus", "threads", "startup"), 1)
    for name, least in (at_least | {"warmup": 0, "grace": 0}).items():
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"{name}={value}; allowed: {least} or more.")
    if not 0 <= arguments.sampler_seed < 2**32:
        raise UserError(f"sampler_seed={arguments.sampler_seed}; allowed: 0 to {2**32 - 1}.")
    if not arguments.study or "/" in arguments.study:
        raise UserError(f"study={arguments.study}; allowed: the name of a folder.")
    try:
        import optuna
    except ImportError:
        raise UserError(
            "The search needs Optuna, pip install -e '.[optuna]' (make setup has it)."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # These import Optuna, or Hydra.
    from product_cls.launchers.processes import ProcessesConf
    from product_cls.tune.results import report, shortfall
    from product_cls.tune.space import read_space
    from product_cls.tune.study import Search
    from product_cls.tune.trials import run_trials

    search = Search(
        Path("multirun") / arguments.study,
        read_space(arguments.space),
        shared,
        seed=arguments.sampler_seed,
        startup=arguments.startup,
        prune=arguments.prune,
        warmup=arguments.warmup,
    )
    places = assign_gpus(
        visible_gpus(os.environ),
        arguments.jobs,
        arguments.gpus or search.devices,
        key="gpus, else trainer.devices",
    )
    environments = [
        job_environment(os.environ, gpus, threads=arguments.threads, at_once=len(places))
        for gpus in places
    ]
    modules = ProcessesConf().preload if arguments.trials > 1 else []
    with search.opened():
        with fork_server(modules, environments[0]) as source:
            signum = run_trials(search, arguments.trials, environments, arguments.grace, source)
        found = report(search)
        failure = shortfall(search, arguments.trials) if signum is None else None
    if signum is not None:
        print("Interrupted: typed again, the search goes on.", file=sys.stderr)
        raise SystemExit(128 + signum)
    if failure is not None:
        print(f"error: {failure}", file=sys.stderr)
    if not found:
        raise SystemExit(1)


if __name__ == "__main__":
    guard(main)
