"""A study on disk: its trials in SQLite, their run folders, and the command of each."""

import json
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import optuna
from filelock import FileLock, Timeout
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState

import product_cls.launchers.processes  # noqa: F401  (conf/config.yaml names its launcher)
from product_cls.config.checks import check_config
from product_cls.config.resolvers import register_resolvers
from product_cls.core.errors import UserError, reason
from product_cls.launchers.base import devices, quoted
from product_cls.launchers.job import Job
from product_cls.runs.folder import RunFolder
from product_cls.tune.space import words

ROOT = Path(__file__).parents[2]


DATABASE = "study.db"


PRUNERS = ("median", "halving", "none")


class Search:
    """A study and how its trials are chosen and typed.

    Args:
        folder: of the study.
        space: what is varied.
        shared: overrides of train.py that all trials share.
        seed: of what is drawn, 0 to 2**32 - 1.
        startup: trials drawn at random first; as many are to be complete before median prunes.
        prune: one of ``PRUNERS``.
        warmup: a trial is pruned after epoch ``warmup + 1`` at the earliest; 0 or more.

    Raises:
        UserError: train.py would refuse the shared overrides or a key of the space.
    """

    def __init__(
        self,
        folder: Path,
        space: Mapping[str, BaseDistribution],
        shared: Sequence[str],
        *,
        seed: int,
        startup: int,
        prune: str,
        warmup: int,
    ) -> None:
        self.folder, self.space, self.shared = folder, dict(space), list(shared)
        self.seed, self.startup = seed, startup
        self.pruner = make_pruner(prune, startup=startup, warmup=warmup)
        self.study: optuna.Study
        self.devices = devices(self.check_words())  # of a trial

    def check_words(self) -> DictConfig:
        """Compose a trial's config, so that a mistake does not cost a start of train.py each.

        Returns:
            The config.

        Raises:
            UserError: with Hydra's reason, or that of train.py.
        """
        if clash := [w for w in self.shared if w.partition("=")[0].lstrip("+~") in self.space]:
            raise UserError(f"{clash[0]} is what the search varies; leave one of them out.")
        settled = ("hydra", "name=", "-")
        if ours := [w for w in self.shared if w.lstrip("+~").startswith(settled)]:
            raise UserError(f"{ours[0]} is settled by the search; leave it out.")
        if sets := [w for w in self.shared if w.lstrip("+").startswith("sweep=")]:
            raise UserError(
                f"{sets[0]} is a set of runs, which the search would not make; name what is to be "
                "varied in space=FILE.yaml instead."
            )
        register_resolvers()
        GlobalHydra.instance().clear()
        example = {key: first_value(each) for key, each in self.space.items()}
        try:
            with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
                config = compose("config", [*self.shared, *words(example)])
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"train.py would refuse this: {reason(error)}.") from None
        if config.fold == "all":
            raise UserError("fold=all has no validation to search by; name a fold.")
        check_config(config)
        return config

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the study, made when missing.

        Raises:
            UserError: another search holds it, or it was made for other settings.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".search.lock", timeout=0):
                self.study = optuna.create_study(
                    storage=f"sqlite:///{self.folder / DATABASE}",
                    study_name=self.folder.name,
                    direction="maximize",  # all that a run watches is better when higher
                    load_if_exists=True,
                    pruner=self.pruner,
                )
                self._check_same()
                yield
        except Timeout:
            raise UserError(
                f"Another search works on {self.folder}; wait for it or change `study`."
            ) from None

    def _check_same(self) -> None:
        mine = {
            "space": {key: distribution_to_json(each) for key, each in self.space.items()},
            "shared": self.shared,
        }
        text = json.dumps(mine, sort_keys=True)
        theirs = self.study.user_attrs.setdefault("settings", text)
        if theirs != text:
            parts = json.loads(theirs)
            what = "search space" if parts["space"] != mine["space"] else "settings of train.py"
            was = "" if what == "search space" else f" ({' '.join(parts['shared']) or 'none'})"
            raise UserError(
                f"{self.folder} was searched with another {what}{was}; results of both cannot be "
                "compared: choose another study=NAME."
            )
        self.study.set_user_attr("settings", text)

    def missing(self, total: int) -> int:
        """How many trials the study lacks of ``total``.

        Those that failed before the first success do not count: what was wrong has been mended.
        Later ones do, for TPE learns nothing from them and may draw the like for ever.
        """
        trials, first = self.study.get_trials(deepcopy=False), self.first_success()
        lost = sum(
            t.state == TrialState.FAIL and (first is None or t.number < first) for t in trials
        )
        return total - len(trials) + lost

    def first_success(self) -> int | None:
        """The number of the first trial that came to its end or was pruned; None without one."""
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        return min(
            (t.number for t in self.study.get_trials(deepcopy=False, states=ended)), default=None
        )

    def interrupted(self) -> list[tuple[Trial, int]]:
        """Trials that an earlier search has left, with the last epoch that the study knows of.

        They go on from their last epochs; one that was left before all its values were drawn has
        failed, for it would train with defaults instead.
        """
        left = []
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = Trial(self.study, frozen._trial_id)
            if frozen.params.keys() == self.space.keys():
                left.append((trial, frozen.last_step or 0))
            else:
                trial.set_user_attr(
                    "error", "The search was killed while it drew this trial's values."
                )
                self.study.tell(trial, state=TrialState.FAIL)
        return left

    def ask(self) -> Trial:
        """The next trial, with its values drawn.

        A sampler starts its random numbers anew in each process, and a search that goes on would
        draw its first trials again; so what is drawn depends on the seed and the trial's number.
        """
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.startup,
            multivariate=True,
            constant_liar=True,  # trials that run beside this one count as bad: no values twice
            # NumPy takes 32 bits.
            seed=(self.seed * 100_003 + len(self.study.get_trials(deepcopy=False))) % 2**32,
        )
        return self.study.ask(self.space)

    def job(self, trial: Trial | FrozenTrial) -> Job:
        """The run of a trial."""
        path = self.path(trial.number)
        chosen = words(trial.params)
        command = [
            sys.executable,
            str(ROOT / "train.py"),
            f"name={quoted(self.folder.name)}",
            *self.shared,
            *chosen,
            f"hydra.run.dir={quoted(str(path))}",
            f"hydra.job.num={trial.number}",
            "hydra.mode=RUN",
        ]
        return Job(trial.number, " ".join(chosen), RunFolder(path), command, None)

    def path(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / f"trial={number:03d}"

    def command(self, trial: FrozenTrial) -> str:
        """What to type into a shell to train as a trial did, in a folder of its own."""
        name = f"name={self.folder.name}-best"
        return shlex.join(["python", "train.py", name, *self.shared, *words(trial.params)])


def make_pruner(prune: str, *, startup: int, warmup: int) -> optuna.pruners.BasePruner:
    """Optuna's pruner of that name; steps are epochs.

    Raises:
        UserError: there is none.
    """
    if prune == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup + 1)
    if prune == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=warmup + 1)
    if prune == "none":
        return optuna.pruners.NopPruner()
    raise UserError(f"prune={prune}; allowed: {', '.join(PRUNERS)}.")


def first_value(distribution: Any) -> Any:
    """One of the values that a key may take."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low


def is_result(value: Any) -> TypeGuard[float]:
    """Whether a run's metric is a number that trials can be compared by."""
    return isinstance(value, int | float) and math.isfinite(value)
