"""Schedule plots show the learning rates that a run would use."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from product_cls.display.style import png
from product_cls.optim.schedules import cosine_lr, restarts_lr
from product_cls.report.schedule import main
from product_cls.report.schedule_plot import (
    known_schedules,
    learning_rates,
    load_schedule,
    rate_table,
    schedule_figure,
)

Command = Callable[..., tuple[int, str, str]]


def test_rates_are_those_of_the_schedule() -> None:
    rates = learning_rates(load_schedule("warmup_cosine", {}), 50, 1e-3)
    assert rates.tolist() == pytest.approx([cosine_lr(t, 50, 1e-3, 1e-6, 5) for t in range(51)])
    arguments = {"warmup": 0.0, "period": 0.5, "decay": 0.5}
    rates = learning_rates(load_schedule("cosine_restarts", arguments), 50, 1e-3)
    expected = [restarts_lr(t, 50, 1e-3, 1e-6, 25, decay=0.5) for t in range(51)]
    assert rates.tolist() == pytest.approx(expected)


def test_each_schedule_has_a_panel_on_a_common_scale() -> None:
    rates = {"a": np.linspace(1, 0, 21), "b": np.full(21, 0.5)}
    figure = schedule_figure(rates, steps_per_epoch=5)
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == ["a", "b"]
    x, y = panels[1].get_lines()[0].get_data()
    assert x.max() == 4.0 and np.asarray(y).tolist() == [0.5] * 21
    assert panels[0].get_ylim() == panels[1].get_ylim()
    table = rate_table(rates, steps_per_epoch=5)
    assert table["step"].tolist() == [str(2 * k) for k in range(11)]
    assert table["a"].tolist()[::5] == ["1", "0.5", "0"] and table["epoch"].iloc[-1] == 4.0


def test_all_schedules_or_a_selection(run_command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command: Command = run_command(main)
    out = tmp_path / "pictures" / "all.png"
    status, output, _ = command(f"out={out}", "epochs=4", "steps_per_epoch=5")
    assert status == 0 and f"Written: {out}" in output
    names = known_schedules()
    assert len(names) >= 6 and all(name in output for name in names)
    assert Image.open(out).width > 800
    status, output, _ = command(
        "scheduler=[cosine,polynomial]", "arguments={warmup: 0.5}", "lr=0.02", f"out={out}"
    )
    row = next(line.split() for line in output.splitlines() if line.startswith("│ 1000"))
    assert status == 0 and row[-4:] == ["0.02", "│", "0.02", "│"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["scheduler=cosin"], "scheduler=cosin; allowed: constant, cosine, cosine_restarts"),
        (["scheduler=[]"], "scheduler=[] names none"),
        (["epochs=0"], "epochs=0; allowed: 1 or more."),
        (["steps_per_epoch=-1"], "steps_per_epoch=-1; allowed: 1 or more."),
        (["lr=0"], "lr=0.0; it must be above 0."),
        (["scheduler=cosine", "arguments={warmup: 2}"], "scheduler.warmup=2"),
        (["scheduler=constant", "arguments={speed: 2}"], "argument 'speed'."),
    ],
)
def test_wrong_words(run_command, tmp_path: Path, words: list[str], sentence: str) -> None:  # type: ignore[no-untyped-def]
    command: Command = run_command(main)
    status, _, errors = command(*words, f"out={tmp_path / 'x.png'}")
    assert status == 2 and sentence in errors and errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_names_in_plots_are_drawn_as_they_are() -> None:
    figure = Figure(figsize=(4, 1))
    axes = figure.subplots()
    axes.set_title("정면 $x^{$ and $y")  # as mathematics it could not be drawn
    axes.set_yscale("log")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font lacks
        assert png(figure)
    assert any("mathdefault" in label.get_text() for label in axes.get_yticklabels())
