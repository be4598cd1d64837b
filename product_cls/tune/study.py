"""A study on disk: its trials in SQLite, their run folders and their commands."""

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import optuna
from filelock import FileLock, Timeout
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState

from product_cls.config.checks import check_config
from product_cls.config.compose import CONFIG_DIR, compose_run, split_config_dirs, sweep_sources
from product_cls.config.monitor_mode import mode_of
from product_cls.core.cli import command_words
from product_cls.core.errors import UserError
from product_cls.launchers.base import (
    gpus_per_job,
    quoted,
    train_command,
)
from product_cls.launchers.job import Job
from product_cls.runs.folder import RunFolder
from product_cls.tune.space import overrides

DATABASE = "study.db"
PRUNERS = ("median", "halving", "none")


class Search:
    """A study, which draws its trials and creates their jobs.

    Args:
        folder: the folder of the study.
        space: distributions by key of train.py.
        shared: overrides of train.py that all trials share, and ``--config-dir`` flags.
        seed: seed of the sampler, 0 to 2**32 - 1.
        startup: number of random trials at the start; the median pruner waits for as many complete
            trials.
        prune: one of ``PRUNERS``.
        warmup: 0 or more; a trial is pruned after epoch ``warmup + 1`` at the earliest.
        space_name: names the space in messages.

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
        space_name: str = "The search space",
    ) -> None:
        self.folder, self.space, self.space_name = folder, dict(space), space_name
        self.shared, folders = split_config_dirs(shared)
        # Apart from the overrides, because Hydra's argparse takes those in one run of words only.
        self.flags = [f"{CONFIG_DIR}={name}" for name in folders]
        self.seed, self.startup = seed, startup
        self.pruner = make_pruner(prune, startup=startup, warmup=warmup)
        self.study: optuna.Study
        self.gpus_per_trial = gpus_per_job(self.check_overrides())

    def check_overrides(self) -> DictConfig:
        """Compose a trial's config, so that mistakes show before any trial starts.

        Returns:
            The config.

        Raises:
            UserError: Hydra or train.py would refuse the config, or the search cannot use it.
        """
        if fixed := [key for key in self.space if key.startswith(("monitor", "metrics."))]:
            raise UserError(
                f"{self.space_name} varies {fixed[0]}, but trials are compared by one metric."
            )
        if clash := [w for w in self.shared if w.partition("=")[0].lstrip("+~") in self.space]:
            raise UserError(f"{clash[0]}: the search varies this key; leave it out here or there.")
        reserved = ("hydra", "name=", "-")
        if refused := [w for w in self.shared if w.lstrip("+~").startswith(reserved)]:
            raise UserError(f"{refused[0]} is set by the search; leave it out.")
        example = {key: first_value(distribution) for key, distribution in self.space.items()}
        try:
            run = compose_run([*self.flags, *self.shared, *overrides(example)])
        except UserError as error:
            compose_run([*self.flags, *self.shared])  # raises if the mistake is in these words
            raise UserError(f"{self.space_name}: {error}") from None
        if run.swept:
            sources = " ".join(sweep_sources(self.shared)) or "This config"
            raise UserError(
                f"{sources} is a set of runs (of {', '.join(run.swept)}), but each trial is one "
                "run; name the keys to vary in space=FILE.yaml instead."
            )
        config = run.config
        if config.fold == "all":
            raise UserError("fold=all has no validation data to compare trials by; name a fold.")
        check_config(config)
        if mode_of(str(config.monitor), config.metrics) == "min":
            raise UserError(
                f"monitor={config.monitor}: a search looks for the highest value, but a lower one "
                f"is better here; monitor another metric."
            )
        return config

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Create or load the study, and lock it.

        Raises:
            UserError: another search has locked the study, or it was created with other settings.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".search.lock", timeout=0):
                self.study = optuna.create_study(
                    storage=f"sqlite:///{self.folder / DATABASE}",
                    study_name=self.folder.name,
                    direction="maximize",  # a higher validation metric of a run is always better
                    load_if_exists=True,
                    pruner=self.pruner,
                )
                self._check_same()
                yield
        except Timeout:
            raise UserError(
                f"Another search uses {self.folder}; wait for it, or choose another study=NAME."
            ) from None

    def _check_same(self) -> None:
        settings = {
            "space": {key: distribution_to_json(values) for key, values in self.space.items()},
            "shared": [*self.flags, *self.shared],
        }
        text = json.dumps(settings, sort_keys=True)
        stored_text = self.study.user_attrs.setdefault("settings", text)
        if stored_text != text:
            stored = json.loads(stored_text)
            difference = f"other settings ({' '.join(stored['shared']) or 'none'})"
            if stored["space"] != settings["space"]:
                difference = "another search space"
            raise UserError(
                f"{self.folder} has trials with {difference}, whose results cannot be compared; "
                "choose another study=NAME."
            )
        self.study.set_user_attr("settings", text)

    def missing(self, total: int) -> int:
        """The number of trials to run until the study has ``total``.

        Failures before the first success do not count, because their cause has been fixed. Later
        failures do: TPE learns nothing from them, and might draw similar values forever.
        """
        trials, first = self.study.get_trials(deepcopy=False), self.first_success()
        uncounted = sum(
            t.state == TrialState.FAIL and (first is None or t.number < first) for t in trials
        )
        return total - len(trials) + uncounted

    def first_success(self) -> int | None:
        """The number of the first trial that is complete or pruned; None if there is none."""
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        return min(
            (t.number for t in self.study.get_trials(deepcopy=False, states=states)), default=None
        )

    def interrupted(self) -> list[tuple[Trial, int]]:
        """Unfinished trials of an earlier search, each with the last epoch in the study.

        They resume from their checkpoints. A trial that lacks some of its values is recorded as
        failed, because it would train with defaults instead.
        """
        unfinished = []
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = Trial(self.study, frozen._trial_id)
            if frozen.params.keys() == self.space.keys():
                unfinished.append((trial, frozen.last_step or 0))
            else:
                trial.set_user_attr(
                    "error", "The search was killed while it drew this trial's values."
                )
                self.study.tell(trial, state=TrialState.FAIL)
        return unfinished

    def ask(self) -> Trial:
        """Draw the values of the next trial.

        The draws depend on the seed and the trial's number. With one seed per process, a continued
        search would draw its first trials again.
        """
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.startup,
            multivariate=True,
            constant_liar=True,  # running trials count as bad, so that values do not repeat
            # NumPy seeds have 32 bits.
            seed=(self.seed * 100_003 + len(self.study.get_trials(deepcopy=False))) % 2**32,
        )
        return self.study.ask(self.space)

    def job(self, trial: Trial | FrozenTrial) -> Job:
        """The job that trains a trial."""
        path = self.path(trial.number)
        values = overrides(trial.params)
        command = [
            *train_command(),
            *self.flags,
            f"name={quoted(self.folder.name)}",
            *self.shared,
            *values,
            f"hydra.run.dir={quoted(str(path))}",
            f"hydra.job.num={trial.number}",
            "hydra.mode=RUN",
        ]
        return Job(trial.number, " ".join(values), RunFolder(path), command, None)

    def path(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / f"trial={number:03d}"

    def command(self, trial: FrozenTrial) -> str:
        """The shell command that repeats a trial in a run folder of its own."""
        program = command_words("train").split()
        name = f"name={self.folder.name}-best"
        return shlex.join([*program, *self.flags, name, *self.shared, *overrides(trial.params)])


def make_pruner(prune: str, *, startup: int, warmup: int) -> optuna.pruners.BasePruner:
    """Optuna's pruner by name; its steps are epochs.

    Raises:
        UserError: an unknown name.
    """
    if prune == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup + 1)
    if prune == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=warmup + 1)
    if prune == "none":
        return optuna.pruners.NopPruner()
    raise UserError(f"prune={prune}; allowed: {', '.join(PRUNERS)}.")


def first_value(distribution: Any) -> Any:
    """An example value of a distribution: its first choice or its lower bound."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low


def is_result(value: Any) -> TypeGuard[float]:
    """Whether a run's metric is a finite number, so that trials can be compared by it."""
    return isinstance(value, int | float) and math.isfinite(value)
