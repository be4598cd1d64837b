"""Sentences around the tables: which runs are missing, and how to read the numbers."""

import numpy as np

from product_cls.report.experiment import Experiment
from product_cls.report.rank_agreement import Tau
from product_cls.report.statistics import LEVEL
from product_cls.report.summary import Summary, further_name, further_word, p_word

# With fewer products, statistics are marked as approximate: with 12 products on which the rows do
# unequally well, the error rate was 5.6 %, where 5 % is nominal.
FEW = 20


def right_sentence(experiment: Experiment, summary: Summary) -> str:
    """How many of how many test pictures are right; one line."""
    total, row = len(experiment.pictures.id), summary.baseline
    share, count = summary.rows.mean[row], int(summary.rows.count[row])
    if not count:  # the baseline has no finished run yet
        row = int(np.nanargmax(summary.rows.count))
        share, count = summary.rows.mean[row], int(summary.rows.count[row])
    name = experiment.rows[row]
    setting = "" if len(experiment.rows) == 1 else f" of '{name}'"
    if experiment.ablation and name == "nothing":
        setting = " with nothing left out"
    runs = "1 run" if count == 1 else f"mean of {count} runs"
    return (
        f"{share * total:,.0f} of {total:,} test pictures are right ({100 * share:.1f} %, "
        f"{runs}{setting})."
    )


def headline(experiment: Experiment) -> str:
    """How many runs have finished, when and on which devices; one line without a full stop."""
    done = experiment.finished()
    total = len(experiment.rows) * len(experiment.replicates)
    days = sorted({str(run.status.get("finished") or "")[:10] for run in done} - {""})
    when = "" if not days else f"; {days[0]}" if len(days) == 1 else f"; {days[0]} to {days[-1]}"
    devices = sorted({str(run.metrics["device"]) for run in done if run.metrics.get("device")})
    where = f"; {', '.join(devices)}" if devices else ""
    return f"{len(done)} of {total} runs finished{when}{where}"


def gaps(experiment: Experiment) -> list[str]:
    """A sentence for each row with unfinished runs; shown above every table."""
    total, sentences = len(experiment.replicates), []
    for name, runs in zip(experiment.rows, experiment.runs, strict=True):
        if unfinished := [run for run in runs if not run.done]:
            problems = "; ".join(run.problem() for run in unfinished)
            sentences.append(f"{name}: {total - len(unfinished)} of {total} runs; {problems}.")
    return sentences


def method_notes(experiment: Experiment, summary: Summary) -> list[str]:
    """How the numbers of the table were computed and how to read them; shown below it."""
    pictures = experiment.pictures
    products = int(pictures.product.max()) + 1
    notes = [
        f"Accuracy in % on {len(pictures.id):,} test pictures of {products:,} products, "
        f"{experiment.averaged()} test-time augmentation. "
        f"Runs: {'; '.join(experiment.replicates)}. sd: standard deviation between runs. "
        "95 % (runs): confidence interval of the mean over runs on these pictures; the variance "
        "between runs is pooled over the rows, and a row keeps its own where that is larger.",
    ]
    if len(experiment.rows) > 1:
        base = experiment.rows[summary.baseline]
        if experiment.ablation and base == "nothing":
            base = "nothing left out"
        notes.append(
            f"Differences to '{base}' are in points, paired by seed and picture. Their 95 % "
            f"confidence intervals are over runs and {summary.unit} ({summary.unit} resampled, "
            "Student's t between runs), without correction for the number of rows. p-values are "
            "corrected for all planned rows (Holm). A difference is negligible if its whole "
            f"interval is within {100 * summary.margin:g} "
            f"{'point' if summary.margin == 0.01 else 'points'} of 0, else it is shown with a "
            f"corrected p below {LEVEL:g}, else undecided: the interval shows which effects remain "
            "possible."
        )
        if any(map(further_word, summary.further)):
            notes.append(
                f"Further {further_name(experiment)}: how many more would decide if the difference "
                "stays as measured. 'more products': the test has too few products to decide, "
                "whatever the number of runs."
            )
        if products < FEW:
            notes.append(
                f"With only {products} products, p-values and intervals are approximate: how other "
                "products would differ is only roughly known."
            )
        if experiment.ablation:
            notes.append("'helps': accuracy is lower without the step; 'hurts': it is higher.")
        if np.isnan(summary.differences.p).all():
            notes.append(
                "There are no intervals and no p-values, because no row shares two finished "
                "replicates with the baseline: the variance between runs is unknown."
            )
    if not np.isnan(summary.published).all():
        notes.append(
            "Published: one run per row, on the competition's leaderboard, which uses other "
            "pictures."
        )
    if summary.tau is not None:
        notes.append(_order_sentence(summary.tau))
    return notes


def _order_sentence(tau: Tau) -> str:
    """What the measurement says about the published order of the rows, and what it does not."""
    measured = (
        f"Kendall's tau between the measured and the published order of {tau.count} rows is "
        f"{tau.value:.2f} (1: the same order, 0: no agreement)."
    )
    if np.isnan(tau.low):
        return measured
    shown = "shown" if tau.differs else "not shown"
    return (
        f"{measured} The true order is {shown} to differ from the published one: runs and products "
        f"allow it a tau of {tau.low:.2f} to {tau.high:.2f} (95 %). If the published differences "
        f"held here, noise alone would give a tau of {tau.expected_low:.2f} to "
        f"{tau.expected_high:.2f} (95 %), and {tau.value:.2f} or less with p = {p_word(tau.p)}."
    )
