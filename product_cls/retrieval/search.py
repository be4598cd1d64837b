"""Name the products in pictures by their neighbours in an index.

    python -m product_cls.retrieval.search index=index/products images=FOLDER_OR_CSV_OR_FILE

Writes ``predictions.csv`` (as ``product_cls.predict`` does), ``neighbours.csv`` and a contact sheet
of pictures with their neighbours.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from product_cls.core.cli import MISSING, guard, parse_arguments
from product_cls.core.device import pick_device
from product_cls.core.errors import UserError
from product_cls.core.files import check_place, write_text_whole
from product_cls.neighbours.exact import check_search
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.embed import embed_pictures, load_predictors
from product_cls.retrieval.index.lookup import Found, find_neighbours, own_rows
from product_cls.retrieval.index.queries import Query, list_queries
from product_cls.retrieval.index.sheet import Cell, neighbour_sheet
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.tasks.presentation import top_k

UNKNOWN = "unknown"
SHOWN_NEIGHBOURS = 5  # on the sheet
REFINING = ("expand", "augment", "prototypes", "rerank")


@dataclass
class Arguments:
    """Name the products in pictures by their neighbours in an index.

    index: the index's folder.
    images: a folder of pictures, one picture, or a CSV with a column `path` (or `filename`). Where
      the labels are known (folders named by products of the index, or a column `label`), accuracy
      is printed, and the sheet says right or wrong. A picture that is in the index itself is no
      neighbour of its own.
    out: folder for predictions.csv, neighbours.csv and contact_sheet.png.
    vote: weighted (sum of similarities), nearest, or winners (which asks the heads, too); null: as
      the index says.
    k: neighbours that vote; null: as the index says.
    threshold: below this similarity of the nearest neighbour the answer is `unknown`: a number,
      tuned (the index's own, which holds for its own vote and k), or null.
    expand: neighbours that join the query before the search that counts (alpha query expansion).
    augment: neighbours that join each picture of the gallery (database-side augmentation).
    prototypes: search one mean embedding a product instead of the pictures.
    rerank: k-reciprocal re-ranking; an answer then depends on which pictures are asked together.
      augment, prototypes and rerank search exactly, whatever the index's kind.
    top: products that predictions.csv names, best first.
    batch_size: pictures embedded at once.
    device: auto, cpu, cuda, cuda:<n>, mps.
    shown: pictures on the sheet, spread evenly over all.
    """

    index: str = MISSING
    images: str = MISSING
    out: str = "predictions"
    vote: str | None = None
    k: int | None = None
    threshold: str | None = None
    expand: int = 0
    augment: int = 0
    prototypes: bool = False
    rerank: bool = False
    top: int = 5
    batch_size: int = 64
    device: str = "auto"
    shown: int = 20


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


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.retrieval.search")
    for key in ("top", "batch_size", "shown"):
        if getattr(arguments, key) < 1:
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: 1 or more.")
    index = GalleryIndex.open(Path(arguments.index))
    vote = index.vote.altered(arguments.vote, arguments.k)
    for key, most in (("expand", len(index.id)), ("augment", len(index.id) - 1)):
        if not 0 <= getattr(arguments, key) <= most:
            raise UserError(
                f"{key}={getattr(arguments, key)}; allowed: 0 (none) to {most}, by the gallery's "
                "size."
            )
    refining = [key for key in REFINING if getattr(arguments, key)]
    threshold = read_threshold(arguments.threshold, index, vote, refining)
    check_search(len(np.unique(index.target)) if arguments.prototypes else len(index.id), vote.k)
    queries = list_queries(Path(arguments.images), index.classes)
    out, device = Path(arguments.out), pick_device(arguments.device)
    check_place(out)
    own = own_rows(index, [query.path for query in queries])
    others = len(index.id) - own.shape[1]
    if vote.k > others and not arguments.prototypes:
        raise UserError(
            f"k={vote.k}; allowed: 1 to {others}, for pictures that are in the index themselves "
            "are no neighbours of their own."
        )
    predictors = load_predictors(index)
    embedded = embed_pictures(
        index,
        predictors,
        [query.path for query in queries],
        batch_size=arguments.batch_size,
        device=device,
    )
    found = find_neighbours(
        index,
        embedded.embedding,
        vote.k,
        own=own[embedded.row],
        expand=arguments.expand,
        augment=arguments.augment,
        by_prototype=arguments.prototypes,
        reranked=arguments.rerank,
        device=device,
    )
    scores = vote.scores(found.similarity, found.target, len(index.classes), embedded.class_scores)
    answers = np.array(index.classes, object)[scores.argmax(axis=1)]
    if threshold is not None:
        answers[found.similarity[:, 0] < threshold] = UNKNOWN
    asked = [queries[row] for row in embedded.row]
    table = neighbour_table(index, asked, answers, found)
    write_text_whole(out / "neighbours.csv", table.to_csv(index=False))
    named = _named(asked, answers, *top_k(scores, index.classes, arguments.top))
    write_text_whole(out / "predictions.csv", named.to_csv(index=False))
    picked = np.unique(np.linspace(0, len(asked) - 1, arguments.shown).round().astype(int))
    sheet = neighbour_sheet([_sheet_row(index, asked[k], answers[k], found, k) for k in picked])
    sheet.save(out / "contact_sheet.png")

    for row, why in embedded.unreadable.items():
        print(f"LEFT OUT, cannot be decoded: {queries[row].name}: {why}")
    unasked = len(index.classes) - len(predictors[0].task.classes)
    if vote.kind == "winners" and unasked:
        print(
            f"NOTE: no head knows the {unasked} products that were added to the index, so with "
            "vote=winners they hardly ever win."
        )
    print(table.loc[:9, :"similarity"].to_string(index=False))
    itself = (own[embedded.row] >= 0).any(axis=1)
    if itself.any():
        print(
            f"NOTE: {itself.sum()} of the pictures are in the index themselves; {_bias(refining)}."
        )
    counted = np.flatnonzero(~itself) if refining else np.arange(len(asked))
    print(_accuracy([asked[k] for k in counted], answers[counted], index.classes))
    files = ", ".join(str(out / name) for name in ("predictions.csv", "neighbours.csv"))
    print(f"{len(asked)} pictures, {vote} -> {files}, {out / 'contact_sheet.png'}")


def _named(
    asked: Sequence[Query], answers: np.ndarray, names: np.ndarray, values: np.ndarray
) -> pd.DataFrame:
    """The columns of ``product_cls.predict``, with the answer, which may be ``unknown``."""
    table = pd.DataFrame({"image": [query.name for query in asked], "prediction": answers})
    for k in range(names.shape[1]):
        table[f"label_{k + 1}"], table[f"score_{k + 1}"] = names[:, k], values[:, k].round(4)
    return table


def neighbour_table(
    index: GalleryIndex, asked: Sequence[Query], answers: np.ndarray, found: Found
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


def _sheet_row(
    index: GalleryIndex, query: Query, answer: str, found: Found, row: int
) -> list[Cell]:
    truth = [] if query.label is None else [f"is {query.label}"]
    lines = [answer, *truth, query.name]
    cells = [Cell(query.path, lines, is_right(query, answer, index.classes))]
    for k in range(min(SHOWN_NEIGHBOURS, found.target.shape[1])):
        label, picture = index.classes[found.target[row, k]], found.picture[row, k]
        cells.append(
            Cell(
                Path(index.path[picture]),
                (label, f"similarity {found.similarity[row, k]:.3f}", index.id[picture]),
                None if query.label is None else label == query.label,
            )
        )
    return cells


def _bias(refining: Sequence[str]) -> str:
    """What is to be known of answers about pictures that are in the index."""
    if refining:
        return f"{refining[0]} lets them bear on their own answers, so the accuracy leaves them out"
    return (
        "none is its own neighbour, but networks that learned from them find them more easily than "
        "new ones"
    )


def _accuracy(asked: Sequence[Query], answers: np.ndarray, classes: Sequence[str]) -> str:
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


if __name__ == "__main__":
    guard(main)
