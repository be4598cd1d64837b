"""Classes that a split by groups puts into one fold."""

from typing import Any

import numpy as np
import pandas as pd

from product_cls.data.class_sizes import small_classes
from product_cls.data.folds import make_folds
from product_cls.data.spread import classes_in_one_fold, spread_classes

LABELS = {"stratified_group": "label", "stratified": ("label", "other")}


def drawn(rng: np.random.Generator) -> pd.DataFrame:
    count = int(rng.integers(12, 60))
    return pd.DataFrame(
        {
            "id": [f"{n}.jpg" for n in range(count)],
            "split": "train",
            "label": rng.integers(0, rng.integers(2, 8), count).astype(str),
            "other": rng.integers(0, 4, count).astype(str),
            "group": rng.integers(0, rng.integers(4, 16), count),
        }
    )


def test_no_fold_holds_every_picture_of_a_class() -> None:
    rng, tried = np.random.default_rng(0), 0
    for _ in range(150):
        samples = drawn(rng)
        for strategy, label in LABELS.items():
            splits = int(rng.integers(3, 5))
            try:
                folds = make_folds(samples, strategy, n_splits=splits, label=label)  # type: ignore[arg-type]
            except ValueError:
                continue  # too few groups or pictures
            tried += 1
            assert sorted(folds.unique()) == list(range(splits))
            for column in ("label", "other")[: 1 if isinstance(label, str) else 2]:
                assert folds.groupby(samples[column].to_numpy()).nunique().min() > 1
            if strategy == "stratified_group":
                assert folds.groupby(samples["group"].to_numpy()).nunique().max() == 1
    assert tried > 150


def test_folds_that_suit_every_class_stay() -> None:
    folds, groups = np.array([0, 0, 1, 1]), np.arange(4)
    assert spread_classes(folds, groups, np.array([[0], [1], [0], [1]]), 2).tolist() == [0, 0, 1, 1]
    moved = spread_classes(folds, groups, np.array([[0], [0], [1], [1]]), 2)
    assert not len(classes_in_one_fold(moved, groups, np.array([[0], [0], [1], [1]])))
    # Three groups that share a class in pairs cannot be told apart by two folds.
    classes = np.array([[0, 1], [1, 2], [2, 0]])
    assert len(
        classes_in_one_fold(spread_classes(folds[:3], groups[:3], classes, 2), groups[:3], classes)
    )


def made(labels: str, **columns: Any) -> pd.DataFrame:
    names = [f"{n}.jpg" for n in range(len(labels))]
    return pd.DataFrame({"id": names, "split": "train", "label": list(labels), **columns})


def test_small_classes_are_always_learned_from(refused: Any) -> None:
    samples = made("aaaaabbbbbcce")
    folds = make_folds(samples, "stratified", n_splits=5, label="label", min_per_class=5)
    assert folds.tolist()[10:] == [-1, -1, -1]
    assert sorted(folds[:5]) == sorted(folds[5:10]) == [0, 1, 2, 3, 4]
    assert small_classes(samples, "label", 5)[1] == ["c", "e"]
    with refused("n_splits=5 exceeds", "min_per_class=5"):
        make_folds(samples, "stratified", n_splits=5, label="label")
    with refused("min_per_class=6 leaves no picture"):
        make_folds(samples, "stratified", n_splits=5, label="label", min_per_class=6)
    with refused("min_per_class=1; allowed: 2 or more, or null"):
        make_folds(samples, "stratified", n_splits=5, label="label", min_per_class=1)


def test_small_classes_of_groups_and_of_several_labels() -> None:
    grouped = made("aabbaabbc", group=[0, 0, 0, 0, 1, 1, 1, 1, 1])
    small, _ = small_classes(grouped, "label", 2, whole_groups=True)
    assert small.tolist() == [False] * 4 + [True] * 5  # a group stays together
    heads = made("aabbab", other=list("uuuvvv")).assign(third=["x", *"yyyyy"])
    small, names = small_classes(heads, ("label", "third"), 2)
    assert names == ["third=x"] and small.tolist() == [True] + [False] * 5
    labels = pd.DataFrame({"id": [*"abcdef"], "p": [1, 1, 0, 0, 1, 0], "q": [1, 0, 0, 0, 0, 0]})
    small, names = small_classes(labels, ["p", "q"], 2)
    assert names == ["q=1"] and small.tolist() == [True] + [False] * 5
