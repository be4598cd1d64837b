"""The index: a gallery of labelled pictures on disk, and the networks that embed its queries.

Its folder has ``index.json`` (sources and settings), ``embeddings.npy`` (float32 ``[N, D]``, opened
memory-mapped), ``pictures.csv`` (``id, path, label``, one row per embedding) and, for FAISS kinds,
``gallery.faiss``. It is written to a temporary folder, read back, and renamed when complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tokenize import TokenError

import numpy as np
import pandas as pd
import torch

from product_cls.core.errors import UserError, reason
from product_cls.core.names import is_text, nfc, shown
from product_cls.core.tables import read_csv_rows
from product_cls.neighbours.exact import GATHERED, Neighbours, blocks, search_exact
from product_cls.neighbours.searchers import Searcher, load_searcher
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.layout import COLUMNS, EMBEDDINGS, FAISS, PICTURES, check_index
from product_cls.retrieval.index.meta import IndexMeta, Rejection, Source, check_classes

LONGEST = 1.001  # length of an L2-normalised float32 embedding; one without direction has 0
# What a damaged or hostile file can raise while it is parsed.
DAMAGE = (
    EOFError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, SyntaxError,
    RecursionError, MemoryError, TokenError,
)  # fmt: skip


@dataclass(frozen=True)
class GalleryIndex:
    """A gallery that can be searched.

    Attributes:
        sources: the networks whose embeddings are joined, in this order.
        classes: names of the products, ``[C]``; those of the networks' heads come first.
        kind: one of ``searchers.KINDS``.
        vote: the default vote of a search; the rejection threshold is tuned for it.
        rejection: None if there were no held-out pictures to tune it on.
        other_rejections: those of the other kinds of vote, with the same k, by kind.
        id, path: ids and absolute paths of the pictures, text ``[N]``; ids are unique.
        target: int64 ``[N]``, positions in ``classes``.
        embedding: float32 ``[N, D]``, L2-normalised; a read-only memory map if opened from disk.
        added: number of pictures that were added after the index was built; they come last.
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
    other_rejections: Mapping[str, Rejection] = field(default_factory=dict)
    added: int = 0
    folder: Path | None = None

    def __post_init__(self) -> None:
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
            meta = IndexMeta.read(folder)
            # A memory map from the start, because `np.load` would open other kinds of files, too.
            embedding = np.lib.format.open_memmap(folder / EMBEDDINGS, mode="r")
            head, *rows = read_csv_rows((folder / PICTURES).read_bytes().decode())
            shape = meta.count, meta.dimension
            if embedding.shape != shape or embedding.dtype != np.float32:
                raise ValueError(f"{EMBEDDINGS} is {embedding.dtype} {list(embedding.shape)}")
            if head != COLUMNS or len(rows) != meta.count or {len(row) for row in rows} != {3}:
                raise ValueError(f"{PICTURES} is no table of {meta.count} pictures")
            ids, paths, labels = (np.array(column, np.str_) for column in zip(*rows, strict=True))
            position = {name: k for k, name in enumerate(meta.classes)}
            index = cls(
                sources=meta.sources,
                classes=meta.classes,
                kind=meta.kind,
                vote=meta.vote,
                rejection=meta.rejection,
                id=ids,
                path=paths,
                target=np.array([position[name] for name in labels.tolist()], np.int64),
                embedding=embedding,
                other_rejections=meta.other_rejections,
                added=meta.added,
                folder=folder,
            )
            index.check()
            return index
        except UserError:
            raise
        except FileNotFoundError as error:
            why = f"{Path(error.filename).name} is missing"
        except OSError as error:
            raise UserError(
                f"The index {folder} cannot be read: {error.strerror or error}."
            ) from None
        except DAMAGE as error:
            why = reason(error)
        raise UserError(f"{folder} is a damaged index ({why}); build it again.")

    def check(self) -> None:
        """Check what no checksum covers: an index that was made wrongly.

        Raises:
            ValueError: ids that are not unique, names that are not UTF-8, or embeddings that are
                longer than 1, with NaN or infinity.
        """
        check_classes(self.classes)
        if len(np.unique(self.id)) < len(self.id):
            raise ValueError("two pictures have the same id")
        for text in (*self.id.tolist(), *self.path.tolist(), *self.classes):
            if not is_text(text):
                raise ValueError(f"the name '{shown(text)}' is not UTF-8; rename it")
        for rows in blocks(len(self.embedding), max(1, GATHERED // self.embedding.shape[1])):
            block = self.embedding[rows]
            lengths = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
            fits = lengths <= LONGEST  # false for NaN
            if not fits.all():
                row = int(fits.argmin())
                raise ValueError(
                    f"the embedding of {shown(self.id[rows][row])} has the length "
                    f"{lengths[row]:g}; allowed: 1"
                )

    def pictures(self) -> pd.DataFrame:
        """``pictures.csv``: columns ``id, path, label``, a row for each picture."""
        labels = np.array(self.classes)[self.target]
        return pd.DataFrame(dict(zip(COLUMNS, (self.id, self.path, labels), strict=True)))

    def rejection_for(self, vote: Vote) -> Rejection | None:
        """The threshold that was tuned for a vote; None if there is none.

        The nearest neighbour decides with ``nearest``, whatever k is.
        """
        if vote.kind == self.vote.kind and vote.k == self.vote.k:
            return self.rejection
        if vote.kind != "nearest" and vote.k != self.vote.k:
            return None
        return (
            self.rejection if vote.kind == self.vote.kind else self.other_rejections.get(vote.kind)
        )

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
        # Labels are compared in one Unicode form, and keep the form that they first had.
        names = {nfc(name): name for name in self.classes}
        for label in labels:
            names.setdefault(nfc(label), label)
        position = {name: k for k, name in enumerate(names)}
        targets = np.array([position[nfc(label)] for label in labels], np.int64)
        return replace(
            self,
            classes=list(names.values()),
            id=np.concatenate([self.id, np.array(ids, np.str_)]),
            path=np.concatenate([self.path, np.array(paths, np.str_)]),
            target=np.concatenate([self.target, targets]),
            embedding=np.concatenate([self.embedding, embedding.astype(np.float32)]),
            added=self.added + len(ids),
        )
