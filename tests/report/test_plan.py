"""`report plan`: what an effect takes, from the noise of a sweep."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_sweeps import EFFECTS, folder_of, write_ablation

from product_cls.report.__main__ import main as report_main
from product_cls.report.plan import main

Command = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]
FOUR = {(): 0.0, ("cutmix",): EFFECTS["cutmix",], ("rotate",): -0.01, ("blur",): 0.0}


@pytest.fixture
def four(tmp_path: Path) -> Path:
    return write_ablation(tmp_path / "ablation", FOUR, products=40, pictures=20)


def seeds_of(output: str, row: str) -> list[str]:
    """The cells of a row: seeds now, sd, sd by products, to show, to bound, minutes."""
    (line,) = (line for line in output.splitlines() if line.startswith(f"│ {row} "))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_larger_effects_take_fewer_seeds(four: Path, run_command: Command) -> None:
    numbers = {}
    for effect in ("5", "10"):
        status, output, errors = run_command(main)(f"runs={four}", f"effect={effect}")
        assert (status, errors) == (0, "")
        cells = seeds_of(output, "cutmix")
        assert cells[0] == "3"
        numbers[effect] = [float(cell.replace("over ", "")) for cell in cells[3:5]]
        assert f"Seeds to show an effect of {effect}: with a probability of 80 %" in output
        assert re.search(r"Pairing by seed leaves \d+ % of the variance", output)
    assert all(2 <= a <= b for a, b in zip(numbers["10"], numbers["5"], strict=True))
    assert numbers["10"] != numbers["5"]


def test_minutes_are_of_all_rows_and_jobs(four: Path, run_command: Command) -> None:
    outputs = [
        run_command(main)(f"runs={four}", "effect=30", f"jobs={jobs}")[1] for jobs in ("1", "2")
    ]
    one, two = (seeds_of(output, "rotate") for output in outputs)
    assert one[3] == two[3] and float(one[5]) == pytest.approx(2 * float(two[5]), abs=1)
    assert float(one[5]) == pytest.approx(4 * int(one[3]) * 262.5 / 60, abs=1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["effect=0"], "effect=0; allowed: points above 0 and below 100."),
        (["power=1"], "power=1; allowed: above 0 and below 1."),
        (["jobs=0"], "jobs=0; allowed: 1 or more."),
        (["baseline=none"], "baseline=none; allowed, a row of the table: nothing; cutmix"),
    ],
)
def test_wrong_words(four: Path, run_command: Command, words: list[str], sentence: str) -> None:
    status, _, errors = run_command(main)(f"runs={four}", *words)
    assert status != 0 and errors.startswith(f"error: {sentence}") and errors.count("\n") == 1


def test_one_seed_tells_no_noise(four: Path, run_command: Command) -> None:
    for row in FOUR:
        for seed in (1, 2):
            shutil.rmtree(folder_of(four, row, seed).path)
    status, _, errors = run_command(main)(f"runs={four}")
    assert status != 0
    assert "has no row that shares two finished seeds with 'nothing'" in errors


def test_a_report_says_what_is_negligible_and_what_is_lacking(
    four: Path, run_command: Command
) -> None:
    status, output, _ = run_command(report_main)(f"runs={four}", "published=none")
    assert status == 0
    assert "undecided" in output and "further seeds" in output
    assert "negligible if its whole interval is within 1 point of 0" in output
    status, wide, _ = run_command(report_main)(f"runs={four}", "published=none", "margin=40")
    assert status == 0 and "further seeds" not in wide
    assert wide.count("negligible") >= 3 and "within 40 points" in wide
    for margin in ("0", "-1", "100"):
        status, _, errors = run_command(report_main)(f"runs={four}", f"margin={margin}")
        assert status != 0 and f"margin={margin}; allowed: points above 0" in errors
