"""Writes an index: one writer at a time, whole or not at all, and read back before it counts."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock

from product_cls.core.errors import UserError, reason
from product_cls.core.files import check_place, file_checksum
from product_cls.core.tables import write_csv
from product_cls.neighbours.searchers import Searcher, build_searcher, save_searcher
from product_cls.retrieval.index.layout import (
    EMBEDDINGS,
    FAISS,
    META,
    PICTURES,
    leftovers,
)
from product_cls.retrieval.index.meta import IndexMeta, needed_files
from product_cls.retrieval.index.store import GalleryIndex


def check_writable(folder: Path) -> None:
    """Check that an index can be written here, and that it would replace nothing but an index.

    Raises:
        UserError: there is a file or a folder with other content, or the place is not writable.
    """
    check_place(folder.resolve().parent)  # the temporary folder is created there
    if folder.is_dir() and ((folder / META).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise UserError(f"{folder} exists and is not an index; choose another place with out=...")


@contextmanager
def lock_index(folder: Path) -> Iterator[None]:
    """Lock an index while it is built or extended; a second command waits.

    Raises:
        UserError: the lock file cannot be created beside the index.
    """
    folder = folder.resolve()  # `index=.` has no name
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"The index {folder} cannot be locked: {error.strerror or error}."
        ) from None
    try:
        _tidy(folder)
        yield
    finally:
        lock.release()


def _tidy(folder: Path) -> None:
    """Restore the index, and delete the rest, that a killed writer has left; call it locked."""
    for earlier in leftovers(folder, "earlier"):
        if not folder.exists():
            earlier.rename(folder)
    for kind in ("partial", "earlier"):
        for rest in leftovers(folder, kind):
            shutil.rmtree(rest, ignore_errors=True)


def write_index(
    index: GalleryIndex,
    folder: Path,
    *,
    searcher: Searcher | None = None,
    extras: Mapping[str, bytes] | None = None,
) -> None:
    """Write an index whole or not at all, replacing an existing one; call it in ``lock_index``.

    Args:
        index: its ``folder`` is ignored.
        folder: where to write.
        searcher: searches the index's embeddings; None builds one for FAISS kinds.
        extras: further files, name -> content.

    Raises:
        ValueError: ``build_searcher`` refuses the kind for this gallery.
        UserError: the folder cannot be written, the index holds what cannot be written or read
            (see ``GalleryIndex.check``), or the files read otherwise than they were written.
    """
    check_writable(folder)
    folder = folder.resolve()
    if searcher is None and index.kind != "exact":
        searcher = build_searcher(index.kind, index.embedding)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    earlier = folder.with_name(f".{folder.name}.earlier-{os.getpid()}")
    try:
        index.check()
        partial.mkdir(parents=True)
        np.save(partial / EMBEDDINGS, index.embedding)
        write_csv(partial / PICTURES, index.pictures())
        if searcher is not None and index.kind != "exact":
            save_searcher(searcher, partial / FAISS)
        for name, content in (extras or {}).items():
            (partial / name).write_bytes(content)
        meta = IndexMeta(
            kind=index.kind,
            count=len(index.id),
            dimension=index.embedding.shape[1],
            sources=index.sources,
            classes=index.classes,
            vote=index.vote,
            rejection=index.rejection,
            other_rejections=index.other_rejections,
            added=index.added,
            files={name: file_checksum(partial / name) for name in needed_files(index.kind)},
        )
        meta.write(partial)
        _read_back(index, partial, folder)
        # Processes that have the old index open keep its pages until they close it.
        if folder.exists():
            folder.rename(earlier)
        partial.rename(folder)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"The index {folder} is not written: {reason(error)}.") from None
    except OSError as error:
        raise UserError(
            f"The index {folder} cannot be written: {error.strerror or error}."
        ) from error
    finally:
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


def _read_back(index: GalleryIndex, partial: Path, folder: Path) -> None:
    """Check that the files on disk hold the index, before an earlier index is replaced.

    Raises:
        UserError: they hold something else.
    """
    try:
        written = GalleryIndex.open(partial)
    except UserError as error:
        raise UserError(
            f"The index {folder} is not written, because it cannot be read back: {error}"
        ) from None
    same = written.classes == index.classes and all(
        np.array_equal(getattr(written, name), getattr(index, name))
        for name in ("id", "path", "target", "embedding")
    )
    if not same:
        raise UserError(
            f"The index {folder} is not written, because what is read back differs; is the disk "
            "in order?"
        )
