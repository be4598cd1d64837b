"""What a reader must know to read the tables, in sentences: what is missing, what a number is."""

import numpy as np

from product_cls.report.experiment import Experiment
from product_cls.report.statistics import LEVEL
from product_cls.report.summary import Summary

FEW = 20  # products; measured with 12 that rows suit unevenly: an error rate of 5.6 % for 5


def headline(experiment: Experiment) -> str:
    """What the page is about, in one line."""
    done = experiment.finished()
    total = len(experiment.rows) * len(experiment.replicates)
    days = sorted({str(job.status.get("finished") or "")[:10] for job in done} - {""})
    when = "" if not days else f"; {days[0]}" if len(days) == 1 else f"; {days[0]} to {days[-1]}"
    devices = sorted({str(job.metrics["device"]) for job in done if job.metrics.get("device")})
    where = f"; {', '.join(devices)}" if devices else ""
    return f"{len(done)} of {total} runs finished{when}{where}"


def gaps(experiment: Experiment) -> list[str]:
    """A sentence for each row that lacks runs; it stands above every table."""
    total, sentences = len(experiment.replicates), []
    for name, jobs in zip(experiment.rows, experiment.jobs, strict=True):
        lacking = [job for job in jobs if job.state != "done"]
        if lacking:
            why = "; ".join(f"{job.replicate} {job.state}: {job.reason}" for job in lacking)
            sentences.append(f"{name}: {total - len(lacking)} of {total} runs; {why}.")
    return sentences


def method_notes(experiment: Experiment, summary: Summary) -> list[str]:
    """What the numbers are and how they were had, for below the table."""
    pictures = experiment.pictures
    count = len(pictures.id)
    products = int(pictures.product.max()) + 1
    replicates = ", ".join(experiment.replicates)
    notes = [
        f"Accuracy in % on {count:,} test pictures of {products:,} products, "
        f"{experiment.averaged()} test-time augmentation; runs: {replicates}; "
        "sd: standard deviation between runs. 95 % (runs): interval of the mean over runs on these "
        "pictures, with the variance between runs pooled over the rows (a row's own where that is "
        "larger).",
    ]
    if len(experiment.rows) > 1:
        base = experiment.rows[summary.baseline]
        if experiment.ablation and base == "nothing":
            base = "nothing left out"
        notes.append(
            f"Differences in points to '{base}', same seeds and same pictures; their interval is "
            f"over runs and {summary.unit} ({summary.unit} resampled, Student's t between runs), "
            "each row by itself; p-values are corrected for all rows planned (Holm), and a verdict "
            f"means a corrected p below {LEVEL:g}. 'Not shown' is no proof of no effect: the "
            "interval tells which effects remain possible."
        )
        if products < FEW:
            notes.append(
                f"With {products} products what other products would bring is known roughly: "
                "p-values and intervals are approximate."
            )
        if experiment.ablation:
            notes.append("'helps': accuracy is lower without the step; 'hurts': it is higher.")
        if np.isnan(summary.differences.p).all():
            notes.append(
                "No row has two finished runs beside the baseline's, so nothing is known of the "
                "variance between runs: no intervals, no p-values."
            )
    if not np.isnan(summary.published).all():
        notes.append("Published: one run a row, leaderboard of the competition; other pictures.")
    if summary.tau is not None:
        tau = summary.tau
        between = "" if np.isnan(tau.low) else f" (95 %: {tau.low:.2f} to {tau.high:.2f})"
        notes.append(
            f"Kendall's tau of the measured with the published order of {tau.count} rows: "
            f"{tau.value:.2f}{between}; 1 is the same order, 0 none in common."
        )
    return notes
