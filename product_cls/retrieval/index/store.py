"""The index: a gallery of labelled pictures on disk, and the networks that embed its queries.

Its folder has ``index.json`` (sources and settings), ``embeddings.npy`` (float32 ``[N, D]``, opened
memory-mapped), ``pictures.csv`` (``id, path, label``, one row per embedding) and, for FAISS kinds,
``gallery.faiss``. It is written to a temporary folder and renamed when complete.
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

from product_cls.core.documents import read_json
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

FORMAT = 2  # increase it when the files change, so that older indexes are refused


@dataclass(frozen=True)
class Source:
    """A network of an index.

    Attributes:
        name: the network's run, for messages.
        checkpoint: absolute path.
        digest: digest of the weights, see ``embed.weights_digest``.
        weight: weight of its embedding in the joined embedding, see ``join_embeddings``.
        tta: views that are averaged.
    """

    name: str
    checkpoint: str
    digest: str
    weight: float
    tta: list[str]


@dataclass(frozen=True)
class Rejection:
    """The rejection threshold: queries with a lower best similarity count as unknown.

    Attributes:
        threshold: a cosine, in [-1, 1].
        precision, recall: of the index's vote at the threshold, in [0, 1], see
            ``rejection.Threshold``.
    """

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class GalleryIndex:
    """A gallery that can be searched.

    Attributes:
        sources: the networks whose embeddings are joined, in this order.
        classes: names of the products, ``[C]``; those of the networks' heads come first.
        kind: one of ``searchers.KINDS``.
        vote: the default vote of a search; the rejection threshold is tuned for it.
        rejection: None if there were no held-out pictures to tune it on.
        id, path: ids and absolute paths of the pictures, text ``[N]``; ids are unique.
        target: int64 ``[N]``, positions in ``classes``.
        embedding: float32 ``[N, D]``, L2-normalised; a read-only memory map if opened from disk.
        folder: the index's folder; None before it is written.
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
        """Open an index that ``write_index`` wrote, memory-mapped.

        Raises:
            UserError: there is no index, it has another format, or its files are damaged or
                inconsistent.
        """
        check_index(folder)
        try:
            meta = read_json(folder / META, dict)
            if meta["format"] != FORMAT:
                raise UserError(
                    f"{folder} is an index of format {meta['format']}, and this version reads "
                    f"format {FORMAT}; build it again."
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
            raise UserError(f"{folder} is a damaged index ({why}); build it again.") from None

    def search(
        self, queries: np.ndarray, k: int, *, device: torch.device | None = None
    ) -> Neighbours:
        """The ``k`` nearest pictures of each query.

        Similarities are cosines for every kind. Those of ``ivfpq`` are approximate, so they are
        computed again from the embeddings, which also corrects the order of the neighbours.

        Args:
            queries: float32 ``[N, D]``, L2-normalised.
            k: 1 to the number of pictures.
            device: for ``exact``; FAISS runs on the CPU.

        Raises:
            ValueError: ``k`` is out of range.
            UserError: queries of another dimension, with NaN or infinity, or a FAISS file that does
                not match the index.
        """
        if self.kind == "exact":
            return search_exact(queries, self.embedding, k, device=device)
        neighbours = self.open_searcher().search(queries, k)
        return neighbours if self.kind != "ivfpq" else self._by_cosine(queries, neighbours)

    def open_searcher(self, *, mapped: bool = True) -> Searcher:
        """The FAISS searcher, read-only if ``mapped``.

        Raises:
            UserError: its file is missing, damaged, or belongs to another gallery.
        """
        assert self.folder is not None
        searcher = load_searcher(self.folder / FAISS, mapped=mapped)
        if (searcher.kind, searcher.count) != (self.kind, len(self.id)):
            raise UserError(
                f"{self.folder / FAISS} (kind={searcher.kind}, {searcher.count} pictures) is not "
                f"of this index (kind={self.kind}, {len(self.id)} pictures); build it again."
            )
        return searcher

    def _by_cosine(self, queries: np.ndarray, neighbours: Neighbours) -> Neighbours:
        similarity = np.empty_like(neighbours.similarity)
        size = neighbours.position.shape[1] * self.embedding.shape[1]
        for rows in blocks(len(queries), max(1, GATHERED // size)):
            gathered = self.embedding[neighbours.position[rows]]
            similarity[rows] = np.einsum("nkd,nd->nk", gathered, queries[rows])
        return Neighbours(similarity, neighbours.position).best(similarity.shape[1])

    def with_added(
        self,
        ids: Sequence[str],
        paths: Sequence[str],
        labels: Sequence[str],
        embedding: np.ndarray,
    ) -> "GalleryIndex":
        """The index with pictures appended, in memory; new labels are appended to the classes.

        Args:
            ids, paths, labels: of the A new pictures.
            embedding: float ``[A, D]``, L2-normalised.

        Raises:
            UserError: the index already has one of the ids.
        """
        if len(taken := np.flatnonzero(np.isin(ids, self.id))):
            raise UserError(
                f"The index already has other pictures with {len(taken)} of these ids, the first "
                f"is '{ids[taken[0]]}'; rename the folder to add."
            )
        # `dict` keeps each name once, in the order of first appearance.
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
    """Write an index whole or not at all, replacing an existing one; call it in ``lock_index``.

    Args:
        index: its ``folder`` is ignored.
        folder: where to write.
        searcher: searches the index's embeddings; None builds one for FAISS kinds.
        extras: further files, name -> content.

    Raises:
        ValueError: ``build_searcher`` refuses the kind for this gallery.
        UserError: the folder cannot be written.
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
        # Processes that have the old index open keep its pages until they close it.
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
