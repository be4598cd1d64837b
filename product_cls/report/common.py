"""What the short reports (models, validation) share: resampling, words for numbers,
figures (of their tables, with the colours of ``plots``) and files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import rankdata

from product_cls.core.files import write_bytes_whole, write_text_whole
from product_cls.display.style import png
from product_cls.display.tables import markdown, print_table
from product_cls.report.experiment import Experiment
from product_cls.report.notes import gaps
from product_cls.report.statistics import DRAWS, LEVEL

# A bootstrap of few ranks is too sure of itself: without any correlation its 95 % interval leaves
# out 0 in 13 % of tables of 5 things, in 3 % of 6, 5 % of 8 and 6 % of 12 (500 tables each).
FEWEST = 6


def draw_units(count: int, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Resamples with replacement: int ``[draws, count]``, positions; the same for the same seed."""
    return np.random.default_rng(seed).integers(count, size=(draws, count))


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of resampled values ``[draws]``."""
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def with_interval(value: float, low: float, high: float, sign: str = "") -> str:
    """``87.10 (86.20 to 88.00)``; ``-`` where there is no value, no brackets without an interval.

    Args:
        sign: ``+`` for differences.
    """
    if np.isnan(value):
        return "-"
    between = "" if np.isnan(low) else f" ({low:{sign}.2f} to {high:{sign}.2f})"
    return f"{value:{sign}.2f}{between}"


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis, ties at their mean rank.

    Returns:
        ``[...]``; 0 where all values of one side are the same, for they put nothing in order.
    """
    a, b = (rankdata(values, axis=-1) for values in (x, y))
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    result: np.ndarray = np.divide(
        (a * b).sum(axis=-1), scale, out=np.zeros(scale.shape), where=scale > 0
    )
    return result


@dataclass(frozen=True)
class Rank:
    """A rank correlation, or the difference of two, with its 95 % interval.

    The interval is NaN where there are fewer than ``FEWEST`` things to order.
    """

    value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def word(self, sign: str = "") -> str:
        """``0.71 (0.20 to 1.00)``."""
        return with_interval(self.value, self.low, self.high, sign)


def compare_orders(by: Mapping[str, np.ndarray], target: np.ndarray) -> dict[str, Rank]:
    """How well two measures put the same things in the order of a third.

    Things are resampled with all their values, so the difference is paired.

    Args:
        by: the two measures, ``[K]`` each.
        target: ``[K]``.

    Returns:
        The rank correlation of each with ``target``, and ``difference``: the second's minus the
        first's. Empty with fewer than 3 things or where a value is NaN.
    """
    assert len(by) == 2
    first, second = by
    count = len(target)
    if count < 3 or np.isnan([*by.values(), target]).any():
        return {}
    # At full precision, two equal means that were added up in another order are no tie.
    by, target = {key: x.round(9) for key, x in by.items()}, target.round(9)
    index = draw_units(count)
    value = {key: float(rank_correlation(x, target)) for key, x in by.items()}
    drawn = {key: rank_correlation(x[index], target[index]) for key, x in by.items()}
    value["difference"] = value[second] - value[first]
    drawn["difference"] = drawn[second] - drawn[first]
    ends = {k: interval(d) if count >= FEWEST else (np.nan, np.nan) for k, d in drawn.items()}
    return {key: Rank(value[key], *ends[key]) for key in value}


def reader_notes(experiment: Experiment) -> list[str]:
    """What is missing, and what else of the experiment's notes holds for a short report."""
    # Their intervals are not over folds, so what is said of such does not apply.
    kept = [note for note in experiment.notes if not note.startswith("Replicates are folds")]
    return [*gaps(experiment), *kept]


Block = str | tuple[str, pd.DataFrame]  # a paragraph, or a table and its caption


def publish(
    out: Path,
    title: str,
    said: Sequence[str],
    blocks: Sequence[Block],
    table: pd.DataFrame,
    figure: Figure,
) -> None:
    """Print a report and write it: ``table.md``, ``table.csv``, ``plot.png``, each whole or not.

    Args:
        out: the folder.
        title: one line, without a full stop.
        said: what a reader must know first, in sentences.
        blocks: the text; empty ones are left out.
        table: all numbers, for the CSV file.
        figure: the plot.
    """
    for sentence in said:
        print(f"NOTE: {sentence}")
    print(f"{title}.")
    parts = [f"{title}.", "\n".join(f"- {sentence}" for sentence in said)]
    for block in blocks:
        if isinstance(block, str):
            print(block, end="\n" if block else "")
            parts.append(block)
        elif not block[1].empty:
            print_table(block[1], title=block[0])
            parts.append(f"{block[0]}:\n\n{markdown(block[1])}")
    parts.append("![plot of these numbers](plot.png)")
    text = "\n\n".join(part.strip() for part in parts if part) + "\n"
    write_text_whole(out / "table.md", text)
    write_text_whole(out / "table.csv", table.round(6).to_csv(index=False))
    write_bytes_whole(out / "plot.png", png(figure, dpi=200))
    names = ("table.md", "table.csv", "plot.png")
    print("Written: " + ", ".join(str(out / name) for name in names))
