"""The numbers, tables and plot of ``report curve``."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.display.style import GREY, INK, SHADES, SHAPES, open_panel
from product_cls.inference.predictions import Predictions
from product_cls.metrics.calibration import calibration_error
from product_cls.report.experiment import Experiment
from product_cls.report.plots import read_curve
from product_cls.report.resampling import with_interval
from product_cls.report.statistics import compare_rows, count_hits, known_mean
from product_cls.report.sweep_plan import ExperimentRun

CAUSES = ("train loss", "confidence", "calibration error")


@dataclass(frozen=True)
class CurvePoint:
    """One value of x on one curve.

    Attributes:
        series: the further settings, as typed; "" if there are none.
        x: the value.
        rows: positions of the two rows in the experiment, the first value's row first.
    """

    series: str
    x: float
    rows: tuple[int, int]


@dataclass(frozen=True)
class CurveStudy:
    """P points on all curves. Accuracies and differences are shares, 0 to 1.

    Attributes:
        points: in the order of series and x.
        x: name of the horizontal axis.
        values: the two values of the compared setting.
        accuracy: mean over the runs, ``[P, 2]``; NaN without runs.
        difference: first minus second, ``[P]``, paired by seed; NaN without pairs of runs.
        low, high: their 95 % intervals, ``[P]``.
        p: p-values for no difference, ``[P]``, without correction.
        pairs: pairs of runs, int ``[P]``.
        views: names of the V views; empty if there is only one.
        by_view: differences by view, ``[P, V]``.
        causes: means of ``CAUSES`` over the runs, ``[P, 2, 3]``; NaN where unknown.
    """

    points: list[CurvePoint]
    x: str
    values: tuple[str, str]
    accuracy: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    pairs: np.ndarray
    views: list[str]
    by_view: np.ndarray
    causes: np.ndarray

    @property
    def title(self) -> str:
        return f"{self.values[0]} minus {self.values[1]}"


def read_curves(experiment: Experiment, compare: str, x: str) -> CurveStudy:
    """Compare the two values of a swept setting at each value of another.

    Args:
        experiment: a sweep over both.
        compare: swept setting with two values.
        x: swept setting of numbers.

    Raises:
        UserError: the sweep does not vary them so, or no point has runs of both values.
    """
    points, values = _points(experiment, compare, x)
    pictures, correct = experiment.pictures, experiment.correct()
    hits, sizes = count_hits(correct, pictures.product)
    first, second = ([point.rows[k] for point in points] for k in (0, 1))
    paired = hits[first] - hits[second]
    numbers = np.full((4, len(points)), np.nan)
    pairs = np.zeros(len(points), dtype=int)
    # One value of x at a time, because the noise of short and long trainings is not the same.
    for value in {point.x for point in points}:
        at = [k for k, point in enumerate(points) if point.x == value]
        # The baseline of the comparison is a row of no difference.
        result = compare_rows(
            np.concatenate([np.zeros((1, *hits.shape[1:])), paired[at]]), sizes, 0
        )
        numbers[:, at] = np.array([result.estimate, result.low, result.high, result.p])[:, 1:]
        pairs[at] = result.pairs[1:]
    if not pairs.any():
        raise UserError(
            f"No {x} has finished runs of both {compare}={values[0]} and {compare}={values[1]} "
            f"with the same seed."
        )
    accuracy = known_mean(hits.sum(axis=2) / sizes.sum(), axis=1)
    views = sorted({view for view in pictures.view if view}, key=natural_key)
    views = views if len(views) > 1 else []
    parts = [correct[:, :, pictures.view == view].mean(axis=2) for view in views]
    by_view = [known_mean(part[first] - part[second], axis=1) for part in parts]
    causes = np.array(
        [[_causes(experiment, row) for row in point.rows] for point in points], dtype=float
    )
    difference, low, high, p = numbers
    return CurveStudy(
        points=points,
        x=x,
        values=values,
        accuracy=np.stack([accuracy[first], accuracy[second]], axis=1),
        difference=difference,
        low=low,
        high=high,
        p=p,
        pairs=pairs,
        views=views,
        by_view=np.array(by_view).T.reshape(len(points), -1),
        causes=causes,
    )


def _points(
    experiment: Experiment, compare: str, x: str
) -> tuple[list[CurvePoint], tuple[str, str]]:
    factors = list(experiment.factors)
    for word, key in (("compare", compare), ("x", x)):
        if key not in factors:
            allowed = ", ".join(factors) or "none"
            raise UserError(f"{word}={key} is not varied by this sweep; allowed: {allowed}.")
    if compare == x:
        raise UserError(f"compare={compare} and x={x} are the same setting.")
    at, along = factors.index(compare), factors.index(x)
    found = list(dict.fromkeys(row[at] for row in experiment.factor_values))
    if len(found) != 2:
        raise UserError(
            f"compare={compare} has {len(found)} values in this sweep ({', '.join(found)}); "
            f"allowed: a setting with 2."
        )
    places: dict[tuple[str, str], dict[str, int]] = {}
    for row, settings in enumerate(experiment.factor_values):
        series = " ".join(
            f"{key}={value}"
            for k, (key, value) in enumerate(zip(factors, settings, strict=True))
            if k not in (at, along)
        )
        places.setdefault((series, settings[along]), {})[settings[at]] = row
    points = []
    for (series, value), rows in places.items():
        try:
            number = float(value)
        except ValueError:
            raise UserError(
                f"x={x} has the value {value}; allowed: a setting of numbers."
            ) from None
        if len(rows) == 2:
            points.append(CurvePoint(series, number, (rows[found[0]], rows[found[1]])))
    if not points:
        raise UserError(f"No {x} has rows of both {compare}={found[0]} and {compare}={found[1]}.")
    names = list(dict.fromkeys(point.series for point in points))
    points.sort(key=lambda point: (names.index(point.series), point.x))
    return points, (found[0], found[1])


def _causes(experiment: Experiment, row: int) -> np.ndarray:
    """``CAUSES`` of a row, means over its finished runs."""
    runs = [run for run in experiment.runs[row] if run.done]
    parts = [_causes_of_run(run, experiment) for run in runs]
    return known_mean(np.array(parts).reshape(-1, len(CAUSES)), axis=0)


def _causes_of_run(run: ExperimentRun, experiment: Experiment) -> list[float]:
    curve = read_curve(run, "train/loss_epoch")
    loss = np.nan if curve is None or curve.empty else float(curve.iloc[-1])
    assert run.settings is not None and run.outcome is not None
    predictions = Predictions.load(run.settings.folder.predictions_file("test"))
    scores = (predictions if experiment.tta else predictions.without_tta()).scores
    if scores.ndim != 2 or not np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return [loss, np.nan, np.nan]  # scores of other tasks are no probabilities of one class
    order = np.argsort(predictions.id, kind="stable")
    rows = order[np.searchsorted(predictions.id[order], experiment.pictures.id)]
    confidence = scores[rows].max(axis=1)
    return [loss, float(confidence.mean()), calibration_error(confidence, run.outcome.correct)]


def readers_table(study: CurveStudy) -> pd.DataFrame:
    """Accuracies in per cent and the difference in points with its 95 % interval."""
    intervals = zip(study.difference, study.low, study.high, strict=True)
    series = [point.series for point in study.points]
    columns: dict[str, object] = {"settings": series} if any(series) else {}
    return pd.DataFrame(
        {
            **columns,
            study.x: [f"{point.x:g}" for point in study.points],
            study.values[0]: 100 * study.accuracy[:, 0],
            study.values[1]: 100 * study.accuracy[:, 1],
            "difference (95 %)": [
                with_interval(100 * value, 100 * low, 100 * high, "+")
                for value, low, high in intervals
            ],
            "pairs of runs": study.pairs,
        }
    )


def views_table(study: CurveStudy) -> pd.DataFrame:
    """Differences in points by view; empty for a single view."""
    if not study.views:
        return pd.DataFrame()
    series = [point.series for point in study.points]
    columns: dict[str, object] = {"settings": series} if any(series) else {}
    return pd.DataFrame(
        {
            **columns,
            study.x: [f"{point.x:g}" for point in study.points],
            **{
                f"view {view}": [_signed(value) for value in 100 * study.by_view[:, v]]
                for v, view in enumerate(study.views)
            },
            "all": [_signed(value) for value in 100 * study.difference],
        }
    )


def causes_table(study: CurveStudy) -> pd.DataFrame:
    """Train loss of the last epoch; confidence and calibration error on the test in per cent."""
    series = [point.series for point in study.points]
    columns: dict[str, object] = {"settings": series} if any(series) else {}
    scale = (1, 100, 100)
    return pd.DataFrame(
        {
            **columns,
            study.x: [f"{point.x:g}" for point in study.points],
            **{
                f"{name}, {value}": scale[c] * study.causes[:, v, c]
                for c, name in enumerate(CAUSES)
                for v, value in enumerate(study.values)
            },
        }
    )


def csv_table(study: CurveStudy) -> pd.DataFrame:
    """All numbers, in per cent and points."""
    table = pd.DataFrame(
        {
            "settings": [point.series for point in study.points],
            study.x: [point.x for point in study.points],
            f"accuracy {study.values[0]}": 100 * study.accuracy[:, 0],
            f"accuracy {study.values[1]}": 100 * study.accuracy[:, 1],
            "difference": 100 * study.difference,
            "difference_low": 100 * study.low,
            "difference_high": 100 * study.high,
            "p": study.p,
            "pairs": study.pairs,
        }
    )
    for v, view in enumerate(study.views):
        table[f"difference view {view}"] = 100 * study.by_view[:, v]
    causes = causes_table(study).drop(columns=["settings", study.x], errors="ignore")
    return pd.concat([table, causes], axis=1)


def method_notes(study: CurveStudy, experiment: Experiment) -> list[str]:
    """How the numbers were computed."""
    count = len(experiment.pictures.id)
    products = int(experiment.pictures.product.max()) + 1
    return [
        f"Accuracy in % on {count:,} test pictures of {products:,} products, "
        f"{experiment.averaged()} test-time augmentation. Differences are in points, paired by "
        f"seed and picture, with 95 % intervals over runs and products (products resampled, "
        f"Student's t between runs, whose variance is pooled over curves at the same place), "
        f"without correction for the number of points.",
        "Train loss is that of the last epoch, on mixed pictures where pictures are mixed. "
        "Confidence is the highest score, its calibration error the mean distance to the accuracy "
        "in 15 bins, both on the test and in %.",
    ]


def curve_figure(study: CurveStudy) -> Figure:
    """The difference against x, a curve for each series, with 95 % intervals."""
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.subplots()
    open_panel(axes)
    axes.axhline(0, color=GREY, linewidth=1)
    names = list(dict.fromkeys(point.series for point in study.points))
    for n, name in enumerate(names):
        places = [k for k, point in enumerate(study.points) if point.series == name]
        x = np.array([study.points[k].x for k in places]) * 1.03 ** (n - (len(names) - 1) / 2)
        shade, shape = SHADES[n % len(SHADES)], SHAPES[n % len(SHAPES)]
        estimate = 100 * study.difference[places]
        axes.plot(x, estimate, f"{shape}-", color=shade, label=name or None)
        axes.vlines(x, 100 * study.low[places], 100 * study.high[places], color=shade)
    values = sorted({point.x for point in study.points})
    if values[0] > 0 and values[-1] / values[0] >= 8:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set_xlabel(study.x, fontsize=9, color=INK)
    axes.set_ylabel(f"{study.title} (points)", fontsize=9, color=INK)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _signed(points: float) -> str:
    return "-" if np.isnan(points) else f"{points:+.2f}"
