"""Build an index from finished runs, or add products to an index without training.

    python -m product_cls.retrieval.index runs=multirun/retrieval out=index/products
    python -m product_cls.retrieval.index index=index/products add=FOLDER

Building reads the runs' ``predictions/gallery.npz`` and decodes only the pictures that were added
to the index that it replaces. ``tune_rejection.py`` explains the threshold below which a picture
counts as unknown.
"""

import os
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from product_cls.core.cli import check_at_least_one, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.errors import UserError
from product_cls.core.names import shown
from product_cls.retrieval.index.gallery_views import check_pitches
from product_cls.retrieval.index.layout import CURVE, EXCEL, PLOT, check_index

NAMED = 5  # products that a sentence names


@dataclass
class Arguments:
    """Build an index of finished retrieval runs, or add products to one.

    To build one:
    runs: a run's or sweep's folder, or several, as "['a','b']": the inner quotes keep the commas of
      folders such as fold=0,model=b0.
    out: the index's folder.
    weights: one number per run, in the order of their folders; null: equal.
    kind: exact; or a kind of FAISS: flat, hnsw (fast), ivfpq (small).
    tta: use the embeddings averaged over test-time augmentation.
    vote: weighted, nearest or winners: how neighbours vote, see `retrieval.search`; null: the first
      run's vote (task.vote). Each kind of vote gets its own rejection threshold.
    k: neighbours that vote; null: the first run's k. The thresholds of weighted and winners are
      valid for this k only.
    precision: minimum for the answers above the rejection threshold, 0 to 1; null: the best F1.
    keep_added: if an index is replaced, keep the pictures that were added to it: they are embedded
      by the new networks.
    gallery_views: pitches in degrees, such as "[15,30,45]": each picture is in the index once more
      as a camera at that pitch would see it. For products with few pictures; best with
      vote=nearest. null: none.

    To add to one:
    index: the index's folder.
    add: pictures in one folder per product, FOLDER/<label>/*.jpg.
    gallery_views: as above; null: those of the index.

    Both:
    batch_size: pictures embedded at a time.
    device: auto, cpu, cuda, cuda:<n>, mps.
    csv: plain; excel: rejection.csv opens right in a spreadsheet, and pictures-excel.csv is a copy
      of pictures.csv that does.
    """

    runs: Any = None
    out: str | None = None
    weights: list[float] | None = None
    kind: str = "exact"
    tta: bool = True
    vote: str | None = None
    k: int | None = None
    precision: float | None = None
    keep_added: bool = True
    gallery_views: list[float] | None = None
    index: str | None = None
    add: str | None = None
    batch_size: int = 64
    device: str = "auto"
    csv: str = "plain"


BUILDING = ("runs", "out", "weights", "kind", "tta", "vote", "k", "precision", "keep_added")
ADDING = ("index", "add")


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.retrieval.index")
    check_at_least_one(arguments, "batch_size")
    check_pitches(arguments.gallery_views)
    check_style(arguments.csv)
    changed = [f.name for f in fields(Arguments) if getattr(arguments, f.name) != f.default]
    if {"runs", "out"} <= set(changed):
        idle = [key for key in changed if key in ADDING]
        command, what = build, "an index is built"
    elif {"index", "add"} <= set(changed):
        idle = [key for key in changed if key in BUILDING]
        command, what = add_products, "products are added"
    else:
        raise UserError(
            "Pass runs=... and out=... to build an index, or index=... and add=... to add products "
            "to one."
        )
    if idle:
        raise UserError(f"{idle[0]}=... has no effect when {what}; leave it out.")
    command(arguments)


def build(arguments: Arguments) -> None:
    """Build and write an index, and print its sources, size and rejection threshold."""
    # Imported here, so that --help and errors do not wait seconds for torch.
    from product_cls.config.border import keys_for_arguments
    from product_cls.core.device import pick_device
    from product_cls.core.tables import csv_bytes, formula_note
    from product_cls.display.style import png
    from product_cls.neighbours.exact import check_search
    from product_cls.neighbours.searchers import KINDS
    from product_cls.neighbours.votes import KINDS as VOTES
    from product_cls.neighbours.votes import Vote
    from product_cls.retrieval.index.growing import with_added_earlier, with_views_of_all
    from product_cls.retrieval.index.meta import Rejection
    from product_cls.retrieval.index.sources import build_index, load_embedded_runs, weigh_runs
    from product_cls.retrieval.index.tune_rejection import (
        rejection_figure,
        search_held_out,
        tune_rejection,
    )
    from product_cls.retrieval.index.writing import check_writable, lock_index, write_index

    assert arguments.out is not None
    if arguments.kind not in KINDS:
        raise UserError(f"kind={arguments.kind}; allowed: {', '.join(KINDS)}.")
    out, device = Path(arguments.out), pick_device(arguments.device)
    check_writable(out)
    roots = arguments.runs if isinstance(arguments.runs, list) else [arguments.runs]
    runs, left_out = load_embedded_runs([Path(str(root)) for root in roots], tta=arguments.tta)
    for sentence in left_out:
        print(f"LEFT OUT: {sentence}.")
    if left_out:
        print(f"Indexed: {len(runs)} of {len(runs) + len(left_out)} runs.")
    runs = weigh_runs(runs, arguments.weights)
    with keys_for_arguments(kind="vote"):
        vote = runs[0].vote.altered(arguments.vote, arguments.k)
    index = build_index(runs, vote, kind=arguments.kind)
    with keys_for_arguments():
        check_search(len(index.id), vote.k)
    extras: dict[str, bytes] = {}
    votes = [vote, *(Vote(kind, vote.k) for kind in VOTES if kind != vote.kind)]
    others: dict[str, Rejection] = {}
    if any(run.val is not None for run in runs):
        searched = search_held_out(runs, votes, device=device)
        tuned = tune_rejection(searched[0], precision=arguments.precision)
        for other, found in zip(votes[1:], searched[1:], strict=True):
            try:
                others[other.kind] = tune_rejection(found, precision=arguments.precision).rejection
            except UserError as error:
                print(f"NOTE: no threshold for vote={other.kind}: {error}")
        index = replace(index, rejection=tuned.rejection, other_rejections=others)
        extras[CURVE] = csv_bytes(tuned.table(), style=arguments.csv)
        extras[PLOT] = png(rejection_figure(tuned))
    elif arguments.precision is not None:
        raise UserError(
            f"precision={arguments.precision} needs held-out pictures to tune a threshold on, and "
            "no run held out any (fold=all)."
        )
    with lock_index(out), keys_for_arguments():
        if arguments.gallery_views:
            index = with_views_of_all(index, arguments.gallery_views, arguments.batch_size, device)
        if arguments.keep_added:
            index = with_added_earlier(index, out, arguments.batch_size, device)
        if arguments.csv == "excel":
            extras[EXCEL] = csv_bytes(index.pictures(), style="excel")
        write_index(index, out, extras=extras)
    for source in index.sources:
        print(f"{source.name}: weight {source.weight:g}, mean of {', '.join(source.tta)}")
    count, dimension = index.embedding.shape
    print(
        f"{count} pictures of {len(index.classes)} products, {dimension} numbers each, "
        f"kind={index.kind}, {index.vote} -> {out}"
    )
    if index.rejection is None:
        print("No run held out pictures (fold=all), so there is no tuned threshold.")
    else:
        print(
            f"Unknown below similarity {index.rejection.threshold:.4f}: precision "
            f"{index.rejection.precision:.1%}, recall {index.rejection.recall:.1%} with "
            f"{index.vote} on held-out pictures -> {out / CURVE}, {out / PLOT}"
        )
        for kind, rejection in others.items():
            print(
                f"With vote={kind}: below {rejection.threshold:.4f}, precision "
                f"{rejection.precision:.1%}, recall {rejection.recall:.1%}"
            )
    if note := formula_note([index.pictures()], arguments.csv):
        print(f"NOTE: {note}")


def add_products(arguments: Arguments) -> None:
    """Add pictures to an index, and print their number by product."""
    assert arguments.index is not None and arguments.add is not None
    folder, new = Path(arguments.index), Path(os.path.abspath(arguments.add))
    check_index(folder)

    # Imported here, so that --help and errors do not wait seconds for torch.

    from product_cls.core.device import pick_device
    from product_cls.core.tables import csv_bytes, formula_note
    from product_cls.data.faults import listed
    from product_cls.retrieval.index.add import list_products, outvoted_labels
    from product_cls.retrieval.index.gallery_views import GalleryPicture, pitches_of, with_views
    from product_cls.retrieval.index.growing import appended, embedded_pictures
    from product_cls.retrieval.index.store import GalleryIndex
    from product_cls.retrieval.index.writing import lock_index, write_index

    device = pick_device(arguments.device)
    GalleryIndex.open(folder)  # fails before a lock file is created beside a damaged index
    with lock_index(folder):
        index = GalleryIndex.open(folder)
        indexed = set(index.path.tolist())
        products = list_products(new)
        fresh = [(path, label) for path, label in products if str(path) not in indexed]
        if not fresh:
            raise UserError(f"All {len(products)} pictures in {new} are in the index already.")
        given = arguments.gallery_views
        pitches = pitches_of(index) if given is None else given
        pictures = with_views(
            [
                GalleryPicture(path.relative_to(new.parent).as_posix(), path, label)
                for path, label in fresh
            ],
            pitches,
        )
        embedded = embedded_pictures(index, pictures, arguments.batch_size, device)
        grown = appended(index, pictures, embedded)
        searcher = None
        if index.kind != "exact":
            searcher = index.open_searcher(mapped=False)
            searcher.add(embedded.embedding)
        carried = [folder / name for name in (CURVE, PLOT) if (folder / name).is_file()]
        extras = {file.name: file.read_bytes() for file in carried}
        if arguments.csv == "excel":
            extras[EXCEL] = csv_bytes(grown.pictures(), style="excel")
        write_index(grown, folder, searcher=searcher, extras=extras)
    if skipped := len(products) - len(fresh):
        print(f"SKIPPED: {skipped} pictures of {new} are in the index already.")
    for row, why in embedded.unreadable.items():
        if row < len(fresh):
            print(f"LEFT OUT, cannot be decoded: {shown(fresh[row][0])}: {why}")
    added = [fresh[row] for row in embedded.row.tolist() if row < len(fresh)]
    labels = [label for _, label in added]
    for label, count in Counter(labels).items():
        state = "new" if label not in index.classes else "known"
        print(f"{state} product {shown(label)}: {count} added")
    if outvoted := outvoted_labels(grown, labels):
        names = listed(outvoted, NAMED)
        print(
            f"NOTE: fewer than {grown.vote.needed} pictures, so that with {grown.vote} other "
            f"products can outvote them, however near they are: {names}; add more pictures, or "
            "search with vote=nearest."
        )
    views = f" and {len(embedded.row) - len(added)} views of them" if pitches else ""
    print(
        f"{len(added)} pictures{views} added: {len(grown.id)} pictures of {len(grown.classes)} "
        f"products -> {folder}"
    )
    if note := formula_note([grown.pictures()], arguments.csv):
        print(f"NOTE: {note}")


if __name__ == "__main__":
    guard(main)
