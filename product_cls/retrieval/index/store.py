"""The index: a gallery of labelled pictures on disk, with the networks that embed queries for it.

A folder with ``index.json`` (what it is made of), ``embeddings.npy`` (float32 ``[N, D]``, opened
memory-mapped), ``pictures.csv`` (``id, path, label``, a row an embedding) and, for the kinds that
have one, ``gallery.faiss``. It is written beside and renamed when whole.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock

from product_cls.core.errors import UserError, reason
from product_cls.core.files import check_place
from product_cls.neighbours.exact import GATHERED, Neighbours, blocks, search_exact
from product_cls.neighbours.searchers import (
    KINDS,
    Searcher,
    build_searcher,
    load_searcher,
    save_searcher,
)
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.layout import EMBEDDINGS, FAISS, META, PICTURES, check_index

FORMAT = 2  # raise it when the files change, so that older indexes are refused


@dataclass(frozen=True)
class Source:
    """A network that embeds for an index.

    Attributes:
        name: of its run, for messages.
        checkpoint: absolute path.
        digest: of its weights, see ``embed.weights_digest``.
        weight: of its part of the embedding, see ``join_embeddings``.
        tta: views that are averaged.
    """

    name: str
    checkpoint: str
    digest: str
    weight: float
    tta: list[str]


@dataclass(frozen=True)
class Rejection:
    """Below which best similarity a query counts as unknown, and what that costs.

    Attributes:
        threshold: a cosine.
        precision, recall: of the index's vote, see ``rejection.Threshold``, in [0, 1].
    """

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class GalleryIndex:
    """A gallery that can be searched.

    Attributes:
        sources: whose embeddings are joined, in this order.
        classes: names of the products; those of the networks' heads stand first.
        kind: one of ``searchers.KINDS``.
        vote: how neighbours answer where a search does not say; rejection is tuned for it.
        rejection: None where nothing was there to tune it on.
        id, path: of the pictures, ``[N]``; ids are unique, paths absolute.
        target: int64 ``[N]``, positions in ``classes``.
        embedding: float32 ``[N, D]``, of length 1; a read-only map of an opened index's file.
        folder: where it lies; None before it is written.
    """

    sources: list[Source]
    classes: list[str]
    kind: str
    vote: Vote
    rejection: Rejection | None
    id: np.ndarray
    path: np.ndarray
    target: np.ndarray
    embedding: np.ndarray
    folder: Path | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS
        assert len(self.id) == len(self.path) == len(self.target) == len(self.embedding)

    @classmethod
    def open(cls, folder: Path) -> "GalleryIndex":
        """Map an index that ``write_index`` wrote.

        Raises:
            UserError: there is none, it is of another format, a file is damaged, or they disagree.
        """
        check_index(folder)
        try:
            meta = json.loads((folder / META).read_text())
            if meta["format"] != FORMAT:
                raise UserError(
                    f"{folder} is an index of format {meta['format']}, and this version reads "
                    f"format {FORMAT}; build it anew."
                )
            embedding = np.load(folder / EMBEDDINGS, mmap_mode="r")
            pictures = pd.read_csv(folder / PICTURES, dtype=str, keep_default_na=False)
            shape = meta["count"], meta["dimension"]
            if embedding.shape != shape or len(pictures) != shape[0] or meta["kind"] not in KINDS:
                raise ValueError("its files disagree")
            position = {name: k for k, name in enumerate(meta["classes"])}
            return cls(
                sources=[Source(**source) for source in meta["sources"]],
                classes=meta["classes"],
                kind=meta["kind"],
                vote=Vote(**meta["vote"]),
                rejection=meta["rejection"] and Rejection(**meta["rejection"]),
                id=pictures["id"].to_numpy(dtype=np.str_),
                path=pictures["path"].to_numpy(dtype=np.str_),
                target=np.array([position[name] for name in pictures["label"]], np.int64),
                embedding=embedding,
                folder=folder,
            )
        except UserError:
            raise
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            why = reason(error)
            raise UserError(f"{folder} is a damaged index ({why}); build it anew.") from None

    def search(
        self, queries: np.ndarray, k: int, *, device: torch.device | None = None
    ) -> Neighbours:
        """The ``k`` nearest pictures of each query.

        Similarities are cosines whatever the kind: those that ``ivfpq`` gives, of codes, are taken
        again from the embeddings, which puts its neighbours in their right order.

        Args:
            queries: ``[N, D]``, L2-normalised.
            k: 1 to the pictures there are.
            device: of ``exact``; FAISS runs on the CPU.

        Raises:
            UserError: what ``search_exact`` refuses, or a FAISS file that does not fit.
        """
        if self.kind == "exact":
            return search_exact(queries, self.embedding, k, device=device)
        found = self.open_searcher().search(queries, k)
        return found if self.kind != "ivfpq" else self._by_cosine(queries, found)

    def open_searcher(self, *, mapped: bool = True) -> Searcher:
        """The searcher of FAISS, for reading only where ``mapped``.

        Raises:
            UserError: its file is missing, damaged, or of another gallery.
        """
        assert self.folder is not None
        searcher = load_searcher(self.folder / FAISS, mapped=mapped)
        if (searcher.kind, searcher.count) != (self.kind, len(self.id)):
            raise UserError(
                f"{self.folder / FAISS} (kind={searcher.kind}, {searcher.count} pictures) is not "
                f"of this index (kind={self.kind}, {len(self.id)} pictures); build it anew."
            )
        return searcher

    def _by_cosine(self, queries: np.ndarray, found: Neighbours) -> Neighbours:
        similarity = np.empty_like(found.similarity)
        size = found.position.shape[1] * self.embedding.shape[1]
        for rows in blocks(len(queries), max(1, GATHERED // size)):
            gathered = self.embedding[found.position[rows]]
            similarity[rows] = np.einsum("nkd,nd->nk", gathered, queries[rows])
        return Neighbours(similarity, found.position).best(similarity.shape[1])

    def with_added(
        self,
        ids: Sequence[str],
        paths: Sequence[str],
        labels: Sequence[str],
        embedding: np.ndarray,
    ) -> "GalleryIndex":
        """The same with more pictures at its end, in memory; labels it lacks join the classes.

        Args:
            ids, paths, labels: of the new pictures, ``[A]``.
            embedding: ``[A, D]``, of length 1.

        Raises:
            UserError: an id that is there already, named.
        """
        if len(taken := np.flatnonzero(np.isin(ids, self.id))):
            raise UserError(
                f"The index has {len(taken)} other pictures of these ids already, the first is "
                f"'{ids[taken[0]]}'; rename the folder that is added."
            )
        # By first appearance; `dict` keeps that order and each name once.
        classes = list(dict.fromkeys([*self.classes, *labels]))
        position = {name: k for k, name in enumerate(classes)}
        targets = np.array([position[label] for label in labels], np.int64)
        return replace(
            self,
            classes=classes,
            id=np.concatenate([self.id, np.array(ids, np.str_)]),
            path=np.concatenate([self.path, np.array(paths, np.str_)]),
            target=np.concatenate([self.target, targets]),
            embedding=np.concatenate([self.embedding, embedding.astype(np.float32)]),
        )


def check_writable(folder: Path) -> None:
    """Refuse to replace what is no index, and places where none can be made.

    Raises:
        UserError: a file, a folder that holds something else, or what ``check_place`` refuses.
    """
    check_place(folder.resolve().parent)  # it is written beside, and renamed
    if folder.is_dir() and ((folder / META).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise UserError(f"{folder} exists and is no index; choose another place with out=...")


@contextmanager
def lock_index(folder: Path) -> Iterator[None]:
    """Hold an index that is built or added to; the second of two commands waits.

    Raises:
        UserError: the lock cannot be put beside it.
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
        yield
    finally:
        lock.release()


def write_index(
    index: GalleryIndex,
    folder: Path,
    *,
    searcher: Searcher | None = None,
    extras: Mapping[str, bytes] | None = None,
) -> None:
    """Write an index whole or not at all, in place of one that is there; under ``lock_index``.

    Args:
        index: its ``folder`` is not looked at.
        folder: where to.
        searcher: of its embeddings; None builds one for the kinds of FAISS.
        extras: further files of the folder, by name.

    Raises:
        UserError: what ``build_searcher`` refuses, or a folder that cannot be written.
    """
    check_writable(folder)
    folder = folder.resolve()
    if searcher is None and index.kind != "exact":
        searcher = build_searcher(index.kind, index.embedding)
    meta: dict[str, Any] = {
        "format": FORMAT,
        "kind": index.kind,
        "count": len(index.id),
        "dimension": index.embedding.shape[1],
        "sources": [asdict(source) for source in index.sources],
        "vote": index.vote.spec(),
        "rejection": index.rejection and asdict(index.rejection),
        "classes": index.classes,
    }
    labels = np.array(index.classes)[index.target]
    pictures = pd.DataFrame({"id": index.id, "path": index.path, "label": labels})
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    earlier = folder.with_name(f".{folder.name}.earlier-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        np.save(partial / EMBEDDINGS, index.embedding)
        pictures.to_csv(partial / PICTURES, index=False)
        if searcher is not None and index.kind != "exact":
            save_searcher(searcher, partial / FAISS)
        for name, content in (extras or {}).items():
            (partial / name).write_bytes(content)
        (partial / META).write_text(json.dumps(meta, indent=1) + "\n")
        # Processes that have the old one open keep its pages until they close it.
        if folder.exists():
            folder.rename(earlier)
        partial.rename(folder)
    except OSError as error:
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        raise UserError(
            f"The index {folder} cannot be written: {error.strerror or error}."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)
