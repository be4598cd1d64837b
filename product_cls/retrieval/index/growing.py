"""Rows that are appended to an index: views of its pictures, and pictures added earlier."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from product_cls.core.names import shown
from product_cls.retrieval.index.add import added_earlier
from product_cls.retrieval.index.embed import EmbeddedPictures, embed_pictures, load_predictors
from product_cls.retrieval.index.gallery_views import GalleryPicture, with_views
from product_cls.retrieval.index.store import GalleryIndex


def with_views_of_all(
    index: GalleryIndex, pitches: list[float], batch_size: int, device: torch.device
) -> GalleryIndex:
    """The index with its pictures at other pitches, which count as pictures of its runs."""
    labels = [index.classes[target] for target in index.target]
    own = [
        GalleryPicture(str(name), Path(path), label)
        for name, path, label in zip(index.id, index.path, labels, strict=True)
    ]
    copies = with_views(own, pitches)[len(own) :]
    embedded = embedded_pictures(index, copies, batch_size, device)
    for row, why in embedded.unreadable.items():
        print(f"LEFT OUT, cannot be decoded: {shown(copies[row].path)}: {why}")
    return replace(appended(index, copies, embedded), added=0)


def embedded_pictures(
    index: GalleryIndex,
    pictures: Sequence[GalleryPicture],
    batch_size: int,
    device: torch.device,
) -> EmbeddedPictures:
    """The pictures, each at its pitch, embedded by the index's networks."""
    return embed_pictures(
        index,
        load_predictors(index),
        [one.path for one in pictures],
        batch_size=batch_size,
        device=device,
        pitches=[one.pitch for one in pictures],
    )


def appended(
    index: GalleryIndex, pictures: Sequence[GalleryPicture], embedded: EmbeddedPictures
) -> GalleryIndex:
    """The index with those of the pictures that could be embedded."""
    kept = [pictures[row] for row in embedded.row]
    return index.with_added(
        [one.id for one in kept],
        [str(one.path) for one in kept],
        [one.label for one in kept],
        embedded.embedding,
    )


def with_added_earlier(
    index: GalleryIndex, out: Path, batch_size: int, device: torch.device
) -> GalleryIndex:
    """The index with the pictures that were added to the one that it replaces.

    Prints what is kept and what is not.
    """
    earlier, problem = added_earlier(out)
    if problem is not None:
        print(f"NOTE: {problem}")
    indexed = set(index.path.tolist())
    there = [one for one in earlier if one.path.is_file() and str(one.path) not in indexed]
    for one in earlier:
        if not one.path.is_file():
            print(f"LEFT OUT: {shown(one.path)}, which was added to {out} earlier, is missing.")
    if not there:
        return index
    embedded = embedded_pictures(index, there, batch_size, device)
    for row, why in embedded.unreadable.items():
        print(f"LEFT OUT, cannot be decoded: {shown(there[row].path)}: {why}")
    kept = [there[row] for row in embedded.row]
    print(
        f"KEPT: {len(kept)} pictures of {len({one.label for one in kept})} products that were "
        f"added to {out} earlier (keep_added=false leaves them out)."
    )
    return appended(index, there, embedded)
