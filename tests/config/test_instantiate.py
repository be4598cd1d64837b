"""Errors of library code as a user sees them: messages about keys of the command line."""

from typing import Any

import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from product_cls.config.border import key_of, keys_for_arguments, keys_for_node, name_key
from product_cls.config.compose import compose_config
from product_cls.config.instantiate import build, try_out
from product_cls.core.errors import UserError

SAMPLES = pd.DataFrame(
    {
        "id": list("abcd"),
        "split": "train",
        "kind": list("pqpq"),
        "cat": [0, 1, 0, 1],
        "dog": [1, 0, 0, 1],
    }
)


def config_of(overrides: str) -> DictConfig:
    """Overrides, separated by spaces -> the config with its interpolations."""
    return compose_config(overrides.split())


def build_parts(config: DictConfig) -> Any:
    task = build(config.task)
    try_out(build(config.optimizer), build(config.scheduler))
    build(config.finetune)
    return task


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("loss=focal loss.gamma=-1", "loss.gamma=-1; allowed: 0 or more."),
        ("loss=focal loss.weight=[1,-1]", "loss.weight=[1.0, -1.0]; allowed: 0 or more."),
        ("loss.label_smoothing=2", "loss.label_smoothing=2; allowed: 0 to 1."),
        # An argument that is dotted, because it is an entry of a mapping.
        (
            "loss=sum loss.losses.soft_f1.weight=-1",
            "loss.losses.soft_f1.weight=-1; allowed: 0 or more.",
        ),
        # Nodes inside nodes, of which the outer one is reached by an interpolation.
        (
            "loss=sum +loss@loss.losses.focal.loss=focal +loss.losses.focal.weight=0.4 "
            "loss.losses.focal.loss.gamma=-2",
            "loss.losses.focal.loss.gamma=-2; allowed: 0 or more.",
        ),
        (
            "loss=sum loss.losses.cross_entropy.loss.label_smoothing=2",
            "loss.losses.cross_entropy.loss.label_smoothing=2; allowed: 0 to 1.",
        ),
        (
            "task=multi_head +task.heads={a:{}} +loss@task.heads.a.loss=focal "
            "task.heads.a.loss.gamma=-3",
            "task.heads.a.loss.gamma=-3; allowed: 0 or more.",
        ),
        (
            "task=multi_head +task.heads={age:{classes:[x]}}",
            "task.heads.age.classes=['x']; allowed: two or more names, each once, or null.",
        ),
        # A task that refuses its loss names the key of the loss.
        (
            "task=multi_label loss=focal",
            "loss=FocalLoss is for one label per picture; allowed for several: BCEWithLogitsLoss, "
            "FocalBCELoss, AsymmetricLoss.",
        ),
        (
            "loss=asymmetric",
            "loss=AsymmetricLoss is for several labels per picture, which the multi_label task "
            "has.",
        ),
        ("task=retrieval task.margin=4", "task.margin=4; allowed: 0 to pi / 2, in radians."),
        # Optimiser and scheduler are partials, called by try_out.
        ("optimizer=sam optimizer.rho=0", "optimizer.rho=0; allowed: above 0."),
        ("optimizer=adamw optimizer.lr=0", "optimizer.lr=0; allowed: above 0."),
        ("scheduler.end_lr=1", "scheduler.end_lr=1; allowed: 0 to optimizer.lr=0.001."),
        (
            "+scheduler.speed=1",
            "scheduler refuses its arguments: cosine() got an unexpected keyword argument 'speed'.",
        ),
        (
            "finetune.layer_decay=2",
            "finetune.layer_decay=2; allowed: above 0 and up to 1, or null for equal rates.",
        ),
        (
            "finetune.layer_decay=0.5 finetune.freeze=all",
            "finetune.layer_decay=0.5 has no effect with finetune.freeze=all; set it to null, or "
            "freeze a number of epochs.",
        ),
        (
            "+task.colour=1",
            "task: product_cls.tasks.single_label.SingleLabel refuses its arguments: "
            "SingleLabel.__init__() got an unexpected keyword argument 'colour'.",
        ),
    ],
)
def test_messages_of_objects(overrides: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        build_parts(config_of(overrides))
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            "task.label=brand",
            "task.label=brand is not a column of the samples; they have id, split, kind, cat, dog.",
        ),
        (
            "task.label=kind task.weights=big",
            "task.weights=big; allowed: log, inverse, effective.",
        ),
        (
            "task.label=kind loss=focal loss.weight=[1,2,3]",
            "loss.weight=[1.0, 2.0, 3.0] has 3 weights for 2 classes; allowed: one for each class, "
            "or null.",
        ),
        (
            "task=multi_head +task.heads={kind:{class_weights:log}} loss=soft_f1",
            "task.heads.kind.class_weights=log: SoftF1Loss takes no class weights; allowed: null.",
        ),
        (
            "task=multi_label loss=bce task.labels=[cat,dog] task.weights=[1,2,3]",
            "task.weights=[1, 2, 3] has 3 numbers for 2 labels (cat, dog); give one for each.",
        ),
    ],
)
def test_messages_of_tasks_about_samples(overrides: str, sentence: str) -> None:
    config = config_of(overrides)
    task = build_parts(config)
    with pytest.raises(UserError) as caught, keys_for_node(config.task):
        task.fit(SAMPLES)
    assert str(caught.value) == sentence


def test_keys_follow_interpolations() -> None:
    config = OmegaConf.create(
        {
            "data": {
                "root": "/pictures",
                "size": 96,
                "samples": {"root": "${data.root}", "size": "${..size}", "name": "a-${data.size}"},
            },
            "loss": {"gamma": 2, "parts": {"a": "${loss.gamma}"}},
            "task": {"loss": "${loss}"},
        }
    )
    node = config.data.samples
    assert {name: key_of(node, name) for name in node} == {
        "root": "data.root",
        "size": "data.size",
        "name": "data.samples.name",
    }
    for sentence, expected in (
        ("loss=Focal is wrong.", "loss=Focal is wrong."),
        ("loss.gamma=-1; allowed: 0.", "loss.gamma=-1; allowed: 0."),
        ("loss.parts.a=-1.", "loss.gamma=-1."),
        ("label=x.", "task.label=x."),
        ("No samples.", "task: No samples."),
    ):
        with pytest.raises(UserError) as caught, keys_for_node(config.task):
            raise ValueError(sentence)
        assert str(caught.value) == expected


def test_a_node_without_a_config_around_it() -> None:
    node = OmegaConf.create({"_target_": "product_cls.losses.FocalLoss", "gamma": -1})
    with pytest.raises(UserError, match=r"^gamma=-1; allowed: 0 or more\.$"):
        build(node)


def test_errors_of_other_libraries_are_one_sentence() -> None:
    node = OmegaConf.create({"_target_": "builtins.int", "_args_": ["x"]})
    with pytest.raises(UserError, match=r"^builtins.int refuses its arguments: invalid literal"):
        build(node)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("optimizer.lr=fast", "optimizer.lr=fast; allowed: a number."),
        ("optimizer=sgd optimizer.momentum=x", "optimizer.momentum=x; allowed: a number."),
        ("loss=focal loss.gamma=x", "loss.gamma=x; allowed: a number."),
        (
            "optimizer._target_=torch.optim.Nope",
            "optimizer._target_=torch.optim.Nope: the module torch.optim has no 'Nope'.",
        ),
        (
            "loss._target_=my_losss.Mine",
            "loss._target_=my_losss.Mine: there is no module 'my_losss'; install it, or add its "
            "folder to PYTHONPATH if it is a file of your own.",
        ),
    ],
)
def test_wrong_types_and_targets(overrides: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        build_parts(config_of(overrides))
    assert str(caught.value) == sentence


def test_a_wrong_root_names_its_key() -> None:
    config = config_of("data=folder data.root=x")
    config.data.root = 5  # as a file may hold it; a word of the command line is text
    with pytest.raises(UserError, match=r"^data.root=5; allowed: text or a path\.$"):
        build(config.data.samples)


def test_keys_for_arguments() -> None:
    assert name_key("p=2; allowed: 0 to 1.", "mix") == "mix.p=2; allowed: 0 to 1."
    assert name_key("No pictures.", "data") == "data: No pictures."
    assert name_key("root.a=1.", "data", {"root": "paths.data"}) == "paths.data.a=1."
    with pytest.raises(UserError, match=r"^goal=x\.$"), keys_for_arguments():
        raise ValueError("goal=x.")
    with pytest.raises(UserError, match=r"^x=1\.$"), keys_for_arguments("data"):
        raise UserError("x=1.")
