"""`product-cls quick`: folds that are as honest as the data allow, probes, and a page."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from product_cls.quick import fold_words, main

Command = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]

WORDS = ("data=competition", "data.size=32", "model=tiny")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folds_hold_out_views_and_the_page_shows_what_was_found(
    here: Path, tiny_root: Path, run_command: Command
) -> None:
    words = (*WORDS, f"data.root={tiny_root}")
    status, output, errors = run_command(main)(*words)
    assert (status, errors) == (0, "")
    assert "Folds: folds.strategy=view" in output
    assert "fold 2 of 2: " in output and " of 40 held-out pictures are right" in output
    assert "95 % interval" in output
    next_command = f"product-cls train -m {' '.join(words)} folds.strategy=view fold=0,1\n"
    assert output.endswith(f"Next, fine-tuning: {next_command}")
    assert "by view" in output and "the most doubtful labels" in output
    (root,) = (here / "multirun" / "quick").iterdir()
    assert {p.name for p in root.iterdir()} >= {"fold=0", "fold=1", "report"}
    page = (root / "report" / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 20  # pictures with doubtful labels
    assert "By view" in page
    doubtful = pd.read_csv(root / "report" / "pictures.csv", dtype=str)
    assert len(doubtful) == 40
    # Typed again, finished folds are taken over.
    written = (root / "fold=0" / "metrics.json").stat().st_mtime_ns
    status, again, _ = run_command(main)(*words)
    assert status == 0 and again == output
    assert (root / "fold=0" / "metrics.json").stat().st_mtime_ns == written


def test_other_words_have_a_page_of_their_own(
    here: Path, tiny_root: Path, run_command: Command
) -> None:
    words = (*WORDS, f"data.root={tiny_root}", "folds.strategy=stratified", "folds.n_splits=2")
    for classifier in ("centroid", "knn"):
        status, output, _ = run_command(main)(*words, f"task.classifier={classifier}")
        assert status == 0 and "Folds:" not in output
    assert len(list((here / "multirun" / "quick").iterdir())) == 2


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, ["folds.strategy=stratified", "folds.n_splits=5"]),
        ({"view": [0, 1] * 10}, ["folds.strategy=view"]),
        ({"view": [0] * 20}, ["folds.strategy=stratified", "folds.n_splits=5"]),
        ({"view": [None] * 20}, ["folds.strategy=stratified", "folds.n_splits=5"]),
        ({"given_fold": [0] * 20}, ["folds.strategy=column"]),
        (
            {"group": [n // 2 for n in range(20)]},
            ["folds.strategy=stratified_group", "folds.n_splits=5"],
        ),
        (
            {"label": ["a"] * 9 + ["b"] * 9 + ["c"] * 2},
            ["folds.strategy=stratified", "folds.n_splits=5", "folds.min_per_class=5"],
        ),
        (
            {"label": [name for name in "abcdef" for _ in range(3)] + ["g", "g"]},
            ["folds.strategy=stratified", "folds.n_splits=3", "folds.min_per_class=3"],
        ),
    ],
)
def test_folds_by_view_or_group_where_known(
    columns: dict[str, list[object]], words: list[str]
) -> None:
    table = pd.DataFrame({"label": ["a", "b"] * 10, "split": "train"}).assign(**columns)
    assert fold_words(table, "label") == words


@pytest.mark.parametrize("word", ["fold=1", "-m", "experiment=gap", "task=retrieval"])
def test_words_that_quick_sets_itself(word: str, here: Path, run_command: Command) -> None:
    status, _, errors = run_command(main)(*WORDS, word)
    assert status != 0
    assert errors == (
        f"error: quick fits a probe to every fold by itself and takes no {word}; `product-cls "
        f"train` takes it.\n"
    )
