"""What is wrong with a data set, or probably wrong, as one table."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from product_cls.audit.copies import exact_copies
from product_cls.audit.facts import PictureFacts
from product_cls.core.names import shown
from product_cls.core.tables import NUMERIC, UNCHANGED
from product_cls.data.faults import listed
from product_cls.data.samples import natural_key

Severity = Literal["error", "warning", "note"]

TINY = 32  # pixels; a side below it shows no product
ELONGATED = 3.0  # ratio of the sides, from which on resizing distorts or cuts much
BLURRED = 4.0  # robust standard deviations below the sharpness of the class
LEAST_BLUR = 1.0  # below it in any case: edges of a third of the strength
FEWEST = 5  # pictures of a class that has a sharpness of its own
USUAL = ("RGB", "L", "P", "RGBA", "1", "MPO")  # modes that are read without loss

# The kinds, in the order of the page: name -> (severity, title, what to do).
KINDS: dict[str, tuple[Severity, str, str]] = {
    "unreadable": (
        "error",
        "Pictures that cannot be read",
        "Training stops at them. Replace the files, or train with data.on_unreadable=drop.",
    ),
    "contradiction": (
        "error",
        "The same shot under different labels",
        "At least one of the two labels is wrong. Fill in corrections.csv and train with "
        "data.corrections=FOLDER/corrections.csv.",
    ),
    "leak": (
        "error",
        "The same shot in training and in validation or test",
        "Results on such pictures are too good. Drop one of the two in corrections.csv.",
    ),
    "same_number": (
        "error",
        "Labels that are the same number",
        "A spreadsheet has probably removed leading zeros of some of them. They are different "
        "classes now.",
    ),
    "spelling": (
        "error",
        "Labels that differ by case, white space or Unicode form only",
        "They are different classes now. Write them in one way.",
    ),
    "single": (
        "error",
        "Classes with a single training picture",
        "Such a class cannot be held out. Add pictures, or set folds.min_per_class=2.",
    ),
    "copy": (
        "warning",
        "The same shot more than once in training",
        "In random folds, a copy is learned from and its twin validated with. groups.csv joins "
        "them, and folds.csv keeps each group in one fold: folds.file=FOLDER/folds.csv.",
    ),
    "small_class": (
        "warning",
        "Classes with fewer training pictures than folds",
        "Not every fold can hold one out. Add pictures, lower folds.n_splits, or set "
        "folds.min_per_class.",
    ),
    "tiny": (
        "warning",
        "Tiny pictures",
        "They show little of the product. Replace them.",
    ),
    "blurred": (
        "warning",
        "Pictures much less sharp than others of their class",
        "Look at them, and replace those that do not show the product.",
    ),
    "elongated": (
        "warning",
        "Pictures with one side much longer than the other",
        "data.fit=squash distorts them, crop cuts most of them off, pad leaves most of the frame "
        "empty.",
    ),
    "mode": (
        "warning",
        "Pictures of another kind of pixels",
        "They are converted to RGB, and their colours may differ from those of the others.",
    ),
    "grey": (
        "warning",
        "Grey pictures in classes with colours",
        "A network learns colours from the others. Replace them if colour matters.",
    ),
    "file_name": (
        "note",
        "Files whose names differ by case or Unicode form only",
        "Some file systems hold only one of them.",
    ),
    "number_label": (
        "note",
        "Labels that spreadsheets change",
        "They look like numbers or dates. Tables for spreadsheets keep them with csv=excel.",
    ),
    "burst": (
        "note",
        "Pictures taken within seconds of each other",
        "They are probably of one scene. groups.csv joins them, and folds.csv keeps each group in "
        "one fold.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One line of ``findings.csv``.

    Attributes:
        kind: a key of ``KINDS``.
        rows: positions in the sample table, of the pictures concerned; empty for classes.
        text: what is found, for readers.
    """

    kind: str
    rows: tuple[int, ...]
    text: str


def find_all(
    samples: pd.DataFrame,
    labels: Sequence[str | None],
    facts: PictureFacts,
    near: Iterable[tuple[int, int, float]],
    groups: np.ndarray,
    *,
    folds: int,
) -> list[Finding]:
    """All findings, in the order of ``KINDS``.

    Args:
        samples: the sample table, N rows.
        labels: of each row, ``[N]``; None if unknown.
        facts: about the pictures.
        near: pairs of near copies.
        groups: from ``propose_groups``.
        folds: number of folds asked for.
    """
    found = [
        *_unreadable(facts),
        *_pairs(samples, labels, facts, near),
        *_labels(samples, labels, folds),
        *_looks(labels, facts),
        *_file_names(samples["id"].tolist()),
        *_bursts(samples, facts, groups),
    ]
    order = list(KINDS)
    return sorted(found, key=lambda finding: order.index(finding.kind))


def _unreadable(facts: PictureFacts) -> list[Finding]:
    broken = np.flatnonzero(~facts.readable)
    return [Finding("unreadable", (int(k),), str(facts.problem[k])) for k in broken]


def _pairs(
    samples: pd.DataFrame,
    labels: Sequence[str | None],
    facts: PictureFacts,
    near: Iterable[tuple[int, int, float]],
) -> list[Finding]:
    """Copies of a shot: each picture of a group against the group's first one, and near copies."""
    split = samples["split"].astype(str).tolist()
    found: list[Finding] = []

    def add(a: int, b: int, how: str) -> None:
        # Both can be true of a pair, and each is to be repaired on its own.
        if labels[a] is not None and labels[b] is not None and labels[a] != labels[b]:
            text = f"'{shown(labels[a])}' and '{shown(labels[b])}': {how}"
            found.append(Finding("contradiction", (a, b), text))
        if split[a] != split[b]:
            found.append(Finding("leak", (a, b), f"{split[a]} and {split[b]}: {how}"))
        elif labels[a] == labels[b] and split[a] != "test":
            found.append(Finding("copy", (a, b), how))

    for group in exact_copies(facts):
        seen: dict[tuple[str | None, str], int] = {}
        for k in group:
            seen.setdefault((labels[k], split[k]), k)
        firsts = list(seen.values())
        for other in firsts[1:]:
            add(firsts[0], other, "equal pixels")
        for k in group:
            if (first := seen[labels[k], split[k]]) != k:
                add(first, k, "equal pixels")
    for a, b, agreed in near:
        add(a, b, f"near copies, correlation {agreed:.3f}")
    return found


def _labels(samples: pd.DataFrame, labels: Sequence[str | None], folds: int) -> list[Finding]:
    training = (samples["split"] != "test").to_numpy()
    counts = pd.Series(
        [label for label, learned in zip(labels, training, strict=True) if learned and label]
    ).value_counts()
    found = []
    for label, count in sorted(counts.items(), key=lambda item: natural_key(str(item[0]))):
        if count == 1:
            found.append(Finding("single", (), f"'{shown(label)}'"))
        elif count < folds:
            text = f"'{shown(label)}': {count} pictures, {folds} folds"
            found.append(Finding("small_class", (), text))
    names = sorted({label for label in labels if label}, key=natural_key)
    spellings, numbers = defaultdict(list), defaultdict(list)
    for name in names:
        spellings[_plain(name)].append(name)
        if re.fullmatch(r"\d+", name):
            numbers[int(name)].append(name)
    for alike in spellings.values():
        if len(alike) > 1:
            text = " = ".join(f"'{shown(name)}'" for name in alike)
            found.append(Finding("spelling", (), text))
    for alike in numbers.values():
        if len(alike) > 1:
            text = " = ".join(f"'{shown(name)}'" for name in alike)
            found.append(Finding("same_number", (), text))
    changed = [n for n in names if NUMERIC.fullmatch(n.strip()) and not UNCHANGED.fullmatch(n)]
    if changed:
        found.append(Finding("number_label", (), f"{len(changed)} labels: {listed(changed)}"))
    return found


def _plain(text: str) -> str:
    """Text without case, white space, characters without a width, and forms of a character."""
    composed = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in composed if not c.isspace() and unicodedata.category(c) != "Cf")


def _looks(labels: Sequence[str | None], facts: PictureFacts) -> list[Finding]:
    found = []
    readable = facts.readable
    by_class: dict[str | None, list[int]] = defaultdict(list)
    for k in np.flatnonzero(readable).tolist():
        by_class[labels[k]].append(k)
        height, width = int(facts.height[k]), int(facts.width[k])
        size = f"{width} x {height} pixels"
        if min(height, width) < TINY:
            found.append(Finding("tiny", (k,), size))
        elif max(height, width) / min(height, width) >= ELONGATED:
            found.append(Finding("elongated", (k,), size))
        if facts.mode[k] not in USUAL:
            found.append(Finding("mode", (k,), str(facts.mode[k])))
    found += [
        Finding("blurred", (k,), f"edges have {np.exp(-below):.0%} of the usual strength")
        for k, below in _blurred(list(by_class.values()), facts.sharpness)
    ]
    for rows in by_class.values():
        grey = [k for k in rows if facts.grey[k]]
        if grey and len(grey) <= len(rows) / 5:
            found += [Finding("grey", (k,), "no colour") for k in grey]
    return found


def _blurred(classes: list[list[int]], sharpness: np.ndarray) -> list[tuple[int, float]]:
    """Pictures far below the sharpness of their class, and by how much.

    The spread is that within classes, pooled over all of them.
    """
    everything = [k for rows in classes for k in rows]
    if not everything:
        return []
    middle = float(np.median(sharpness[everything]))
    below: list[tuple[int, float]] = []
    for rows in classes:
        usual = float(np.median(sharpness[rows])) if len(rows) >= FEWEST else middle
        below += [(k, usual - float(sharpness[k])) for k in rows]
    spread = 1.4826 * float(np.median([abs(value) for _, value in below]))
    least = max(BLURRED * spread, LEAST_BLUR)
    return [(k, value) for k, value in below if value >= least]


def _file_names(ids: Sequence[str]) -> list[Finding]:
    alike: dict[str, list[int]] = defaultdict(list)
    for k, name in enumerate(ids):
        alike[unicodedata.normalize("NFKC", str(name)).casefold()].append(k)
    return [
        Finding("file_name", tuple(rows), " = ".join(shown(ids[k]) for k in rows))
        for rows in alike.values()
        if len(rows) > 1
    ]


def _bursts(samples: pd.DataFrame, facts: PictureFacts, groups: np.ndarray) -> list[Finding]:
    """Groups of training pictures with EXIF times; copies have findings of their own."""
    learned = (samples["split"] != "test").to_numpy()
    found = []
    members: dict[int, list[int]] = defaultdict(list)
    for k in np.flatnonzero(learned & ~np.isnan(facts.taken)):
        members[int(groups[k])].append(int(k))
    for rows in members.values():
        times = facts.taken[rows]
        if len(rows) > 1 and len(set(facts.content[rows])) > 1:
            text = f"{len(rows)} pictures in {times.max() - times.min():.0f} s"
            found.append(Finding("burst", tuple(rows), text))
    return found


def findings_table(
    samples: pd.DataFrame, labels: Sequence[str | None], found: list[Finding]
) -> pd.DataFrame:
    """``findings.csv``: a line for each finding, with its first two pictures."""
    ids, splits = samples["id"].tolist(), samples["split"].tolist()

    def cell(finding: Finding, place: int, values: Sequence[object]) -> object:
        return values[finding.rows[place]] if len(finding.rows) > place else ""

    return pd.DataFrame(
        {
            "finding": [finding.kind for finding in found],
            "severity": [KINDS[finding.kind][0] for finding in found],
            "id": [cell(finding, 0, ids) for finding in found],
            "label": [cell(finding, 0, labels) or "" for finding in found],
            "split": [cell(finding, 0, splits) for finding in found],
            "other": [cell(finding, 1, ids) for finding in found],
            "other_label": [cell(finding, 1, labels) or "" for finding in found],
            "other_split": [cell(finding, 1, splits) for finding in found],
            "text": [finding.text for finding in found],
        }
    )


def counts_table(found: list[Finding]) -> pd.DataFrame:
    """Number of findings and of pictures of each kind, the gravest first."""
    lines = []
    for kind, (severity, title, todo) in KINDS.items():
        if of_kind := [finding for finding in found if finding.kind == kind]:
            pictures = len({k for finding in of_kind for k in finding.rows})
            lines.append(
                {
                    "finding": title,
                    "severity": severity,
                    "count": len(of_kind),
                    "pictures": pictures or "",
                    "what to do": todo,
                }
            )
    return pd.DataFrame(lines, columns=["finding", "severity", "count", "pictures", "what to do"])
