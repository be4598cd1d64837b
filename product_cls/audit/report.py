"""The files of an audit: page, findings, proposed groups and folds."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from product_cls.audit.copies import exact_copies
from product_cls.audit.facts import PictureFacts
from product_cls.audit.findings import KINDS, Finding, counts_table, find_all, findings_table
from product_cls.audit.grouping import propose_groups
from product_cls.core.errors import UserError, reason
from product_cls.core.files import write_text_whole
from product_cls.core.names import shown
from product_cls.core.tables import write_csv
from product_cls.data.folds import make_folds
from product_cls.data.samples import Strata, natural_key
from product_cls.display.outputs import results_in
from product_cls.report.confused_products import Captioned, thumbnail
from product_cls.report.page import render

TO_DECIDE = ("unreadable", "contradiction", "leak", "tiny", "blurred", "grey", "mode")
SHOWN = 2  # examples of each kind on the console
PICTURED = 12  # findings of each kind with pictures on the page


@dataclass(frozen=True)
class Section:
    """A kind of finding on the page.

    Attributes:
        kind, title, severity, todo: of the kind.
        count: findings.
        findings: the first ones, each with its pictures and a sentence.
        more: how many are only in findings.csv.
    """

    kind: str
    title: str
    severity: str
    todo: str
    count: int
    findings: list[tuple[str, list[Captioned]]]
    more: int

    @property
    def paired(self) -> bool:
        """Whether findings are about several pictures each."""
        return any(len(pictures) > 1 for _, pictures in self.findings)


@dataclass
class Audit:
    """What a look at a data set has found.

    Args:
        name: of the data, for the folder of the results.
        samples: the sample table, N rows.
        labels: text of each row, ``[N]``; None if unknown.
        columns: label columns, for the folds.
        facts: about the pictures.
        near: pairs of near copies.
        folds: number of folds asked for.
        seed: of the folds.
        least: fewest pictures of a class that is held out; None for no limit.
    """

    name: str
    samples: pd.DataFrame
    labels: list[str | None]
    columns: Strata
    facts: PictureFacts
    near: list[tuple[int, int, float]]
    folds: int
    seed: int
    least: int | None
    notes: list[str] = field(default_factory=list)
    groups: np.ndarray = field(init=False)
    found: list[Finding] = field(init=False)

    def __post_init__(self) -> None:
        equal = [(group[0], k) for group in exact_copies(self.facts) for k in group[1:]]
        folder = [str(PurePosixPath(str(name)).parent) for name in self.samples["id"]]
        given = self.samples["group"].tolist() if "group" in self.samples else None
        pairs = [*equal, *((a, b) for a, b, _ in self.near)]
        self.groups = propose_groups(len(self.samples), pairs, folder, self.facts.taken, given)
        self.found = find_all(
            self.samples, self.labels, self.facts, self.near, self.groups, folds=self.folds
        )

    def counts(self) -> pd.DataFrame:
        """A line for each kind that was found."""
        return counts_table(self.found)

    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(KINDS[finding.kind][0] == "error" for finding in self.found)

    def headline(self) -> str:
        """One line, without a full stop."""
        classes = len({label for label in self.labels if label is not None})
        numbers = {
            word: sum(KINDS[finding.kind][0] == word for finding in self.found)
            for word in ("error", "warning", "note")
        }
        told = ", ".join(
            f"{count} {word}{'' if count == 1 else 's'}" for word, count in numbers.items()
        )
        return f"{len(self.samples):,} pictures of {classes:,} classes: {told}"

    def examples(self, most: int) -> list[str]:
        """The first findings of each kind, as lines for the console."""
        lines = []
        for kind, (severity, title, _) in KINDS.items():
            of_kind = [finding for finding in self.found if finding.kind == kind]
            for finding in of_kind[:most]:
                names = " = ".join(self._name(k) for k in finding.rows[:2])
                place = f"{names}: " if names and kind != "file_name" else ""
                lines.append(f"{severity}: {title}: {place}{finding.text}")
            if len(of_kind) > most:
                lines.append(f"{severity}: {title}: and {len(of_kind) - most} more")
        return lines

    def _name(self, row: int) -> str:
        return shown(str(self.samples["id"].iloc[row]))

    def class_counts(self) -> pd.DataFrame:
        """Pictures of each class by part of the data, fewest training pictures first."""
        known = [label is not None for label in self.labels]
        table = pd.crosstab(
            pd.Series(self.labels, dtype=object)[known], self.samples["split"].to_numpy()[known]
        )
        for split in ("train", "val", "test"):
            if split not in table:
                table[split] = 0
        table = table[["train", "val", "test"]].loc[:, lambda t: t.sum() > 0]
        first = table[table.columns[0]].to_dict()
        order = sorted(first, key=lambda name: (first[name], natural_key(str(name))))
        return table.loc[order].rename_axis("class").reset_index()

    def corrections(self) -> pd.DataFrame:
        """A line for each picture to decide about, for a person to fill in."""
        why: dict[int, list[str]] = {}
        for finding in self.found:
            for row in finding.rows if finding.kind in TO_DECIDE else ():
                others = [self._name(other) for other in finding.rows if other != row]
                twin = f" ({', '.join(others)})" if others else ""
                why.setdefault(row, []).append(f"{KINDS[finding.kind][1]}{twin}")
        rows = sorted(why)
        label = {self.columns: ""} if isinstance(self.columns, str) else {}
        return pd.DataFrame(
            {
                "id": self.samples["id"].iloc[rows].tolist(),
                "now": [self.labels[row] or "" for row in rows],
                **label,
                "drop": "",
                "why": ["; ".join(why[row]) for row in rows],
            }
        )

    def sections(self, out: Path) -> list[Section]:
        """The page's parts, the gravest first.

        Args:
            out: the folder of the files.
        """
        sections = []
        for kind, (severity, title, todo) in KINDS.items():
            of_kind = [finding for finding in self.found if finding.kind == kind]
            if not of_kind:
                continue
            pictured = [(finding.text, self._pictures(finding)) for finding in of_kind[:PICTURED]]
            more = len(of_kind) - len(pictured)
            todo = in_folder(todo, out)
            sections.append(Section(kind, title, severity, todo, len(of_kind), pictured, more))
        return sections

    def _pictures(self, finding: Finding) -> list[Captioned]:
        pictures = []
        for row in finding.rows[:4]:
            label, split = self.labels[row], self.samples["split"].iloc[row]
            caption = f"{self._name(row)} ({label if label is not None else 'no label'}, {split})"
            pictures.append(Captioned(thumbnail(self.samples["path"].iloc[row]), caption))
        return pictures


def in_folder(todo: str, out: Path) -> str:
    """What to do, with the folder of the files in place of ``FOLDER``."""
    return todo.replace("FOLDER", str(out))


def write_audit(audit: Audit, out: Path) -> list[Path]:
    """Write ``report.html``, ``findings.csv``, ``corrections.csv``, ``classes.csv`` and, for
    training pictures that belong together, ``groups.csv`` and ``folds.csv``.

    Args:
        audit: gets notes about files that could not be made.
        out: the folder.

    Returns:
        The files.

    Raises:
        UserError: the disk refuses them.
    """
    tables = {
        "findings.csv": findings_table(audit.samples, audit.labels, audit.found),
        "corrections.csv": audit.corrections(),
        "classes.csv": audit.class_counts(),
    }
    ids = audit.samples["id"]
    sizes = pd.Series(audit.groups).map(pd.Series(audit.groups).value_counts())
    learned = (audit.samples["split"] != "test").to_numpy()
    if (sizes[learned] > 1).any():
        names = ids.iloc[audit.groups].to_numpy()
        tables["groups.csv"] = pd.DataFrame({"id": ids, "group": names})
        try:
            folds = make_folds(
                audit.samples.assign(group=names),
                "stratified_group",
                n_splits=audit.folds,
                seed=audit.seed,
                label=audit.columns,
                min_per_class=audit.least,
            )
            tables["folds.csv"] = folds.reset_index()
        except (ValueError, UserError) as error:
            audit.notes.append(f"There is no folds.csv: {reason(error)}.")
    counts = audit.counts()
    counts["what to do"] = [in_folder(text, out) for text in counts["what to do"]]
    page = render(
        "audit.html.j2",
        {
            "name": audit.name,
            "headline": audit.headline(),
            "counts": counts,
            "notes": audit.notes,
            "sections": audit.sections(out),
            "classes": tables["classes.csv"].head(50),
        },
    )
    with results_in(out):
        for file, table in tables.items():
            write_csv(out / file, table)
        write_text_whole(out / "report.html", page)
    return [out / name for name in ("report.html", *tables)]
