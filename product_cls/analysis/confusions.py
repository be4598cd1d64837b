"""Pairs of products that are confused most often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_cls.analysis.outcomes import Outcome, Pictures

WORST = 8  # pairs shown by default


@dataclass(frozen=True)
class Confusion:
    """A product that runs take for another product.

    Attributes:
        target: name of the true product.
        decided: name of the product that runs decided on.
        share: share of the target's pictures that were confused, over all runs, 0 to 1.
        count: wrong decisions; a picture counts once per run.
        picture: id of the picture that most runs confused (the first of several).
        runs: number of runs that confused it.
        view: view of that picture; "" if unknown.
    """

    target: str
    decided: str
    share: float
    count: int
    picture: str
    runs: int
    view: str


def confused_pairs(
    pictures: Pictures, outcomes: Sequence[Outcome], most: int = WORST
) -> list[Confusion]:
    """The ``most`` pairs that runs on the same pictures confuse most often, worst first."""
    parts = [
        pd.DataFrame(
            {
                "target": pictures.name,
                "decided": outcome.decided,
                "picture": np.arange(len(pictures.id)),
            }
        )[outcome.correct == 0]
        for outcome in outcomes
    ]
    if not parts:
        return []
    wrong = pd.concat(parts)
    total = pd.Series(pictures.name).value_counts() * len(parts)
    pairs = wrong.groupby(["target", "decided"]).size().reset_index(name="count")
    # Names break ties, so that the result does not depend on the order of the rows.
    pairs = pairs.sort_values(["count", "target", "decided"], ascending=[False, True, True])
    result = []
    for target, decided, count in pairs.head(most).itertuples(index=False):
        same = wrong[(wrong["target"] == target) & (wrong["decided"] == decided)]
        votes = same["picture"].value_counts(sort=False).sort_index()
        picture = int(votes.idxmax())
        result.append(
            Confusion(
                target=str(target),
                decided=str(decided),
                share=float(count / total[target]),
                count=int(count),
                picture=str(pictures.id[picture]),
                runs=int(votes.max()),
                view=str(pictures.view[picture]),
            )
        )
    return result
