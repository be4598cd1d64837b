"""Several labels per picture: missing labels, weights, combined classes, metrics and refusals."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from product_cls.data.mix import Mix
from product_cls.losses.class_weights import class_weights
from product_cls.losses.single_label import FocalLoss, SoftF1Loss, SumLoss
from product_cls.models.heads import MOST_LOG_VARIANCE
from product_cls.tasks import build_task
from product_cls.tasks.multi_head import MultiHead

MASKS, GENDERS, AGES = ("mask", "incorrect", "normal"), ("male", "female"), ("<30", "30-59", ">=60")
PEOPLE: dict[str, dict[str, Any]] = {
    "mask": {"classes": MASKS},
    "gender": {"classes": GENDERS},
    "age": {"column": "age_group", "classes": AGES},
}


def table(**columns: Any) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    names = [f"{n}.jpg" for n in range(count)]
    return pd.DataFrame({"id": names, "split": "train"} | columns)


@pytest.fixture
def every() -> pd.DataFrame:
    """Each of the 18 combinations once, in the order of their numbers."""
    mask, gender, age = zip(*itertools.product(MASKS, GENDERS, AGES), strict=True)
    return table(mask=mask, gender=gender, age_group=age)


@pytest.fixture
def task(every: pd.DataFrame) -> MultiHead:
    fitted_task = MultiHead(PEOPLE)
    fitted_task.fit(every)
    return fitted_task


def sure(task: MultiHead, target: np.ndarray) -> np.ndarray:
    """Scores of 1 for the labels of ``target``."""
    parts = [np.eye(len(head.classes))[t] for head, t in zip(task.heads, target.T, strict=True)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def fitted(samples: pd.DataFrame, heads: Any = ("a", "b"), **arguments: Any) -> MultiHead:
    task = MultiHead(heads, **arguments)
    task.fit(samples)
    return task


# --- labels


def test_combined_class_of_every_combination(task: MultiHead, every: pd.DataFrame) -> None:
    target = task.encode(every)
    assert task.combined(target).tolist() == list(range(18))
    assert [m * 6 + g * 3 + a for m, g, a in target] == list(range(18))
    scores = sure(task, target)
    assert task.submission(scores)["prediction"].tolist() == list(range(18))
    assert task.decide(scores)[[0, 17]].tolist() == ["mask/male/<30", "normal/female/>=60"]
    assert task.decide(scores).tolist() == [task.target_name(row) for row in target]


def test_columns_of_scores_and_files(task: MultiHead, every: pd.DataFrame) -> None:
    assert task.classes == [
        "mask=mask", "mask=incorrect", "mask=normal", "gender=male", "gender=female",
        "age=<30", "age=30-59", "age=>=60",
    ]  # fmt: skip
    assert task.stratify_by(every) == ("mask", "gender", "age_group")
    assert (task.monitor, task.measures[0]) == ("val/f1", "f1")
    logits = torch.randn(4, 8)
    scores = task.scores(logits)
    for columns in (slice(0, 3), slice(3, 5), slice(5, 8)):
        expected = torch.softmax(logits[:, columns], dim=1)
        assert torch.allclose(scores[:, columns], expected, atol=1e-6)
    answers, lines = task.describe(scores.numpy(), 5)
    assert list(answers) == ["mask", "mask_score", "gender", "gender_score", "age", "age_score"]
    assert answers["age"].tolist() == [AGES[k] for k in scores[:, 5:].argmax(dim=1)]
    assert lines[0][2] == f"age {answers['age'][0]}  {scores[0, 5:].max():.0%}"
    assert list(task.submission(scores.numpy())) == ["prediction", "mask", "gender", "age"]


def test_blended_scores_sum_to_one_for_each_head(task: MultiHead) -> None:
    scores = task.scores(torch.randn(5, 8)).numpy()
    squeezed = task.normalise_scores(np.sqrt(scores))
    assert squeezed[:, :3].sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert squeezed[:, 3:5].sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert squeezed[:, 5:].sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert task.best(squeezed).tolist() == task.best(scores).tolist()


def test_true_label_scores(task: MultiHead) -> None:
    """The probability that the head gives to each known label."""
    scores = np.arange(16).reshape(2, 8) / 100  # 3 masks, 2 genders, 3 ages
    rows, likely = task.true_label_scores(scores, np.array([[2, 0, 1], [-1, 1, -2]]))
    assert rows.tolist() == [0, 0, 0, 1]
    assert likely.tolist() == pytest.approx([0.02, 0.03, 0.06, 0.12])


def test_missing_and_unseen_labels() -> None:
    samples = table(a=["x", "y", None, "x", "z"], b=[1.0, np.nan, 2.0, 10.0, 1.0])
    samples["split"] = ["train"] * 4 + ["test"]
    task = fitted(samples)
    assert task.classes == ["a=x", "a=y", "b=1", "b=2", "b=10"]
    assert task.encode(samples).tolist() == [[0, 0], [1, -1], [-1, 1], [0, 2], [-2, 0]]
    assert task.monitor == "val/mean_f1" and not task.complete
    assert list(task.submission(sure(task, np.array([[0, 2]])))) == ["a", "b"]


def test_spec_rebuilds_the_task(task: MultiHead) -> None:
    again = build_task(task.spec())
    assert isinstance(again, MultiHead)
    assert (again.classes, again.label, again.monitor) == (task.classes, task.label, "val/f1")
    assert again.spec() == task.spec()


# --- losses


def test_loss_is_the_weighted_sum_over_known_rows() -> None:
    samples = table(a=["x", "y", "x", "y", None], b=["u", "v", "w", None, None])
    task = fitted(samples, {"a": {}, "b": {"weight": 0.5, "loss": FocalLoss()}})
    target = torch.from_numpy(task.encode(samples))
    logits = torch.randn(5, 5, requires_grad=True)
    a = nn.functional.cross_entropy(logits[:4, :2], target[:4, 0])
    b = FocalLoss()(logits[:3, 2:], target[:3, 1])
    loss = task.loss(logits, target)
    assert loss.item() == pytest.approx((a + 0.5 * b).item(), abs=1e-6)
    loss.backward()
    assert logits.grad is not None and logits.grad[4].eq(0).all() and logits.grad[:3].ne(0).all()


LOSSES = {
    "cross_entropy": nn.CrossEntropyLoss(label_smoothing=0.1),
    "focal": FocalLoss(),
    "soft_f1": SoftF1Loss(),
    "sum": SumLoss(
        {
            "f1": {"loss": SoftF1Loss(), "weight": 0.5},
            "ce": {"loss": nn.CrossEntropyLoss(), "weight": 0.5},
        }
    ),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("uncertainty", [False, True])
def test_a_head_without_labels_in_the_batch_adds_nothing(kind: str, uncertainty: bool) -> None:
    samples = table(a=["x", "y", "x"], b=["u", "v", None])
    task = fitted(samples, loss=LOSSES[kind], uncertainty=uncertainty)
    module = task.head(4)
    logits = torch.randn(2, 4, requires_grad=True)
    target = torch.tensor([[0, -1], [1, -1]])
    loss = task.loss(logits, target)
    alone = LOSSES[kind](logits[:, :2], target[:, 0])
    assert loss.item() == pytest.approx(alone.item(), abs=1e-6)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert logits.grad[:, 2:].eq(0).all()
    nothing = task.loss(logits, torch.full((2, 2), -1))
    nothing.backward()  # a batch without any label
    assert nothing.item() == 0 and logits.grad.isfinite().all()
    if uncertainty:
        assert dict(module.named_parameters())["raw"].grad[1] == 0


@pytest.mark.parametrize("loss", [None, FocalLoss(gamma=0.0)])
def test_weights_of_a_heads_classes_count_over_known_rows(loss: nn.Module | None) -> None:
    samples = table(a=["x"] * 7 + ["y", None], b=["u", "v"] * 4 + ["u"])
    task = fitted(samples, {"a": {"class_weights": "inverse"}, "b": {}}, loss=loss)
    target = torch.from_numpy(task.encode(samples))
    logits = torch.randn(9, 4)
    weight = torch.from_numpy(class_weights([7, 1], "inverse"))
    a = nn.functional.cross_entropy(logits[:8, :2], target[:8, 0], weight)
    b = nn.functional.cross_entropy(logits[:, 2:], target[:, 1])  # its own copy, without weights
    assert task.loss(logits, target).item() == pytest.approx((a + b).item(), abs=1e-6)


def test_mixed_pictures_with_missing_labels() -> None:
    samples = table(a=["x", "y", None, "x"], b=["u", None, None, "v"])
    task = fitted(samples)
    target = torch.from_numpy(task.encode(samples))
    mixed = Mix(cutmix=0.0)(torch.rand(4, 3, 8, 8), np.random.default_rng(0))
    assert 0 < mixed.lam < 1
    logits = torch.randn(4, 4, requires_grad=True)
    lam, other = mixed.lam, target[mixed.perm]
    loss = lam * task.loss(logits, target) + (1 - lam) * task.loss(logits, other)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()
    # A row learns from each of its two labels that is known.
    learns = (target >= 0) | (other >= 0)
    assert logits.grad.view(4, 2, 2).ne(0).any(dim=2).tolist() == learns.tolist()


def test_learned_weights_follow_their_formula_and_find_its_minimum() -> None:
    task = fitted(table(a=["x", "y", "x"], b=["u", "v", "w"]), uncertainty=True)
    module = task.head(4)
    target = torch.tensor([[0, 0], [1, 2]])
    logits = torch.tensor([[0.5, 0.0, 3.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 9.0]])
    each = [
        nn.functional.cross_entropy(logits[:, columns], target[:, k]).item()
        for k, columns in enumerate((slice(0, 2), slice(2, 5)))
    ]
    assert task.loss(logits, target).item() == pytest.approx(sum(each), abs=1e-6)  # s starts at 0
    (raw,) = (p for name, p in module.named_parameters() if name == "raw")
    optimiser = torch.optim.SGD([raw], lr=0.2)
    for _ in range(800):
        optimiser.zero_grad()
        task.loss(logits, target).backward()
        optimiser.step()
    assert isinstance(task._module, nn.Module)
    learnt = task._module.log_variance.detach().numpy()
    assert learnt == pytest.approx(np.log(2 * np.array(each)), abs=0.01)
    value = sum(np.exp(-s) * loss + s / 2 for s, loss in zip(learnt, each, strict=True))
    assert task.loss(logits, target).item() == pytest.approx(value, abs=1e-5)


def test_learned_weights_stay_finite_for_losses_of_0() -> None:
    task = fitted(table(a=["x", "y"], b=["u", "v"]), uncertainty=True)
    task.head(4)
    assert task._module is not None
    logits = torch.tensor([[99.0, 0.0, 99.0, 0.0]])  # losses of exactly 0
    optimiser = torch.optim.SGD(task._module.parameters(), lr=10.0)
    for _ in range(50):
        optimiser.zero_grad()
        loss = task.loss(logits, torch.zeros(1, 2, dtype=torch.int64))
        loss.backward()
        optimiser.step()
    assert loss.isfinite() and loss >= -MOST_LOG_VARIANCE
    assert task._module.log_variance.min() >= -MOST_LOG_VARIANCE


# --- metrics


def test_metrics_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    samples = table(**{name: list("xyzxyzxyz") for name in "ab"})
    task = fitted(samples)
    # Class 2 of head b is neither decided nor true, so macro F1 leaves it out.
    target = np.stack([rng.integers(0, 3, 60), rng.integers(0, 2, 60)], axis=1)
    decided = np.where(rng.random((60, 2)) < 0.7, target, np.stack([target[:, 0] ** 2 % 3] * 2, 1))
    decided[:, 1] = np.minimum(decided[:, 1], 1)
    values = task.evaluate(sure(task, decided), target)
    for k, head in enumerate("ab"):
        f1 = f1_score(target[:, k], decided[:, k], average="macro")
        assert values[f"{head}/f1"] == pytest.approx(f1)
        assert values[f"{head}/accuracy"] == pytest.approx((target == decided)[:, k].mean())
    codes = [array[:, 0] * 3 + array[:, 1] for array in (target, decided)]
    assert values["f1"] == pytest.approx(f1_score(*codes, average="macro"))
    assert values["mean_f1"] == pytest.approx((values["a/f1"] + values["b/f1"]) / 2)
    assert values["accuracy"] == pytest.approx((target == decided).all(axis=1).mean())


def test_metrics_leave_out_missing_labels() -> None:
    task = fitted(table(a=["x", "y", None], b=["u", "v", "u"]))
    target = np.array([[0, 0], [1, -1], [-1, -1], [-2, 1]])
    decided = np.array([[0, 0], [1, 1], [0, 0], [0, 1]])
    values = task.evaluate(sure(task, decided), target)
    # The third picture has no label; the fourth has one that training does not have: wrong.
    assert values["accuracy"] == pytest.approx(2 / 3)
    assert values["a/accuracy"] == pytest.approx(2 / 3)
    assert values["b/accuracy"] == values["b/f1"] == 1
    assert values["a/f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert values["f1"] == pytest.approx(
        (1 + 0 + 0) / 3
    )  # x/u is right; x/v is decided for (unseen)/v
    assert task.evaluate(sure(task, decided[2:3]), target[2:3]) == {}
    partly = task.evaluate(sure(task, decided[1:2]), target[1:2])
    assert set(partly) == {"accuracy", "mean_f1", "a/accuracy", "a/f1"}


def test_metrics_are_over_the_epoch_not_means_of_batches() -> None:
    task = fitted(table(a=["x", "y", "x"], b=["u", "v", "u"]))
    rng = np.random.default_rng(1)
    target, decided = rng.integers(0, 2, (2, 30, 2))
    metrics = task.metrics()
    for rows in np.array_split(np.arange(30), [1, 7, 9]):
        metrics.update(torch.from_numpy(sure(task, decided[rows])), torch.from_numpy(target[rows]))
    whole = task.evaluate(sure(task, decided), target)
    computed = {name: value.item() for name, value in metrics.compute().items()}
    assert computed == pytest.approx(whole, abs=1e-6)
    metrics.reset()
    metrics.update(torch.from_numpy(sure(task, decided[:1])), torch.full((1, 2), -1))
    assert metrics.compute()["f1"].isnan()  # the monitored metric is never missing


# --- refusals


@pytest.mark.parametrize(
    ("heads", "arguments", "parts"),
    [
        ({}, {}, ("heads=", "names no head")),
        ({"a": None}, {}, ("heads=", "names no head")),
        ("ab", {}, ("heads=ab", "[names]")),
        (["a", "a"], {}, ("heads=['a', 'a']", "each once")),
        (["\uac00", "\u1100\u1161"], {}, ("heads=", "each once")),  # one name in two forms
        (
            {"a": {"column": "b"}, "b": {}},
            {},
            ("heads.b.column=b is also the column of the head a",),
        ),
        (
            {"a": {"weight": 2}, "b": {}},
            {"uncertainty": True},
            ("heads.a.weight=2", "uncertainty=true"),
        ),
        (["a"], {"uncertainty": "maybe"}, ("uncertainty=maybe", "true or false")),
        ({"a": {"weight": 0}}, {}, ("heads.a.weight=0; allowed: above 0", "null")),
        ({"a": {"weight": "much"}}, {}, ("heads.a.weight=much",)),
        ({"a": {"color": 1}}, {}, ("heads.a.color=1", "column, classes, loss")),
        ({"a": 3}, {}, ("heads.a=3",)),
        ({"a": {"classes": ["x"]}}, {}, ("heads.a.classes=['x']", "two or more")),
        ({"a": {"classes": "xy"}}, {}, ("heads.a.classes=xy",)),
        ({"a=b": {}}, {}, ("heads=a=b;", "letters")),
        ({"prediction": {}}, {}, ("heads=prediction;",)),
        (
            {"a": {"loss": nn.CrossEntropyLoss(label_smoothing=2.0)}},
            {},
            ("heads.a.loss.label_smoothing=2.0",),
        ),
    ],
)
def test_refused_settings(
    heads: Any, arguments: Mapping[str, Any], parts: tuple[str, ...], refused: Any
) -> None:
    with refused(*parts):
        MultiHead(heads, **arguments)


@pytest.mark.parametrize(
    ("heads", "argument"),
    [(["a"], "loss=SumLoss"), ({"a": {"loss": nn.BCEWithLogitsLoss()}}, "heads.a.loss=BCEWithLo")],
)
def test_a_loss_over_independent_labels_is_refused(heads: Any, argument: str, refused: Any) -> None:
    parts = {
        "classes": {"loss": nn.CrossEntropyLoss(), "weight": 1},
        "labels": {"loss": nn.BCEWithLogitsLoss(), "weight": 1},
    }
    with refused(argument, "the multi_label task"):
        MultiHead(heads, SumLoss(parts))


def test_a_loss_over_embeddings_is_refused(refused: Any) -> None:
    loss = nn.CrossEntropyLoss()
    loss.on_embeddings = True  # type: ignore[assignment]
    with refused("loss=CrossEntropyLoss is over embeddings"):
        MultiHead(["a"], loss)
    with refused("heads.a.loss=CrossEntropyLoss is over embeddings"):
        MultiHead({"a": {"loss": loss}}, loss)


@pytest.mark.parametrize(
    ("heads", "loss", "parts"),
    [
        (["c"], None, ("heads.c.column=c is not a column", "id, split, a, b")),
        ({"a": {"column": "c"}}, None, ("heads.a.column=c is not a column",)),
        (["a", "b"], None, ("heads.b.column=b", "1 class in", "at least 2")),
        (
            {"a": {"classes": ["x", "z"]}},
            None,
            ("heads.a.classes=[x, z] lacks 'y', the a of '1.jpg'",),
        ),
        (
            {"a": {"class_weights": "log"}},
            SoftF1Loss(),
            ("heads.a.class_weights=log: SoftF1Loss takes no class weights", "null"),
        ),
        ({"a": {"class_weights": "big"}}, None, ("heads.a.class_weights=big; allowed: log",)),
        (
            {"a": {"classes": ["x", "y", "z"], "class_weights": "log"}},
            None,
            ("heads.a.class_weights=log", "'z' has no training picture"),
        ),
        (
            ["a"],
            FocalLoss(weight=[1.0, 2.0, 3.0]),
            ("heads.a.loss.weight=", "3 weights for 2 classes"),
        ),
        (
            {"a": {"class_weights": "log"}},
            FocalLoss(weight=[1.0, 2.0]),
            ("heads.a.class_weights=log: the loss has its own weight already",),
        ),
    ],
)
def test_refused_samples(
    heads: Any, loss: nn.Module | None, parts: tuple[str, ...], refused: Any
) -> None:
    with refused(*parts):
        fitted(table(a=["x", "y", "x"], b=["u", "u", None]), heads, loss=loss)


def test_warnings_and_refusals_about_a_fold_without_labels(refused: Any) -> None:
    task = fitted(table(a=["x", "y", "x"], b=["u", "v", None]))
    both = np.array([[0, 0], [1, 1]])
    assert task.check_parts(both, both) == []
    with refused("heads.b.column=b: none of the 2 training pictures", "null"):
        task.check_parts(np.array([[0, -1], [1, -1]]), both)
    (warning,) = task.check_parts(both, np.array([[0, -1]]))
    assert "'b': no held-out picture has a label" in warning
    with refused("No held-out picture has a label", "another fold"):
        task.check_parts(both, np.array([[-1, -1]]))
    assert task.check_parts(both, both[:0]) == []  # fold=all


def test_names_of_heads_are_in_one_unicode_form() -> None:
    spec = {"column": "a", "classes": ["x", "y"]}
    assert [head.name for head in MultiHead({"\u1100\u1161": spec}).heads] == ["\uac00"]
