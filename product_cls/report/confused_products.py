"""The products that a row of a report confuses most often, with their pictures."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image, ImageOps

from product_cls.analysis.confusions import Confusion
from product_cls.data.pictures import load_picture
from product_cls.report.confusions import Trio, find_pictures
from product_cls.report.sweep_plan import ExperimentRun

SIDE = 150  # longest side of the pictures on the page, in pixels


@dataclass(frozen=True)
class Captioned:
    """A picture with its caption; ``source`` is "" if the picture cannot be read."""

    source: str
    caption: str


@dataclass(frozen=True)
class Pair:
    """Two confused products with three pictures; ``share`` in per cent, as text."""

    target: str
    decided: str
    share: str
    pictures: Sequence[Captioned]


@dataclass(frozen=True)
class Confusions:
    """The products that a row confuses most often.

    Attributes:
        row: name of the row.
        pairs: pairs with pictures, worst first.
        table: the pairs without pictures; None if there are pictures or no pairs.
        problem: why pictures or pairs are missing; "" if none are.
    """

    row: str
    pairs: Sequence[Pair] = ()
    table: pd.DataFrame | None = None
    problem: str = ""


def confused_products(
    name: str, finished: Sequence[ExperimentRun], confusions: Sequence[Confusion]
) -> Confusions:
    """Confused pairs of a row with their pictures.

    Args:
        name: of the row.
        finished: its runs, whose data settings lead to the pictures.
        confusions: its pairs, worst first.
    """
    if not finished:
        return Confusions(name, problem=f"No confusions: no run of '{name}' has finished.")
    if not confusions:
        return Confusions(name)
    trios, problem = find_pictures(finished[0], confusions)
    if problem:
        table = pd.DataFrame(
            {
                "product": [pair.target for pair in confusions],
                "taken for": [pair.decided for pair in confusions],
                "share of its pictures (%)": [100 * pair.share for pair in confusions],
                "decisions": [pair.count for pair in confusions],
            }
        )
        return Confusions(name, table=table, problem=problem)
    pairs = [_pair(pair, trio, len(finished)) for pair, trio in zip(confusions, trios, strict=True)]
    return Confusions(name, pairs)


def _pair(pair: Confusion, trio: Trio, finished: int) -> Pair:
    view = f", view {pair.view}" if pair.view else ""
    often = f" in {pair.runs} of {finished} runs" if finished > 1 else ""
    captions = (
        (trio.wrong, f"{pair.picture}{view}: wrong{often}"),
        (trio.target, f"{pair.target}, from training"),
        (trio.decided, f"{pair.decided}, from training"),
    )
    pictures = [Captioned(thumbnail(path), caption) for path, caption in captions]
    return Pair(pair.target, pair.decided, f"{100 * pair.share:.1f}", pictures)


def thumbnail(path: Path | None) -> str:
    """The picture's ``data:`` address; "" if it cannot be read."""
    if path is None:
        return ""
    try:
        picture = load_picture(path)
    except OSError:
        return ""
    small = ImageOps.contain(Image.fromarray(picture), (SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return data_address(buffer.getvalue(), "jpeg")


def data_address(content: bytes, kind: str) -> str:
    """A picture as a ``data:`` address, so that a page loads nothing from elsewhere.

    Args:
        content: of a file of the kind, ``png`` or ``jpeg``.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
