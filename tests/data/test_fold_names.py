"""Folds named by the views that they hold out."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from product_cls.data.fold_names import fold_number, view_names, view_values
from product_cls.data.folds import make_folds


def table(*views: Any) -> pd.DataFrame:
    names = [f"{n}.jpg" for n in range(len(views))]
    return pd.DataFrame({"id": names, "split": "train", "label": "a", "view": views})


@pytest.mark.parametrize(
    ("views", "fold", "held_out"),
    [
        ((0, 30, 60), 60, 60),
        ((0.0, 30.0, 60.0), 30, 30),
        ((0, 30, 60), "30", 30),  # fold='30'
        ((0, 30, 60), 0, 0),
        ((0, 30, 60), 2, 60),  # no view is called 2, so it is a position
        ((0, 1), 1, 1),
        ((1, 2, 3), 1, 1),  # the name, not the second view
        ((-30, 0, 30), -30, -30),
        ((0.5, 22.5), 22.5, 22.5),
        (("store_a", "store_b"), "store_b", "store_b"),
        (("store_a", "store_b"), 1, "store_b"),
        (("\uac00", "\ub098"), "\u1102\u1161", "\ub098"),  # Hangul in another Unicode form
    ],
)
def test_a_fold_is_named_by_its_view(views: tuple[Any, ...], fold: Any, held_out: Any) -> None:
    samples = table(*views, *views)
    folds = make_folds(samples, "view", label="label")
    number = fold_number(folds, fold, view_names(samples, folds))
    assert set(samples["view"][(folds == number).to_numpy()]) == {held_out}


@pytest.mark.parametrize(
    ("views", "fold", "allowed"),
    [
        ((0, 30, 60), 45, "allowed: 0, 30, 60 (views), all"),
        ((1, 2, 3), 0, "allowed: 1, 2, 3 (views), all"),  # today 0 would be 1, and 1 would be 2
        ((-1, 0, 1), -1, "allowed: 0, 1 (views), all"),
        (("a", "b"), "c", "allowed: a, b (views), all"),
        (("a", "b"), 2, "allowed: a, b (views), all"),
    ],
)
def test_a_view_that_cannot_be_held_out(
    views: tuple[Any, ...], fold: Any, allowed: str, refused: Any
) -> None:
    samples = table(*views)
    folds = make_folds(samples, "view", label="label")
    with refused(f"fold={fold} does not exist", allowed):
        fold_number(folds, fold, view_names(samples, folds))


def test_pictures_without_a_view_are_always_learned_from(refused: Any) -> None:
    for views in ((0, 30, -1, None), ("a", "b", "-1", None), ("a", "b", "", "-1")):
        assert make_folds(table(*views), "view", label="label").tolist() == [0, 1, -1, -1]
    with refused("at least 2 views"):
        make_folds(table(0, 0, -1), "view", label="label")
    with refused("a view cannot be called 'all'"):
        make_folds(table("all", "some"), "view", label="label")


def test_other_folds_have_numbers_only() -> None:
    samples = table(0, 0, 30, 30)
    folds = pd.Series([0, 1, 0, 1], index=samples["id"])
    assert view_names(samples, folds) is None
    assert fold_number(folds, 1, None) == 1 and fold_number(folds, "all", None) == "all"


def test_folds_are_not_renumbered(refused: Any) -> None:
    samples = table(0, 0, 0, 0).assign(given_fold=np.array([-1, 3, 1, 3]))
    folds = make_folds(samples, "column", label="label")
    assert folds.tolist() == [-1, 3, 1, 3]
    with refused("fold=0 does not exist; allowed: 1, 3, all"):
        fold_number(folds, 0, None)
    with refused("strategy=column", "data.fold_column=NAME"):
        make_folds(table(0, 1), "column", label="label")
    with refused("no training picture has a fold of 0 or more"):
        make_folds(samples.assign(given_fold=-1), "column", label="label")


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["0", "30", None], [0.0, 30.0, None]),
        ([" 2 ", "10.50", ""], [2.0, 10.5, None]),
        (["01", "1", " "], ["01", "1", None]),  # two shops
        (["nan", "1", "inf"], ["nan", "1", "inf"]),
        (["1e3", "1000"], ["1e3", "1000"]),
        ([None, None], [None, None]),
    ],
)
def test_views_are_numbers_only_if_all_are_written_so(cells: list[Any], values: list[Any]) -> None:
    found = view_values(pd.Series(cells, dtype=object))
    assert [None if pd.isna(x) else x for x in found] == values
