"""Votes of neighbours; the winners' vote with the reference's numbers."""

import numpy as np
import pytest

from product_cls.neighbours.votes import Vote

SIMILARITY = np.array([[0.9, 0.85, 0.8, 0.7, 0.6]], np.float32)
LABELS = np.array([[7, 3, 3, 7, 5]])


def test_winners_vote() -> None:
    class_scores = np.zeros((1, 10))
    class_scores[0, [3, 7]] = 0.6, 0.55
    votes = Vote("winners").raw(SIMILARITY, LABELS, 10, class_scores)[0]
    assert votes[7] == pytest.approx(0.0010835308403364197, rel=1e-6)
    assert votes[3] == pytest.approx(0.0022120628425967227, rel=1e-6)
    assert votes[5] == pytest.approx(1.0077699604065515e-82, rel=1e-5)
    assert votes.argmax() == 3 and votes[[0, 1, 2, 4, 6, 8, 9]].sum() == 0


def test_nearest_and_weighted_votes() -> None:
    nearest = Vote("nearest").raw(SIMILARITY, LABELS, 10)[0]
    assert nearest[[7, 3, 5]].tolist() == pytest.approx([0.9, 0.85, 0.6])
    weighted = Vote("weighted").raw(SIMILARITY, LABELS, 10)[0]
    assert weighted[[7, 3, 5]].tolist() == pytest.approx([1.6, 1.65, 0.6])


@pytest.mark.parametrize("kind", ["nearest", "weighted"])
def test_scores_sum_to_1(kind: str) -> None:
    scores = Vote(kind).scores(SIMILARITY, LABELS, 10)
    assert scores.dtype == np.float32 and scores.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["nearest", "weighted", "winners"])
def test_neighbours_that_do_not_vote(kind: str) -> None:
    similarity = np.array([[0.5, 0.4, -0.3], [-0.1, -0.2, -0.3], [0, -0.2, -0.3], [0.9, 0.8, 0.7]])
    labels = np.array([[-1, 2, 1], [3, 1, 2], [-1, 2, 1], [-1, -1, -1]])
    scores = Vote(kind).scores(similarity, labels, 4, np.full((4, 4), 0.25))
    assert scores[0].tolist() == [0, 0, 1, 0]  # unknown label, negative cosine
    # If no neighbour votes, the nearest labelled neighbour decides.
    assert scores[1].tolist() == [0, 0, 0, 1]
    assert scores[2].tolist() == [0, 0, 1, 0]
    assert scores[3].tolist() == [0.25] * 4  # no labelled neighbour: equal shares


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_number_of_pictures_that_a_class_needs(k: int) -> None:
    """The nearest pictures are of class 1; all others are almost as near and of class 0."""
    similarity = np.linspace(0.91, 0.9, k)[None]

    def wins(pictures: int) -> bool:
        labels = (np.arange(k) < pictures)[None].astype(int)
        return bool(Vote(k=k).scores(similarity, labels, 2).argmax() == 1)

    needed = Vote(k=k).needed
    assert needed == -(-k // 2) and wins(needed) and not (needed > 1 and wins(needed - 1))
    assert Vote("nearest", k).needed == 1


def test_wrong_votes(refused) -> None:  # type: ignore[no-untyped-def]
    with refused("kind=best", "nearest, weighted, winners"):
        Vote("best")
    with refused("k=0"):
        Vote(k=0)
    with refused("kind=winners needs the scores of the head"):
        Vote("winners").raw(SIMILARITY, LABELS, 10)
