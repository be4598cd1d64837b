"""Search for hyperparameters: Optuna draws trials of train.py, and each runs in its own process.

    python -m product_cls.tune study=rates trials=30 jobs=2 experiment=grocery data.root=FOLDER

A trial is an ordinary run in ``multirun/<study>/trial=007`` and knows nothing of the search, which
reads its epochs from ``status.json`` and stops a pruned trial as Ctrl-C would. The study is
in ``multirun/<study>/study.db`` (SQLite); the same command continues the search.

Hydra's own Optuna sweeper (1.3.0) needs Optuna 2, cannot prune, and waits for the slowest trial of
each batch.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.core.extras import missing_extra
from product_cls.core.names import shown
from product_cls.launchers.fork_server import fork_server
from product_cls.launchers.resources import assign_gpus, job_environment, visible_gpus

PROG = "python -m product_cls.tune"


@dataclass
class Arguments:
    """Search for hyperparameters; other words are settings of training that all trials share.

    study: name of a folder in multirun/; the same command continues the search.
    trials: number of trials in total, including those of earlier calls; failed trials count after
      the first success.
    space: search space: the name of a file in conf/search, or FILE.yaml.
    jobs: concurrent trials; null: as many as the GPUs allow, 1 without GPUs.
    gpus: GPUs of a trial, if there are any; null: its trainer.devices.
    threads: CPU threads of a trial; null: cores // jobs.
    prune: which trials stop early, by the best validation result of their epochs so far:
      median (below the median of earlier trials), halving (asynchronous successive halving),
      none.
    warmup: a trial is pruned after epoch warmup + 1 at the earliest; the first epochs say little
      about the final order (docs/results/search.md).
    startup: number of random trials before TPE models the results; the median pruner waits for as
      many complete trials.
    sampler_seed: seed of the drawn values; with jobs=1 the same search tries the same values.
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
    """Split the words of the command into those of the search and those of train.py."""
    names = {field.name for field in fields(Arguments)}
    own = [word for word in words if word.partition("=")[0] in names or word in ("-h", "--help")]
    return own, [word for word in words if word not in own]


@contextmanager
def own_keys_first(shared: list[str]) -> Iterator[None]:
    """If training does not know a word's key, suggest a similar key of the search.

    Raises:
        UserError: the key is similar to one of the search, or another mistake of the block.
    """
    try:
        yield
    except UserError as error:
        names = [field.name for field in fields(Arguments)]
        for key in (word.partition("=")[0] for word in shared):
            close = get_close_matches(key, names, n=1)
            if close and f"There is no key {key};" in str(error):
                raise UserError(f"Unknown key '{key}'; did you mean '{close[0]}'?") from None
        raise


def main() -> None:
    own, shared = split_words(sys.argv[1:])
    arguments = parse_arguments(Arguments, own, prog=PROG)
    minima = dict.fromkeys(("trials", "jobs", "gpus", "threads", "startup"), 1)
    for name, minimum in (minima | {"warmup": 0, "grace": 0}).items():
        value = getattr(arguments, name)
        if value is not None and value < minimum:
            raise UserError(f"{name}={value}; allowed: {minimum} or more.")
    from product_cls.config.names import check_place_below  # imports OmegaConf

    if not 0 <= arguments.sampler_seed < 2**32:
        raise UserError(f"sampler_seed={arguments.sampler_seed}; allowed: 0 to {2**32 - 1}.")
    if "/" in arguments.study:
        raise UserError(f"study={shown(arguments.study)}; allowed: the name of a folder.")
    check_place_below("study", arguments.study)
    try:
        import optuna
    except ImportError:
        raise missing_extra("The search needs Optuna", "optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Imported here, because they import Optuna or Hydra.
    from product_cls.config.border import keys_for_arguments
    from product_cls.launchers.processes import ProcessesConf
    from product_cls.tune.results import report, shortfall
    from product_cls.tune.space import read_space
    from product_cls.tune.study import Search
    from product_cls.tune.trials import run_trials

    space = read_space(arguments.space)
    with own_keys_first(shared):
        search = Search(
            Path("multirun") / arguments.study,
            space,
            shared,
            seed=arguments.sampler_seed,
            startup=arguments.startup,
            prune=arguments.prune,
            warmup=arguments.warmup,
            space_name=f"space={arguments.space}",
        )
    with keys_for_arguments(gpus_per_job="gpus" if arguments.gpus else "trainer.devices"):
        gpus_of_slots = assign_gpus(
            visible_gpus(os.environ), arguments.jobs, arguments.gpus or search.gpus_per_trial
        )
    environments = [
        job_environment(os.environ, gpus, threads=arguments.threads, at_once=len(gpus_of_slots))
        for gpus in gpus_of_slots
    ]
    modules = ProcessesConf().preload if arguments.trials > 1 else []
    with search.opened():
        with fork_server(modules, environments[0]) as server:
            signum = run_trials(search, arguments.trials, environments, arguments.grace, server)
        has_best = report(search)
        failure = shortfall(search, arguments.trials) if signum is None else None
    if signum is not None:
        print("Interrupted; the same command continues the search.", file=sys.stderr)
        raise SystemExit(128 + signum)
    if failure is not None:
        print(f"error: {failure}", file=sys.stderr)
    if not has_best:
        raise SystemExit(1)


if __name__ == "__main__":
    guard(main)
