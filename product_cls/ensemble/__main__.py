"""Blend the predictions of several runs into one; write a table and a submission.

    python -m product_cls.ensemble runs=multirun/NAME

Reads only the runs' folders. The test split is blended over all runs, and each validation picture
over the runs that held it out (out of fold). Softmax runs vote; retrieval runs are joined by their
embeddings; with both kinds, the share of each is tuned on the out-of-fold predictions.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.files import check_place
from product_cls.runs.folder import find_runs


@dataclass
class Arguments:
    """Blend all finished runs of a sweep; print and write a table, predictions and a submission.

    runs: the sweep's folder, multirun/NAME, or several, as [multirun/softmax,multirun/retrieval].
    out: folder to write to; null: RUNS/ensemble, in the first folder.
    method: for softmax runs mean, gmean (geometric mean) or sharpened (mean of square roots); for
      several labels mean or logits (mean of logits); retrieval runs join their embeddings.
    weights: one number per run, in the order of the folders and of the runs' names; null: equal;
      greedy or optimised: tuned for groups of softmax runs on their held-out pictures.
    share: weight of the retrieval runs against the softmax runs, 0 to 1; null: tuned out of fold.
    thresholds: for several labels, global (one for all) or per_label, tuned out of fold for the
      goal (accuracy or f1), or half; null: global if there are held-out pictures.
    prior: class totals of the test: uniform, estimated, or a CSV with the columns label and count;
      null: none. They get a row and a submission of their own (submission-class-totals.csv).
    verify: sift: scores are joined with the points that a picture has in common with known pictures
      of its best classes, where these agree on one homography; weighted on held-out pictures. The
      blend before it stays in the table. null: none.
    device: where retrieval runs are searched: auto, cpu, cuda.
    csv: plain, or excel for tables that a spreadsheet opens right (numbers keep their zeros).
    wandb: W&B project to log the ensemble to, with the artifacts of its runs as inputs.
    """

    runs: Any = MISSING
    out: str | None = None
    method: str = "mean"
    weights: Any = None
    share: float | None = None
    thresholds: str | None = None
    goal: str = "accuracy"
    prior: str | None = None
    verify: str | None = None
    device: str = "auto"
    csv: str = "plain"
    wandb: str | None = None


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.ensemble")
    check_style(arguments.csv)
    runs = arguments.runs if isinstance(arguments.runs, list) else [arguments.runs]
    roots = [Path(str(name)) for name in runs]
    for root in roots:
        find_runs(root)  # fails before the imports, which take seconds
    out = Path(arguments.out) if arguments.out else roots[0] / "ensemble"
    check_place(out)

    from product_cls.display.tables import print_table
    from product_cls.ensemble.blend_folders import blend_folders, title_of

    result = blend_folders(
        roots,
        method=arguments.method,
        weights=arguments.weights,
        share=arguments.share,
        thresholds=arguments.thresholds,
        goal=arguments.goal,
        prior=arguments.prior,
        verify=arguments.verify,
        device=arguments.device,
    )
    for sentence in result.sentences():
        print(sentence)
    files = result.write(out, csv=arguments.csv)
    for (measure, tta), table in result.tables.items():
        # With several measures, tables without test-time augmentation are in the files only.
        if tta or len(result.measures) == 1:
            print_table(table, title=f"{', '.join(map(str, roots))}: {title_of(measure, tta)}")
    if result.decisions is not None:
        print_table(result.decisions.table, title="measures in % by how labels are decided")
    if formulas := result.formulas(arguments.csv):
        print(f"NOTE: {formulas}")
    print("Written: " + ", ".join(map(str, files)))
    if arguments.wandb is not None:
        from product_cls.tracking.wandb_ensemble import keep_ensemble

        table = result.tables[result.measures[0], True]
        keep_ensemble(
            arguments.wandb,
            roots[0].name,
            result.inputs,
            out,
            result.splits,
            table,
            asdict(arguments),
        )


if __name__ == "__main__":
    guard(main)
