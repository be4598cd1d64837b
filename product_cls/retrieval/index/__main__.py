"""Build an index from finished runs, or add products to an index without training.

    python -m product_cls.retrieval.index runs=multirun/retrieval out=index/products
    python -m product_cls.retrieval.index index=index/products add=FOLDER

Building reads the runs' ``predictions/gallery.npz`` and decodes no picture. ``tune_rejection.py``
explains the threshold below which a picture counts as unknown.
"""

import os
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from product_cls.core.cli import check_at_least_one, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.retrieval.index.layout import CURVE, PLOT, check_index

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
      run's vote (task.vote). The rejection threshold is valid for this vote only.
    k: neighbours that vote; null: the first run's k.
    precision: minimum for the answers above the rejection threshold, 0 to 1; null: the best F1.

    To add to one:
    index: the index's folder.
    add: pictures in one folder per product, FOLDER/<label>/*.jpg.
    batch_size: pictures embedded at a time.

    Both:
    device: auto, cpu, cuda, cuda:<n>, mps.
    """

    runs: Any = None
    out: str | None = None
    weights: list[float] | None = None
    kind: str = "exact"
    tta: bool = True
    vote: str | None = None
    k: int | None = None
    precision: float | None = None
    index: str | None = None
    add: str | None = None
    batch_size: int = 64
    device: str = "auto"


BUILDING = ("runs", "out", "weights", "kind", "tta", "vote", "k", "precision")
ADDING = ("index", "add", "batch_size")


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.retrieval.index")
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
    from product_cls.display.style import png
    from product_cls.neighbours.exact import check_search
    from product_cls.neighbours.searchers import KINDS
    from product_cls.retrieval.index.sources import build_index, load_embedded_runs, weigh_runs
    from product_cls.retrieval.index.store import check_writable, lock_index, write_index
    from product_cls.retrieval.index.tune_rejection import rejection_figure, tune_rejection

    assert arguments.out is not None
    if arguments.kind not in KINDS:
        raise UserError(f"kind={arguments.kind}; allowed: {', '.join(KINDS)}.")
    out, device = Path(arguments.out), pick_device(arguments.device)
    check_writable(out)
    roots = arguments.runs if isinstance(arguments.runs, list) else [arguments.runs]
    runs, left_out = load_embedded_runs([Path(str(root)) for root in roots], tta=arguments.tta)
    for sentence in left_out:
        print(f"LEFT OUT: {sentence}.")
    runs = weigh_runs(runs, arguments.weights)
    with keys_for_arguments(kind="vote"):
        vote = runs[0].vote.altered(arguments.vote, arguments.k)
    index = build_index(runs, vote, kind=arguments.kind)
    with keys_for_arguments():
        check_search(len(index.id), vote.k)
    extras: dict[str, bytes] = {}
    if any(run.val is not None for run in runs):
        tuned = tune_rejection(runs, vote, precision=arguments.precision, device=device)
        index = replace(index, rejection=tuned.rejection)
        extras[CURVE] = tuned.table().to_csv(index=False).encode()
        extras[PLOT] = png(rejection_figure(tuned))
    elif arguments.precision is not None:
        raise UserError(
            f"precision={arguments.precision} needs held-out pictures to tune a threshold on, and "
            "no run held out any (fold=all)."
        )
    with lock_index(out), keys_for_arguments():
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


def add_products(arguments: Arguments) -> None:
    """Add pictures to an index, and print their number by product."""
    assert arguments.index is not None and arguments.add is not None
    check_at_least_one(arguments, "batch_size")
    folder, new = Path(arguments.index), Path(os.path.abspath(arguments.add))
    check_index(folder)

    # Imported here, so that --help and errors do not wait seconds for torch.
    from product_cls.core.device import pick_device
    from product_cls.retrieval.index.add import list_products, outvoted_labels
    from product_cls.retrieval.index.embed import embed_pictures, load_predictors
    from product_cls.retrieval.index.store import GalleryIndex, lock_index, write_index

    device = pick_device(arguments.device)
    GalleryIndex.open(folder)  # fails before a lock file is created beside a damaged index
    with lock_index(folder):
        index = GalleryIndex.open(folder)
        indexed = set(index.path.tolist())
        products = list_products(new)
        fresh = [(path, label) for path, label in products if str(path) not in indexed]
        if not fresh:
            raise UserError(f"All {len(products)} pictures in {new} are in the index already.")
        embedded = embed_pictures(
            index,
            load_predictors(index),
            [path for path, _ in fresh],
            batch_size=arguments.batch_size,
            device=device,
        )
        added = [fresh[row] for row in embedded.row]
        grown = index.with_added(
            [path.relative_to(new.parent).as_posix() for path, _ in added],
            [str(path) for path, _ in added],
            [label for _, label in added],
            embedded.embedding,
        )
        searcher = None
        if index.kind != "exact":
            searcher = index.open_searcher(mapped=False)
            searcher.add(embedded.embedding)
        carried = [folder / name for name in (CURVE, PLOT) if (folder / name).is_file()]
        extras = {file.name: file.read_bytes() for file in carried}
        write_index(grown, folder, searcher=searcher, extras=extras)
    if skipped := len(products) - len(fresh):
        print(f"SKIPPED: {skipped} pictures of {new} are in the index already.")
    for row, why in embedded.unreadable.items():
        print(f"LEFT OUT, cannot be decoded: {fresh[row][0]}: {why}")
    for label, count in Counter(label for _, label in added).items():
        print(f"{'new' if label not in index.classes else 'known'} product {label}: {count} added")
    if outvoted := outvoted_labels(grown, {label for _, label in added}):
        shown = ", ".join(outvoted[:NAMED]) + (", ..." if len(outvoted) > NAMED else "")
        print(
            f"NOTE: fewer than {grown.vote.needed} pictures, so that with {grown.vote} other "
            f"products can outvote them, however near they are: {shown}; add more pictures, or "
            "search with vote=nearest."
        )
    print(
        f"{len(added)} pictures added: {len(grown.id)} pictures of {len(grown.classes)} products "
        f"-> {folder}"
    )


if __name__ == "__main__":
    guard(main)
