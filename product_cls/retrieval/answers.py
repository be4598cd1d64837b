"""Answers of a search: the rejection threshold, tables, the sheet's rows and sentences."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.core.errors import UserError
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.lookup import NeighbourMatches
from product_cls.retrieval.index.queries import Query
from product_cls.retrieval.index.sheet import SheetCell
from product_cls.retrieval.index.store import GalleryIndex

UNKNOWN = "unknown"  # the answer below the rejection threshold
SHOWN_NEIGHBOURS = 5  # on the sheet


def read_threshold(
    given: str | None, index: GalleryIndex, vote: Vote, changed: Sequence[str]
) -> float | None:
    """The similarity below which the answer is ``unknown``; None where all are answered.

    Args:
        given: a number, ``tuned`` or None.
        vote: that answers.
        changed: settings that give similarities another scale than the tuned one.

    Raises:
        UserError: neither, or a tuned one that the index has not, or that does not hold for these
            changes or another vote than the index's.
    """
    if given is None:
        return None
    if given != "tuned":
        try:
            number = float(given)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"threshold={given}; allowed: a number, tuned, null.")
        return number
    if index.rejection is None:
        raise UserError(
            f"threshold=tuned: the index {index.folder} has none, for no run held pictures out "
            "(fold=all); give a number."
        )
    if changed:
        raise UserError(
            f"threshold=tuned was tuned without {changed[0]}, which changes the similarities; give "
            "a number or leave it out."
        )
    if vote != index.vote:
        raise UserError(
            f"threshold=tuned was tuned with {index.vote} and does not hold with {vote}; leave "
            "vote and k out, give a number, or build the index with that vote."
        )
    return index.rejection.threshold


def named_table(
    asked: Sequence[Query], answers: np.ndarray, names: np.ndarray, values: np.ndarray
) -> pd.DataFrame:
    """The columns of ``product_cls.predict``, with the answer, which may be ``unknown``."""
    table = pd.DataFrame({"image": [query.name for query in asked], "prediction": answers})
    for k in range(names.shape[1]):
        table[f"label_{k + 1}"], table[f"score_{k + 1}"] = names[:, k], values[:, k].round(4)
    return table


def neighbour_table(
    index: GalleryIndex, asked: Sequence[Query], answers: np.ndarray, found: NeighbourMatches
) -> pd.DataFrame:
    """A row a picture: its name, label where any is known, answer, and its k neighbours.

    Args:
        asked: N pictures.
        answers: labels by name, ``[N]``.
    """
    table = pd.DataFrame({"image": [query.name for query in asked]})
    if any(query.label is not None for query in asked):
        table["label"] = [query.label or "" for query in asked]
    table["prediction"], table["similarity"] = answers, found.similarity[:, 0].round(4)
    classes = np.array(index.classes)
    for k in range(found.target.shape[1]):
        table[f"id_{k + 1}"] = index.id[found.picture[:, k]]
        table[f"label_{k + 1}"] = classes[found.target[:, k]]
        table[f"similarity_{k + 1}"] = found.similarity[:, k].round(4)
    return table


def is_right(query: Query, answer: str, classes: Collection[str]) -> bool | None:
    """Whether an answer is right; of a product that ``classes`` lacks, only ``unknown`` is. None
    where the picture's label is not known."""
    if query.label is None:
        return None
    return answer == (query.label if query.label in classes else UNKNOWN)


def sheet_row(
    index: GalleryIndex, query: Query, answer: str, found: NeighbourMatches, row: int
) -> list[SheetCell]:
    truth = [] if query.label is None else [f"is {query.label}"]
    lines = [answer, *truth, query.name]
    cells = [SheetCell(query.path, lines, is_right(query, answer, index.classes))]
    for k in range(min(SHOWN_NEIGHBOURS, found.target.shape[1])):
        label, picture = index.classes[found.target[row, k]], found.picture[row, k]
        cells.append(
            SheetCell(
                Path(index.path[picture]),
                (label, f"similarity {found.similarity[row, k]:.3f}", index.id[picture]),
                None if query.label is None else label == query.label,
            )
        )
    return cells


def bias_note(refining: Sequence[str]) -> str:
    """What is to be known of answers about pictures that are in the index."""
    if refining:
        return f"{refining[0]} lets them bear on their own answers, so the accuracy leaves them out"
    return (
        "none is its own neighbour, but networks that learned from them find them more easily than "
        "new ones"
    )


def accuracy_sentence(asked: Sequence[Query], answers: np.ndarray, classes: Sequence[str]) -> str:
    known = set(classes)
    pairs = [(q, is_right(q, answer, known)) for q, answer in zip(asked, answers, strict=True)]
    right = [value for _, value in pairs if value is not None]
    if not right:
        return "There is no accuracy: no picture that it could be of has a known label."
    words = f"accuracy {np.mean(right):.1%} of {len(right)} pictures with a known label"
    strange = [value for query, value in pairs if query.label and query.label not in known]
    if strange:
        words += (
            f"; {len(strange)} of them are of products that the index lacks, "
            f"{sum(map(bool, strange))} answered {UNKNOWN}"
        )
    return words
