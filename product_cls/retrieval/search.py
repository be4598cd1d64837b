"""Name the products in pictures by their nearest neighbours in an index.

    python -m product_cls.retrieval.search index=index/products images=FOLDER_OR_CSV_OR_FILE

Writes ``predictions.csv`` (as ``product_cls.predict`` does), ``neighbours.csv`` and a contact sheet
of the pictures with their neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from product_cls.core.cli import MISSING, check_at_least_one, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.errors import UserError
from product_cls.core.files import check_place, check_there
from product_cls.retrieval.index.layout import check_index

if TYPE_CHECKING:
    import numpy as np

    from product_cls.inference.predictor import Predictor
    from product_cls.retrieval.index.embed import EmbeddedPictures
    from product_cls.retrieval.index.lookup import NeighbourMatches

REFINING = ("expand", "augment", "prototypes", "rerank")


@dataclass
class Arguments:
    """Name the products in pictures by their neighbours in an index.

    index: the index's folder.
    images: a folder of pictures, one picture, or a CSV with a column `path` (or `filename`). If
      labels are known (folders named after products of the index, or a column `label`), accuracy
      is printed, and the sheet marks answers right or wrong. A picture that is in the index itself
      is not its own neighbour.
    out: folder for predictions.csv, neighbours.csv and contact sheets. `known` is false for
      pictures whose nearest neighbour is less similar than the threshold; `prediction` is then
      unknown.
    vote: weighted (sum of similarities), nearest, or winners (uses the heads, too); null: the
      index's vote.
    k: neighbours that vote; null: the index's k.
    threshold: the answer is `unknown` if the nearest neighbour's similarity is lower: a number,
      tuned (the index's own, for each kind of vote with the index's k), or null.
    expand: neighbours added to each query before the final search (alpha query expansion); 0: none.
    augment: neighbours added to each picture of the gallery (database-side augmentation); 0: none.
    prototypes: search one mean embedding per product instead of its pictures.
    adapt: batchnorm: the networks take batch norm statistics of these pictures, which are best of
      one camera angle and of many products; the index keeps those of the training. null: none.
    verify: sift: the nearest pictures count more if they have points in common with the picture
      that agree on one homography; for flat labels, and takes some tenths of a second a picture.
      neighbours.csv has their number, and the sheets show them. null: none.
    rerank: k-reciprocal re-ranking; an answer then depends on the other pictures searched.
      augment, prototypes and rerank search exactly, whatever the index's kind.
    top: products that predictions.csv names, best first.
    batch_size: pictures embedded at a time.
    device: auto, cpu, cuda, cuda:<n>, mps.
    shown: pictures on the sheets, the most doubtful first; a sheet fits on a screen.
    csv: plain; excel: tables that open right in a spreadsheet.
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
    adapt: str | None = None
    verify: str | None = None
    rerank: bool = False
    top: int = 5
    batch_size: int = 64
    device: str = "auto"
    shown: int = 20
    csv: str = "plain"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.retrieval.search")
    check_at_least_one(arguments, "top", "batch_size", "shown")
    check_style(arguments.csv)
    if arguments.adapt not in (None, "batchnorm"):
        raise UserError(f"adapt={arguments.adapt}; allowed: batchnorm, null.")
    if arguments.verify not in (None, "sift"):
        raise UserError(f"verify={arguments.verify}; allowed: sift, null.")
    check_index(Path(arguments.index))
    check_there(Path(arguments.images))
    out = Path(arguments.out)
    check_place(out)

    # Imported here, so that --help and errors do not wait seconds for torch.
    import numpy as np

    from product_cls.config.border import keys_for_arguments
    from product_cls.core.device import pick_device
    from product_cls.core.names import shown
    from product_cls.core.tables import formula_note, write_csv
    from product_cls.display.contact_sheet import save_sheets
    from product_cls.display.outputs import file_list, first_rows, results_in
    from product_cls.inference.adaptation import adapt_to_files, refusal
    from product_cls.matching.compare import FeatureFolder
    from product_cls.neighbours.exact import check_search
    from product_cls.neighbours.refine import check_expansion
    from product_cls.retrieval.answers import (
        accuracy_sentence,
        answer,
        bias_note,
        named_table,
        neighbour_table,
        read_threshold,
        sheet_row,
        verification_note,
    )
    from product_cls.retrieval.index.embed import embed_pictures, load_predictors
    from product_cls.retrieval.index.lookup import find_neighbours, own_rows, rows_by_file
    from product_cls.retrieval.index.queries import list_queries
    from product_cls.retrieval.index.sheet import neighbour_sheets
    from product_cls.retrieval.index.store import GalleryIndex
    from product_cls.retrieval.index.verify import (
        CANDIDATES,
        features_folder,
        tune_fusion,
        verify,
    )
    from product_cls.tasks.presentation import top_k

    index = GalleryIndex.open(Path(arguments.index))
    with keys_for_arguments(kind="vote"):
        vote = index.vote.altered(arguments.vote, arguments.k)
    for key, rows in (("expand", len(index.id)), ("augment", len(index.id) - 1)):
        if neighbours := getattr(arguments, key):
            with keys_for_arguments(neighbours=key):  # before pictures are embedded
                check_expansion(neighbours, rows)
    refining = [key for key in REFINING if getattr(arguments, key)]
    threshold = read_threshold(arguments.threshold, index, vote, refining)
    with keys_for_arguments():
        check_search(
            len(np.unique(index.target)) if arguments.prototypes else len(index.id), vote.k
        )
    queries = list_queries(Path(arguments.images), index.classes)
    device = pick_device(arguments.device)
    own = own_rows(rows_by_file(index), [query.path for query in queries])
    others = len(index.id) - own.shape[1]
    if vote.k > others and not arguments.prototypes:
        raise UserError(
            f"k={vote.k}; allowed: 1 to {others}, because pictures that are in the index are "
            "not their own neighbours."
        )
    predictors = load_predictors(index)
    searched_for = vote.k  # neighbours of each picture
    if arguments.verify is not None:
        available = len(np.unique(index.target)) if arguments.prototypes else others
        searched_for = min(max(CANDIDATES, vote.k), available)
    paths = [query.path for query in queries]

    def searched(
        predictors: Sequence[Predictor],
    ) -> tuple[EmbeddedPictures, NeighbourMatches, np.ndarray]:
        """The pictures' embeddings, their neighbours, and the scores of all products."""
        embedded = embed_pictures(
            index, predictors, paths, batch_size=arguments.batch_size, device=device
        )
        with keys_for_arguments():
            matches = find_neighbours(
                index,
                embedded.embedding,
                searched_for,
                own=own[embedded.row],
                expand=arguments.expand,
                augment=arguments.augment,
                by_prototype=arguments.prototypes,
                reranked=arguments.rerank,
                device=device,
            )
        classes = len(index.classes)
        voting = matches.best(vote.k)
        scores = vote.scores(voting.similarity, voting.target, classes, embedded.class_scores)
        return embedded, matches, scores

    embedded, matches, scores = searched(predictors)
    if arguments.adapt is not None:
        if (why := refusal(scores, len(embedded.row))) is not None:
            raise UserError(f"adapt={arguments.adapt}: {arguments.images} {why}.")
        readable = [paths[row] for row in embedded.row]
        with keys_for_arguments():
            adapted = [adapt_to_files(p, readable, 1.0, device) for p in predictors]
        embedded, matches, scores = searched(adapted)
    points = None
    note = ""
    if arguments.verify is not None:
        features = FeatureFolder([Path(path) for path in index.path], features_folder(index))
        with keys_for_arguments():
            fusion, held_out = tune_fusion(index, predictors, features, vote, device)
        begun = time.monotonic()
        verified = verify(
            scores,
            [paths[row] for row in embedded.row],
            features,
            matches.picture,
            matches.target,
            fusion,
        )
        seconds = (time.monotonic() - begun) / max(verified.compared, 1)
        scores, points = verified.scores, verified.points[:, : vote.k]
        note = verification_note(verified.compared, len(scores), seconds, held_out)
    matches = matches.best(vote.k)
    answers = answer(index, scores, matches.similarity[:, 0], threshold)
    answered = [queries[row] for row in embedded.row]
    table = neighbour_table(index, answered, answers, matches, points)
    named = named_table(answered, answers, *top_k(scores, index.classes, arguments.top))
    picked = answers.by_doubt()[: arguments.shown]
    cells = [
        sheet_row(index, answered[k], answers, matches, k, None if points is None else features)
        for k in picked
    ]
    title = f"{len(cells)} of {len(answered)} pictures, the most doubtful first"
    files = [out / "predictions.csv", out / "neighbours.csv"]
    with results_in(out):
        write_csv(files[0], named, style=arguments.csv)
        write_csv(files[1], table, style=arguments.csv)
        files += save_sheets(neighbour_sheets(cells, title), out)

    for row, why in embedded.unreadable.items():
        print(f"LEFT OUT, cannot be decoded: {shown(queries[row].name)}: {why}")
    if note:
        print(f"NOTE: {note}")
    added = len(index.classes) - len(predictors[0].task.classes)
    if vote.kind == "winners" and added:
        print(
            f"NOTE: no head knows the {added} products that were added to the index, so they "
            "hardly ever win with vote=winners."
        )
    print(first_rows(table.loc[:, :"similarity"]))
    indexed = (own[embedded.row] >= 0).any(axis=1)
    if indexed.any():
        print(
            f"NOTE: {indexed.sum()} of the pictures are in the index themselves; "
            f"{bias_note(refining)}."
        )
    counted = np.flatnonzero(~indexed) if refining else np.arange(len(answered))
    print(accuracy_sentence([answered[k] for k in counted], answers.of(counted), index.classes))
    if formulas := formula_note([named, table], arguments.csv):
        print(f"NOTE: {formulas}")
    limit = "" if threshold is None else f", unknown below similarity {threshold:.6g}"
    print(f"{len(answered)} pictures, {vote}{limit} -> {file_list(files)}")


if __name__ == "__main__":
    guard(main)
