"""Every file in conf/sweep composes with each of its values; none misses a schedule."""

from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from runs_in_process import ROOT

SWEEPS = sorted(path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml"))


def params(sweep: str) -> dict[str, str]:
    text = (ROOT / "conf" / "sweep" / f"{sweep}.yaml").read_text()
    return dict(yaml.safe_load(text)["hydra"]["sweeper"]["params"])


def choices(key: str, values: str) -> list[str]:
    """The overrides that Hydra's sweeper creates from one line."""
    (override,) = OverridesParser.create().parse_overrides([f"{key}={str(values).strip()}"])
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def group(name: str) -> set[str]:
    return {path.stem for path in (ROOT / "conf" / name).glob("*.yaml")}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_value_composes(composed: Any, sweep: str) -> None:
    """All choices of a group; for plain values, the grammar and one value."""
    once = [choices(key, values)[-1] for key, values in params(sweep).items()]
    assert composed(f"sweep={sweep}", *once)["name"] == sweep
    for key, values in params(sweep).items():
        for choice in choices(key, values)[:-1] if group(key) else ():
            composed(f"sweep={sweep}", choice)


def test_no_schedule_or_optimizer_is_left_out() -> None:
    for sweep, key in (("schedules", "scheduler"), ("optimizers", "optimizer")):
        assert set(params(sweep)[key].split(",")) == group(key)


@pytest.mark.parametrize("folder", ["sweep", "experiment"])
def test_recipes_leave_the_launcher_to_the_command(folder: str) -> None:
    """Settings of one launcher, such as `jobs`, are errors with another."""
    for path in (ROOT / "conf" / folder).glob("*.yaml"):
        assert "launcher" not in (yaml.safe_load(path.read_text()) or {}).get("hydra", {}), path
