"""Several labels per picture: folds and subsets in which each label keeps its share."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from product_cls.data.folds import make_folds
from product_cls.data.folds_file import load_or_make_folds
from product_cls.data.samples import take_subset
from product_cls.data.stratify import even_order, iterative_folds

RNG = np.random.default_rng(0)
LETTERS = np.zeros((600, 26), np.int64)
for row in LETTERS:
    row[RNG.permutation(26)[: RNG.integers(10, 15)]] = 1
RARE = (RNG.random((400, 5)) < (0.02, 0.05, 0.3, 0.6, 0.97)).astype(np.int64)


def table(targets: np.ndarray) -> pd.DataFrame:
    names = [f"l{k}" for k in range(targets.shape[1])]
    frame = pd.DataFrame(targets, columns=names)
    return frame.assign(id=[f"{n}.png" for n in range(len(frame))], split="train")


@pytest.mark.parametrize("targets", [LETTERS, RARE])
@pytest.mark.parametrize("splits", [2, 5, 7])
def test_each_fold_has_each_label_in_proportion(targets: np.ndarray, splits: int) -> None:
    folds = iterative_folds(targets, splits, seed=0)
    sizes = np.bincount(folds, minlength=splits)
    assert sizes.max() - sizes.min() <= 1
    for k in range(splits):
        expected = targets.mean(axis=0) * sizes[k]
        assert np.abs(targets[folds == k].sum(axis=0) - expected).max() < 2


def test_folds_depend_on_the_seed_alone() -> None:
    folds = iterative_folds(RARE, 5, seed=3)
    assert np.array_equal(folds, iterative_folds(RARE, 5, seed=3))
    assert not np.array_equal(folds, iterative_folds(RARE, 5, seed=4))


def test_a_label_with_one_picture_per_fold_is_in_each() -> None:
    targets = np.zeros((50, 2), np.int64)
    targets[:5, 0], targets[::2, 1] = 1, 1
    folds = iterative_folds(targets, 5, seed=0)
    assert sorted(folds[:5]) == [0, 1, 2, 3, 4]


def test_folds_of_a_table_and_labels_that_cannot_be_split(tmp_path: Any, refused: Any) -> None:
    samples, names = table(RARE), [f"l{k}" for k in range(5)]
    folds = make_folds(samples, "stratified", n_splits=4, seed=1, label=names)
    assert folds.tolist() == iterative_folds(RARE, 4, 1).tolist()
    file = tmp_path / "folds.csv"
    read = load_or_make_folds(file, samples, "stratified", n_splits=4, seed=1, label=names)
    assert read.tolist() == folds.tolist()
    with refused("other samples"):
        load_or_make_folds(file, samples, "stratified", n_splits=4, seed=1, label=names[:4])
    with refused("n_splits=13 exceeds the 12 pictures with the label 'l0'"):
        make_folds(samples, "stratified", n_splits=13, label=names[:4])
    with refused("n_splits=40 exceeds the", "pictures without the label 'l4'"):
        make_folds(samples, "stratified", n_splits=40, label=["l2", "l4"])
    with refused("n_splits=1; allowed"):
        make_folds(samples, "stratified", n_splits=1, label=names)
    with refused("strategy=stratified_group", "one label per picture", "stratified, view, own"):
        make_folds(samples.assign(group=0), "stratified_group", n_splits=2, label=names)


def test_subset_keeps_shares_and_grows() -> None:
    samples = table(LETTERS)
    samples.loc[:49, "split"] = "test"
    names = [f"l{k}" for k in range(26)]
    small, large = (take_subset(samples, limit, label=names, seed=0) for limit in (100, 300))
    learned = samples[samples["split"] == "train"]
    for part, limit in ((small, 100), (large, 300)):
        assert (part["split"] == "test").sum() == 50
        kept = part[part["split"] == "train"]
        assert len(kept) == limit
        gaps = kept[names].sum() - learned[names].mean() * limit
        assert gaps.abs().max() < 3
    assert set(small["id"]) < set(large["id"])
    again = take_subset(samples.sample(frac=1, random_state=1), 100, label=names, seed=0)
    assert set(again["id"]) == set(small["id"])


def test_subset_has_room_for_rare_labels(refused: Any) -> None:
    kept = RARE[even_order(RARE, 30, seed=0)]
    assert kept.sum(axis=0).min() >= 2 and (1 - kept).sum(axis=0).min() >= 2
    with refused("limit=3 is too few for 5 labels", "2 pictures with each and 2 without"):
        take_subset(table(RARE), 3, label=[f"l{k}" for k in range(5)], seed=0)
