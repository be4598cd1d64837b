"""One page that holds everything: no script, no file beside it, nothing from the network."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from product_cls.analysis.confusions import Confusion
from product_cls.core.errors import without_login
from product_cls.data.pictures import load_picture
from product_cls.display.style import png
from product_cls.report.confusions import Trio, find_pictures, worst_pairs
from product_cls.report.experiment import Experiment, Job
from product_cls.report.notes import gaps, headline, method_notes
from product_cls.report.plots import curves_figure, monitored, result_figure, view_figure
from product_cls.report.summary import Summary, result_table, view_table

SIDE = 150  # pixels of pictures on the page
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --page: #fff; --soft: #5d5d5d; --line: #ddd;
  --alert: #a34100; --alert-page: #fff4ec; --good: #0062a3; --bad: #b34700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --page: #16181b; --soft: #a5a5a5;
  --line: #3a3d42; --alert: #ffb27a; --alert-page: #33241a; --good: #6cbcf0; --bad: #ff9a5c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
.sub, .notes, figcaption { color: var(--soft); font-size: .88rem; } .notes { max-width: 56rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .28rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
.wide td { white-space: normal; text-align: left; vertical-align: top; }
.wide th { text-align: left; }
.alert { color: var(--alert); background: var(--alert-page); border-left: 4px solid var(--alert);
  padding: .5rem 1rem; } .alert ul { margin: .3rem 0; padding-left: 1.2rem; }
.helps, .better { color: var(--good); font-weight: 600; }
.hurts, .worse { color: var(--bad); font-weight: 600; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr)); gap: 1.4rem; }
.pair > div { display: flex; gap: .5rem; } figure { margin: 0; width: 150px; }
figcaption { line-height: 1.25; overflow-wrap: anywhere; } .pair p { margin: 0 0 .3rem; }
pre { overflow-x: auto; font-size: .8rem; border: 1px solid var(--line); padding: .8rem; }
@media print { body { max-width: none; margin: 0; font-size: 10pt; } h2 { break-after: avoid; }
  figure, .pair, tr, img { break-inside: avoid; } details { display: none; }
  .scroll { overflow: visible; } table { font-size: 8pt; } th, td { padding: .15rem .35rem; } }
"""


def build_page(experiment: Experiment, summary: Summary) -> tuple[str, list[str]]:
    """The page's HTML, and sentences about what could not be shown on it."""
    said: list[str] = []
    name = experiment.root.name or str(experiment.root.resolve().name)
    notes = method_notes(experiment, summary)
    body = [
        f"<h1>{_text(name)}</h1>",
        f'<p class="sub">{_text(headline(experiment))}</p>',
        _alert(gaps(experiment), experiment.notes),
        "<h2>Result</h2>",
        _table(result_table(experiment, summary)),
        f'<p class="notes">{"<br>".join(map(_text, notes))}</p>',
        _figure(result_figure(experiment, summary), "Accuracy and differences with 95 % intervals"),
    ]
    if summary.views:
        body += [
            "<h2>By view</h2>",
            _figure(view_figure(experiment, summary), "Accuracy by view"),
            _table(view_table(experiment, summary)),
        ]
    body += _curves(experiment, summary.baseline, said)
    body += _confusions(experiment, summary.baseline, said)
    body += _what_was_run(experiment, summary)
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(name)}: report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    )
    return head + "\n".join(part for part in body if part) + "\n</body>\n</html>\n", said


def _text(value: object) -> str:
    return html.escape(str(value))


def _alert(lacking: Sequence[str], notes: Sequence[str]) -> str:
    if not lacking and not notes:
        return ""
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in [*lacking, *notes])
    title = "Not all jobs are in these tables:" if lacking else "To bear in mind:"
    return f'<div class="alert"><strong>{title}</strong><ul>{items}</ul></div>'


def _table(table: pd.DataFrame, kind: str = "") -> str:
    head = "".join(f"<th>{_text(column)}</th>" for column in table.columns)
    rows = []
    for row in table.itertuples(index=False):
        cells = (f"<td{_verdict_class(value)}>{_text(_shown(value))}</td>" for value in row)
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "-" if np.isnan(value) else f"{value:.2f}"
    return str(value)


def _verdict_class(value: object) -> str:
    return f' class="{value}"' if value in ("helps", "hurts", "better", "worse") else ""


def _figure(figure: Figure, what: str) -> str:
    code = base64.b64encode(png(figure)).decode()
    return f'<p><img alt="{_text(what)}" src="data:image/png;base64,{code}"></p>'


def _curves(experiment: Experiment, baseline: int, said: list[str]) -> list[str]:
    wanted = ((monitored(experiment.finished()), 100.0), ("train/loss_epoch", 1.0))
    figures = [
        (column, curves_figure(experiment, baseline, column, scale)) for column, scale in wanted
    ]
    shown = [_figure(figure, f"{column} by epoch") for column, figure in figures if figure]
    if not shown:
        said.append("No learning curves: no run has logs/metrics.csv (logger=csv writes it).")
        return ["<h2>Learning curves</h2>", f"<p>{_text(said[-1])}</p>"]
    grey = (
        f" Grey: the runs of '{_text(experiment.rows[baseline])}', for comparison."
        if len(experiment.rows) > 1
        else ""
    )
    note = f'<p class="notes">A line a run, unfinished ones too.{grey}</p>'
    return ["<h2>Learning curves</h2>", note, *shown]


def _confusions(experiment: Experiment, row: int, said: list[str]) -> list[str]:
    pairs = worst_pairs(experiment, row)
    name = experiment.rows[row]
    head = f"<h2>Products most often confused: {_text(name)}</h2>"
    job = next((job for job in experiment.jobs[row] if job.state == "done"), None)
    if job is None:
        said.append(f"No confusions: no run of '{name}' is finished.")
        return [head, f"<p>{_text(said[-1])}</p>"]
    if not pairs:
        return [head, "<p>None: every test picture was named rightly by every run.</p>"]
    trios, problem = find_pictures(experiment, job, pairs)
    if problem:
        said.append(problem)
        table = pd.DataFrame(
            {
                "product": [p.target for p in pairs],
                "taken for": [p.decided for p in pairs],
                "share of its pictures (%)": [100 * p.share for p in pairs],
                "decisions": [p.count for p in pairs],
            }
        )
        return [head, f"<p>{_text(problem)}</p>", _table(table)]
    done = sum(job.state == "done" for job in experiment.jobs[row])
    cards = [_pair(pair, trio, done) for pair, trio in zip(pairs, trios, strict=True)]
    return [head, f'<div class="pairs">{"".join(cards)}</div>']


def _pair(pair: Confusion, trio: Trio, done: int) -> str:
    view = f", view {pair.view}" if pair.view else ""
    figures = (
        (trio.wrong, f"{pair.picture}{view}: wrong in {pair.runs} of {done} runs"),
        (trio.target, f"{pair.target}, from training"),
        (trio.decided, f"{pair.decided}, from training"),
    )
    shown = "".join(
        f"<figure>{_picture(path)}<figcaption>{_text(caption)}</figcaption></figure>"
        for path, caption in figures
    )
    return (
        f'<div class="pair"><p><strong>{_text(pair.target)}</strong> taken for '
        f"<strong>{_text(pair.decided)}</strong>: {100 * pair.share:.1f} % of its pictures</p>"
        f"<div>{shown}</div></div>"
    )


def _picture(path: Path | None) -> str:
    try:
        if path is None:
            raise OSError("no such picture")
        small = ImageOps.contain(Image.fromarray(load_picture(path)), (SIDE, SIDE))
    except OSError:
        return "<p>(no picture)</p>"
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return (
        f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )


def _what_was_run(experiment: Experiment, summary: Summary) -> list[str]:
    rows = [
        _run_row(job, summary.accuracy[r, s])
        for r, row in enumerate(experiment.jobs)
        for s, job in enumerate(row)
    ]
    done = experiment.finished()
    versions = sorted(
        {", ".join(f"{k} {v}" for k, v in job.metrics.get("versions", {}).items()) for job in done}
    )
    facts = [
        ("swept", ", ".join([*experiment.factors, *_replicate_keys(experiment)])),
        ("the same in all runs", without_login(" ".join(experiment.fixed))),
        ("versions", "; ".join(filter(None, versions))),
    ]
    listed = "<br>".join(f"{_text(key)}: {_text(value)}" for key, value in facts if value)
    parts = ["<h2>What was run</h2>", f"<p>{listed}</p>", _table(pd.DataFrame(rows), "wide")]
    job = next((job for job in experiment.jobs[summary.baseline] if job.state == "done"), None)
    if job is not None and job.found is not None and job.found.folder.config_file.is_file():
        text = without_login(job.found.folder.config_file.read_text())
        parts.append(
            f"<details><summary>All settings of {_text(job.row)}, {_text(job.replicate)}</summary>"
            f"<pre>{_text(text)}</pre></details>"
        )
    return parts


def _replicate_keys(experiment: Experiment) -> list[str]:
    first = experiment.replicates[0]
    return [part.partition("=")[0] for part in first.split(", ") if "=" in part]


def _run_row(job: Job, accuracy: float) -> dict[str, object]:
    seconds = job.metrics.get("seconds", {})
    best = job.status.get("value")
    return {
        "row": job.row,
        "run": job.replicate,
        "state": job.state + (f": {job.reason}" if job.reason else ""),
        "best epoch": job.metrics.get("best_epoch") or "-",
        "epochs": job.metrics.get("epochs") or job.status.get("epoch") or "-",
        "validation": 100 * best if isinstance(best, float) else "-",
        "test": 100 * accuracy,
        "training": _duration(seconds.get("fit")),
        "predicting": _duration(seconds.get("predict")),
        "finished (UTC)": str(job.status.get("finished") or "-")[:16].replace("T", " "),
        "device": job.metrics.get("device", "-"),
    }


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
