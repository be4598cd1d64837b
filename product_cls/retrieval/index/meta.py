"""``index.json``: what an index holds, with a checksum of each file and of itself.

A flipped bit in an index gives wrong answers that look right, so nothing is used before its
checksum is verified, and every value is checked against its range.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from product_cls.core.errors import UserError, reason
from product_cls.core.files import digest, file_checksum
from product_cls.core.names import nfc, shown
from product_cls.inference.tta import build_views
from product_cls.neighbours.searchers import KINDS
from product_cls.neighbours.votes import KINDS as VOTES
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.layout import EMBEDDINGS, FAISS, META, PICTURES

FORMAT = 3  # increase it when the files change, so that older indexes are refused


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
        precision, recall: of the vote that it was tuned for at the threshold, in [0, 1], see
            ``rejection.Threshold``.
    """

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class IndexMeta:
    """The content of ``index.json``.

    Attributes:
        kind, sources, classes, vote, rejection, other_rejections, added: see ``GalleryIndex``.
        count, dimension: shape of the embeddings.
        files: SHA-256 of each file that is needed, by name, in hexadecimal digits.

    Raises:
        ValueError: a value outside its range, or of another type.
    """

    kind: str
    count: int
    dimension: int
    sources: list[Source]
    classes: list[str]
    vote: Vote
    rejection: Rejection | None
    other_rejections: Mapping[str, Rejection]
    added: int
    files: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={shown(self.kind)}; allowed: {', '.join(KINDS)}")
        _check_whole("count", self.count, 1, math.inf)
        _check_whole("dimension", self.dimension, 1, math.inf)
        _check_whole("added", self.added, 0, self.count)
        if not self.sources:
            raise ValueError("it names no network")
        for source in self.sources:
            for name in ("name", "checkpoint", "digest"):
                if not isinstance(getattr(source, name), str):
                    raise ValueError(f"{name} of a network is no text")
            _check_number("weight", source.weight, 0, math.inf)
            try:
                build_views(source.tta)
            except UserError as error:
                raise ValueError(reason(error)) from None
        check_classes(self.classes)
        for key, rejection in (("", self.rejection), *self.other_rejections.items()):
            if key and key not in VOTES:
                raise ValueError(f"vote={shown(key)}; allowed: {', '.join(VOTES)}")
            if rejection is not None:
                _check_number("threshold", rejection.threshold, -1.001, 1.001)  # float32
                _check_number("precision", rejection.precision, 0, 1)
                _check_number("recall", rejection.recall, 0, 1)

    def write(self, folder: Path) -> None:
        """Write ``index.json``, with its own checksum."""
        content: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        content["checksum"] = _checksum(content)
        (folder / META).write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "IndexMeta":
        """Read ``index.json`` and verify the checksums of the files that it names.

        Raises:
            UserError: the index has another format.
            ValueError, KeyError, TypeError, RecursionError: the file, or one it names, is damaged.
            OSError: one of the files cannot be read.
        """
        content = json.loads((folder / META).read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"{META} holds no settings")
        if content.get("format") != FORMAT:
            raise UserError(
                f"{folder} is an index of format {shown(content.get('format'))}, and this version "
                f"reads format {FORMAT}; build it again."
            )
        checksum = content.pop("checksum", None)
        if checksum != _checksum(content):
            raise ValueError(f"{META} is not as it was written")
        del content["format"]
        if unknown := content.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"{META} has an unknown field '{shown(min(unknown))}'")
        meta = cls(
            **content
            | {
                "sources": [Source(**source) for source in content["sources"]],
                "vote": Vote(**content["vote"]),
                "rejection": content["rejection"] and Rejection(**content["rejection"]),
                "other_rejections": {
                    kind: Rejection(**values)
                    for kind, values in content["other_rejections"].items()
                },
            }
        )
        if set(meta.files) != set(needed_files(meta.kind)):
            raise ValueError(f"{META} names other files than kind={meta.kind} needs")
        for name, expected in meta.files.items():
            if file_checksum(folder / name) != expected:
                raise ValueError(f"{name} is not as it was written")
        return meta


def _checksum(content: Mapping[str, Any]) -> str:
    """Checksum of ``index.json``, without the paths of checkpoints, which may be moved.

    The weights in a checkpoint have a digest of their own.
    """
    sources = [{**source, "checkpoint": ""} for source in content["sources"]]
    return digest({**content, "sources": sources})


def needed_files(kind: str) -> list[str]:
    """Names of the files of an index beside ``index.json``."""
    return [EMBEDDINGS, PICTURES, *([] if kind == "exact" else [FAISS])]


def check_classes(classes: Sequence[str]) -> None:
    """Check names of products.

    Raises:
        ValueError: one is no text, or two are the same in Unicode's composed form.
    """
    names: set[str] = set()
    for name in classes:
        if not isinstance(name, str):
            raise ValueError("the name of a product is no text")
        if nfc(name) in names:
            raise ValueError(f"two products have the name '{shown(name)}'")
        names.add(nfc(name))


def _check_whole(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}={shown(value)}; allowed: a whole number, {low} or more")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Comparisons with NaN are false, and infinity is no weight.
    if not number or not low <= value <= high or not math.isfinite(value):  # type: ignore[operator,arg-type]
        raise ValueError(f"{name}={shown(value)}; allowed: a finite number from {low} to {high}")
